"""carrel doctor: what a host can enforce, found by trying; also where something is taken away."""

import glob
import json
import os
import re
import subprocess

import pytest

from place import BUILD, CARREL, groups, mounts_below

WITHOUT = BUILD / "tests" / "without"


def doctor(place, *options, without=None, expect=0, user=None):
    with open(CARREL, "rb") as binary:  # another user need not be able to walk to the build directory
        command = [f"/proc/self/fd/{binary.fileno()}", "doctor", *options]
        if without:
            command = [str(WITHOUT), without, "--", *command]
        done = subprocess.run(
            command,
            env=place.environment(),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
            user=user,
            pass_fds=[binary.fileno()],
        )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def findings(place, *options, **how):
    report = json.loads(doctor(place, "--json", *options, **how))
    return report, {finding["name"]: finding for finding in report["findings"]}


def left(place):
    """What has doctor's or this place's name; others use this machine, too."""
    loops = [open(path).read() for path in glob.glob("/sys/block/loop*/loop/backing_file")]
    named = [*groups(), *loops, *os.listdir(place.state), *mounts_below(place.base)]
    return [name for name in named if "carrel-doctor" in name or str(place.base) in name]


def test_this_host_can_enforce_the_default_policy_and_each_line_says_what_was_seen(place):
    text = doctor(place)
    assert re.search(r"^  ok +overlay +id-mapped below, written above, volatile$", text, re.M), text
    assert re.search(r"^The default policy can be enforced on this host: 0 required missing", text, re.M), text
    report, by_name = findings(place)
    assert report["enforceable"] is True
    assert by_name["user"]["state"] == "ok" and by_name["user"]["found"] == "65536 ids mapped"
    assert {f["need"] for f in report["findings"]} == {"required", "optional", "information"}
    for finding in report["findings"]:
        assert finding["purpose"] and finding["found"], finding
        if finding["state"] == "missing":
            assert finding["consequence"] and finding["remedy"], finding


def test_nothing_is_left_behind(place):
    mounts = len(open("/proc/self/mountinfo").readlines())
    for _ in range(3):
        doctor(place)
        assert left(place) == [] and not place.own_processes()
    assert sorted(os.listdir(place.state)) == []
    assert len(open("/proc/self/mountinfo").readlines()) < mounts + 3


def test_a_state_directory_that_is_not_there_yet_is_tried_where_it_will_be(place):
    place.state.rmdir()
    doctor(place)
    assert not place.state.exists() and sorted(os.listdir(place.base)) == ["work"]


# System calls taken away, and what doctor says is missing then.
REQUIRED = [
    ("mount_setattr", ["mount API", "id-mapped mounts", "overlay"]),
    ("move_mount", ["mount API", "overlay"]),
    ("openat2", ["path resolution"]),
    ("clone3", ["start inside"]),
    ("pidfd_open", ["pidfd"]),
    ("close_range", ["close_range"]),
    ("execveat", ["sealed programs"]),
    ("seccomp", ["filter"]),
    ("unshare", ["mount", "pid", "network", "ipc", "uts", "cgroup", "time"]),
]


@pytest.mark.parametrize("call, names", REQUIRED, ids=[call for call, _ in REQUIRED])
def test_without_a_call_that_the_default_policy_needs_the_status_is_1_and_the_remedy_is_there(place, call, names):
    report, by_name = findings(place, without=call, expect=1)
    assert not report.get("enforceable")
    for name in names:
        assert by_name[name]["state"] == "missing", by_name[name]
        assert "Function not implemented" in by_name[name]["found"] or name == "path resolution", by_name[name]
        assert by_name[name]["consequence"] and by_name[name]["remedy"], by_name[name]
    text = doctor(place, without=call, expect=1)
    assert "can NOT be enforced" in text and "remedy" in text


@pytest.mark.parametrize(
    "call, name",
    [("landlock_create_ruleset", "Landlock"), ("bpf", "eBPF on groups")],
)
def test_without_what_only_some_policies_need_the_status_is_0(place, call, name):
    _, by_name = findings(place, without=call)
    assert by_name[name]["state"] == "missing" and by_name[name]["need"] == "optional"
    assert by_name[name]["consequence"]


def test_a_user_namespace_that_is_refused_is_explained_by_its_cause(place):
    """In a namespace of the test's own: the limit is that one's, not the host's."""
    script = f"echo 0 >/proc/sys/user/max_user_namespaces && exec {CARREL} doctor --json"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script],
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    (user,) = [f for f in json.loads(done.stdout)["findings"] if f["name"] == "user"]
    assert user["state"] == "missing" and "max_user_namespaces" in user["remedy"], user


def test_without_root_it_says_what_is_lacking_and_leaves_nothing(place):
    report, by_name = findings(place, expect=1, user=65534)
    assert report["uid"] == 65534
    assert by_name["privilege"]["state"] == "missing" and by_name["privilege"]["remedy"] == "run carrel as root"
    assert by_name["filter"]["state"] == by_name["mount API"]["state"] == "ok"
    assert "--state-dir" in by_name["limits"]["remedy"]  # the test's is root's
    place.base.chmod(0o777)
    _, by_name = findings(place, "--state-dir", place.base, expect=1, user=65534)
    assert by_name["limits"]["remedy"] == by_name["id-mapped mounts"]["remedy"] == "run carrel as root"
    assert by_name["limits"]["consequence"] == "without root a run does without it where it can, and its record says so"
    assert sorted(os.listdir(place.base)) == ["state", "work"]
    assert sorted(os.listdir(place.state)) == []
