"""carrel audit: a live workspace as the kernel has it; each thing that somebody changes from outside shows."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from place import groups, until


@pytest.fixture
def alive(place):
    """A run whose harness waits for a line; (run id, host pid of its sleeping shell)."""
    process = place.start("run", "--", "sh", "-c", "sleep 1000 & echo ready; read line; kill $!", stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    until(lambda: "sleep" in place.own_processes().values(), what="the sleeper's exec")
    run = place.record().name
    yield run
    process.communicate(b"end\n")
    assert process.returncode in (0, 143), process.returncode


def pid_of(place, name):
    return [pid for pid, found in place.own_processes().items() if found == name][0]


def audit(place, run, *options, expect):
    done = place.carrel("audit", *options, run)
    assert done.status == expect, done
    return done


def differences(place, run):
    (document,) = audit(place, run, "--json", expect=1).json
    found = [f for f in document["findings"] if not f.get("same")]
    assert document["differences"] == len(found) and found
    return found


def the_difference(place, run):
    (found,) = differences(place, run)
    return found


def group_of(place, run, kind):
    """The run's group that has a file of this name."""
    (path,) = [path for path in groups() if Path(path).name == run and Path(path, kind).exists()]
    return Path(path)


def test_an_untouched_run_is_as_planned(place, alive):
    text = audit(place, alive, expect=0).out
    assert text.startswith("as planned: ") and text.endswith(" facts, 0 differences\n"), text
    assert len(text.splitlines()) == 1 and int(text.split()[2]) > 80
    everything = audit(place, alive, "--all", expect=0).out
    for word in ["mount /workspace", "seccomp.filters", "uid_map", "namespaces.net owner", "rlimit.nofile", "shim\n"]:
        assert word in everything, everything
    (document,) = audit(place, alive, "--json", expect=0).json
    assert document["run"] == alive and document["plan_digest"].startswith("sha256:")
    assert all(finding["same"] for finding in document["findings"])


def test_a_raised_memory_limit_shows(place, alive):
    name = "memory.max" if list(filter(lambda g: Path(g, "memory.max").exists(), groups())) else "memory.limit_in_bytes"
    swap = "memory.swap.max" if name == "memory.max" else "memory.memsw.limit_in_bytes"
    group = group_of(place, alive, name)
    if name != "memory.max" and (group / swap).exists():
        (group / swap).write_text(str(8 << 30))
    (group / name).write_text(str(8 << 30))
    found = {finding["property"]: finding for finding in differences(place, alive)}
    assert (found[name]["planned"], found[name]["found"]) == (str(4 << 30), str(8 << 30))
    text = audit(place, alive, expect=1).out
    assert "DIFFERENT" in text and text.splitlines()[-1].startswith("not as planned: "), text


def test_a_raised_limit_of_processes_shows(place, alive):
    (group_of(place, alive, "pids.max") / "pids.max").write_text("max")
    found = the_difference(place, alive)
    assert (found["property"], found["planned"], found["found"]) == ("pids.max", "1024", "max")


def test_a_process_that_left_its_group_shows(place, alive):
    pid = pid_of(place, "sleep")
    group = group_of(place, alive, "pids.max")
    (group.parent.parent / "cgroup.procs").write_text(str(pid))
    found = the_difference(place, alive)
    assert found["subject"] == f"{pid} (sleep)" and found["found"] == "outside", found
    (group / "cgroup.procs").write_text(str(pid))
    audit(place, alive, expect=0)


def inside(pid, *command):
    return subprocess.run(["nsenter", "--mount", "--pid", "--target", str(pid), *command], check=True, capture_output=True)


def test_a_mount_that_appeared_shows(place, alive):
    inside(pid_of(place, "carrel-init"), "mount", "-t", "tmpfs", "intruder", "/mnt")
    found = the_difference(place, alive)
    assert found["subject"] == "mount /mnt" and found["planned"] == "not mounted"
    assert found["found"].startswith("tmpfs rw"), found


def test_a_mount_that_became_writable_shows(place, alive):
    inside(pid_of(place, "carrel-init"), "mount", "-o", "remount,bind,rw", "/usr")
    found = the_difference(place, alive)
    assert found["subject"] == "mount /usr", found
    assert (found["planned"][:2], found["found"][:2]) == ("ro", "rw")


def test_a_mount_that_is_gone_shows(place, alive):
    inside(pid_of(place, "carrel-init"), "umount", "-l", "/dev/shm")
    found = the_difference(place, alive)
    assert (found["subject"], found["found"]) == ("mount /dev/shm", "not mounted")


def test_a_mask_that_is_gone_shows(place, alive):
    inside(pid_of(place, "carrel-init"), "umount", "-l", "/proc/cmdline")
    found = the_difference(place, alive)
    assert (found["subject"], found["found"]) == ("mask /proc/cmdline", "open")


def test_a_mask_that_shows_something_else_shows(place, alive):
    init = pid_of(place, "carrel-init")
    inside(init, "umount", "-l", "/proc/cmdline")
    inside(init, "mount", "--bind", "/proc/version", "/proc/cmdline")
    inside(init, "mount", "-o", "remount,bind,ro", "/proc/cmdline")
    found = the_difference(place, alive)
    assert (found["subject"], found["planned"], found["found"]) == ("mask /proc/cmdline", "tmpfs ro", "proc ro")


def test_an_interface_that_appeared_shows(place, alive):
    pid = pid_of(place, "carrel-init")
    subprocess.run(["nsenter", "--net", "--target", str(pid), "ip", "link", "add", "e2e0", "type", "veth"], check=True)
    found = the_difference(place, alive)
    assert (found["subject"], found["planned"]) == ("network", "lo") and "e2e0" in found["found"]


def test_a_process_of_the_host_in_the_workspace_shows(place, alive):
    pid = pid_of(place, "carrel-init")
    visitor = subprocess.Popen(["nsenter", "--mount", "--net", "--target", str(pid), "sleep", "1000"])
    try:
        until(lambda: "sleep" in Path(f"/proc/{visitor.pid}/comm").read_text(), what="the visitor's exec")
        found = differences(place, alive)
    finally:
        visitor.kill()
        visitor.wait()
    properties = {f["property"] for f in found}
    assert {f["subject"] for f in found} == {f"{visitor.pid} (sleep)"}, found
    assert {"uid", "capabilities.effective", "seccomp", "no_new_privs", "namespaces.user", "namespaces.pid"} <= properties
    assert {"rlimit.fsize", "oom_score_adj"} <= properties, properties
    assert any(p.startswith("group (") for p in properties)


SEIZE = "import ctypes, sys, time; c = ctypes.CDLL(None); assert c.ptrace(0x4206, int(sys.argv[1]), None, None) == 0; \
print('seized', flush=True); time.sleep(1000)"


def test_a_tracer_of_process_1_shows(place, alive):
    pid = pid_of(place, "carrel-init")
    tracer = subprocess.Popen([sys.executable, "-c", SEIZE, str(pid)], stdout=subprocess.PIPE)
    try:
        assert tracer.stdout.readline() == b"seized\n"
        found = the_difference(place, alive)
    finally:
        tracer.kill()  # with the tracer goes the tracing
        tracer.communicate()
    assert (found["subject"], found["property"], found["found"]) == ("init", "tracer", str(tracer.pid))


def test_a_plan_that_was_changed_on_disk_shows(place, alive):
    path = place.record() / "plan"
    before = path.read_bytes()
    path.write_bytes(before + b"\xc2\x3e\x00")  # an unknown field: the same plan, other bytes
    found = differences(place, alive)
    path.write_bytes(before)
    assert [f["property"] for f in found] == ["digest"]


def test_a_run_that_has_ended_is_refused_with_what_to_do_instead(place):
    assert place.shell("true").status == 0
    done = place.carrel("audit", "last")
    assert done.status == 1
    assert "has ended: there is no workspace to look at" in done.err
    assert f"carrel events {place.record().name}" in done.err


def test_processes_that_come_and_go_differ_in_nothing(place):
    process = place.start(
        "run", "--", "sh", "-c", "echo ready; while :; do (true); ls >/dev/null; done", stdin=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    run = place.record().name
    for _ in range(10):
        audit(place, run, expect=0)
    place.carrel("stop", run)
    process.send_signal(signal.SIGTERM)
    process.communicate()


def test_the_daemon_answers_others_while_it_looks(place, carreld, scheduler):
    process = place.start("run", "--", "sh", "-c", "echo ready; read line", daemon=True, stdin=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    run = place.record().name
    slowest = 0
    audits = [place.start("audit", run, daemon=True) for _ in range(4)]
    while any(a.poll() is None for a in audits):
        start = time.monotonic()
        scheduler.get(run)
        slowest = max(slowest, time.monotonic() - start)
    assert [a.wait() for a in audits] == [0] * 4
    assert slowest < 0.5, slowest
    process.communicate(b"end\n")
