"""Newer system calls taken away, one at a time: what goes on without says so, everything else is refused with the reason.

Linux 5.19 is what carrel needs. A kernel can still lack what is newer or configured away, and a container engine's
filter around carrel can hide calls that the kernel has: both answer ENOSYS.
"""

import pytest

from place import BUILD

WITHOUT = BUILD / "tests/without"
INSIDE = (
    "grep -E '^(NoNewPrivs|Seccomp|CapBnd|CapEff):' /proc/self/status; cat /proc/cmdline; "
    "unshare -U true 2>/dev/null && echo made a namespace; touch /usr/x 2>/dev/null && echo wrote; echo ran"
)
HOLDS = "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nran\n"


def run_without(place, call, *options):
    return place.carrel("run", *options, "--", "sh", "-c", INSIDE, before=[str(WITHOUT), call, "--"])


@pytest.mark.parametrize(
    "call, missing",
    [
        ("landlock_create_ruleset", "this kernel has no Landlock"),  # Linux 5.13, and lsm=
        ("keyctl", None),  # no keys: nothing of them to keep apart
        ("pidfd_send_signal", None),  # Linux 5.1
        ("copy_file_range", "the disk limit is only measured"),  # what copies a volume's beginning
    ],
)
@pytest.mark.parametrize("profile", ["default", "strict"])
def test_what_goes_on_without_a_call_holds_and_says_so(place, call, missing, profile):
    result = run_without(place, call, "--policy", profile)
    assert (result.status, result.out) == (0, HOLDS), result
    degraded = [event.degraded.error.what for event in place.journal() if event.WhichOneof("body") == "degraded"]
    # the shim's Landlock wall, and in 'strict' the harness's
    count = 0 if not missing else 2 if (call, profile) == ("landlock_create_ruleset", "strict") else 1
    assert len(degraded) == count and all(missing in what for what in degraded), degraded


@pytest.mark.parametrize(
    "call, what",
    [
        ("clone3", "cannot fork a shim"),
        ("close_range", "cannot close what the supervisor has open"),
        ("execveat", "cannot execute init"),
        ("fsopen", "file system"),
        ("landlock_restrict_self", "cannot put up the Landlock wall"),
        ("memfd_create", "cannot hold carrel-init in memory"),
        ("mount_setattr", "cannot shift the ids of 'the image's root'"),
        ("move_mount", "cannot attach a mount"),
        ("open_tree", "cannot take 'the image's root' as a mount"),
        ("openat2", "cannot open '/usr' inside the workspace"),
        ("pivot_root", "cannot change to the workspace's root"),
        ("seccomp", "cannot load the system call filter"),
        ("setns", "cannot enter"),
        ("unshare", "cannot create a"),
    ],
)
def test_what_cannot_be_done_without_a_call_is_refused_with_the_reason(place, call, what):
    result = run_without(place, call)
    assert result.status == 125 and "ran" not in result.out, result
    assert what in result.err and "Function not implemented" in result.err, result
    assert "older than Linux 5.19" in result.err and "carrel doctor" in result.err
