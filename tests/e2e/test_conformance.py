"""The conformance battery in a workspace of each shipped profile; and that it can fail."""

import json
import os
import socket
import subprocess

import pytest

from place import BUILD

BATTERY = BUILD / "tests/conformance/carrel-conformance"
PROFILES = ["default", "build", "strict"]


def documents(text):
    return [json.loads(line) for line in text.splitlines()]


def failures(found):
    return [f"{d['check']}: {d['why']}" for d in found if d.get("verdict") == "FAILED"]


def bare(*arguments):
    return subprocess.run([BATTERY, *arguments], capture_output=True, text=True, timeout=180)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_boundary_of_a_profile_holds(place, profile):
    result = place.carrel("doctor", "--self-test", "--json", "--profile", profile, timeout=300)
    *checks, summary = documents(result.out)
    assert failures(checks) == []
    assert result.status == 0, result
    assert (summary["profile"], summary["failed"]) == (profile, 0)
    # it ran to its end, with all that it wants to know
    names = bare("--list", "--profile", profile).stdout.split()
    assert [d["check"] for d in checks] == names and summary["held"] > 0.95 * len(names) > 600
    skipped = {d["check"]: d["why"] for d in checks if d["verdict"] == "skip"}
    assert all(why.startswith(("this image has no", "this kernel has no")) for why in skipped.values()), skipped


def test_the_self_test_prints_what_failed_and_a_line_a_profile(carreld):
    result = carreld.carrel("doctor", "--self-test", "--profile", "strict", timeout=300)
    *lines, last = result.out.splitlines()
    assert last.startswith("profile strict: "), result
    assert all(line.startswith(("skip ", "FAILED ")) for line in lines)


def test_a_profile_that_is_not_shipped_cannot_be_tested(place):
    result = place.carrel("doctor", "--self-test", "--profile", "defualt")
    assert result.status == 125
    assert result.err == "carrel: there is no shipped profile 'defualt'\n  hint: did you mean 'default'?\n"


def test_without_a_sandbox_most_boundaries_are_found_missing():
    """Nothing that a check tries may do harm where it works, and the battery must be able to go red."""
    result = bare("--json")
    *checks, summary = documents(result.stdout)
    assert result.returncode == 1 and summary["failed"] > 250
    failed = {d["check"] for d in checks if d["verdict"] == "FAILED"}
    assert {
        "identity.user", "identity.filter_mode", "namespaces.unshare_user", "files.every_mount_is_nosuid",
        "proc.write_core_pattern", "devices.only_the_usual", "calls.bpf", "calls.io_uring_setup", "sockets.netlink_netfilter",
        "network.only_lo", "terminal.sti", "ipc.keyctl_read", "runtime.guest_answers", "resources.processes",
    } <= failed  # fmt: skip
    # what a job does works here, too: the tests of that are not the ones that fail
    assert not {name for name in failed if name.startswith("works.")}


def test_facts_of_the_host_are_what_a_check_compares_with(tmp_path):
    (tmp_path / "file").write_text("")
    boot_id = open("/proc/sys/kernel/random/boot_id").read().strip()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{tmp_path}")
        server.listen()
        for check, fact, value in [
            ("files.host_file", "file", tmp_path / "file"),
            ("proc.boot_id_of_the_host", "boot-id", boot_id),
            ("sockets.abstract_of_the_host", "abstract", tmp_path),
            ("processes.signal_host", "pid", os.getpid()),
            ("namespaces.own_net", "namespaces", os.readlink("/proc/self/ns/net")),
            ("namespaces.host_name", "name", socket.gethostname()),
        ]:
            assert f"FAILED {check}: expected" in bare("--only", check, f"--host-{fact}", str(value)).stdout, check
            without = bare("--only", check)
            assert without.stdout.startswith(f"skip   {check}: --host-{fact} was not given"), without
            assert without.returncode == 0


@pytest.mark.parametrize(
    "script, why",
    [("kill -9 $PPID", "expected an end, found signal 9"), ("exec sleep 600", "it did not end within 10 s")],
)
def test_a_check_that_dies_or_hangs_fails_and_ends_no_other(tmp_path, script, why):
    """Two checks start `true` by PATH: the battery's is replaced."""
    program = tmp_path / "true"
    program.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\n{script}\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run([BATTERY, "--only", "works"], capture_output=True, text=True, env=environment, timeout=60)
    assert f"FAILED works.posix_spawn: {why}\nok     works.exec\n" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("profile default: ") and result.returncode == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_unknown_names_are_refused():
    for arguments in (["--profile", "none"], ["--only", "none"], ["--only", "files.none"], ["stray"], ["--none"]):
        result = bare(*arguments)
        assert result.returncode == 2 and result.stderr and not result.stdout, result
