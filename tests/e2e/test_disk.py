"""The disk limit: the kernel stops the writer, the run can go on, what it changed is there whoever asks, and nothing is left."""

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from carrel.v1 import common_pb2 as common
from carrel.v1 import event_pb2 as events
from place import CARREL, loops_below, until

MIB = 1 << 20
LIMIT = 32 * MIB
TASK = "name: disk\nowner: ada\nsource: {directory: code}\npolicy: policy.yaml\nattempts: 1\n"
FILL = "i=0; while head -c 1M /dev/zero >f$i; do i=$((i+1)); done"


@pytest.fixture(autouse=True)
def small(place):
    (place.work / "code").mkdir()
    place.write("policy.yaml", "filesystem: {tmp: 1MiB, shm: 1MiB, disk: 32MiB, disk_files: 2000}\nlimits: {stop_grace: 200ms}\n")


@pytest.fixture
def run_task(place):
    def run_task(script, more="", **how):
        text = f"{TASK}harness: {{command: [sh, -c, {script!r}]}}\n{more}"
        return place.carrel("run", place.write("task.yaml", text), **how)

    return run_task


def limits_hit(place):
    return [event.limit_hit for event in place.journal() if event.HasField("limit_hit")]


def degraded(place):
    return [event.degraded.error for event in place.journal() if event.HasField("degraded")]


# ---- the limit ----


@pytest.mark.parametrize("where", [".", "$HOME"])  # the source's layer, and the root's
def test_a_writer_gets_enospc_at_the_limit_and_lives_on(place, where):
    script = f"cd {where}; head -c 64M /dev/zero >fill; stat -c %s fill; rm fill; echo again >file && cat file"
    result = place.shell(script, "--policy", "./policy.yaml")
    assert result.status == 0 and "No space left on device" in result.err, result
    written, again = result.out.split()
    assert LIMIT * 0.97 < int(written) < LIMIT and again == "again"
    assert degraded(place) == []


def test_a_run_that_made_room_again_ends_as_it_ended(place, run_task):
    result = run_task(f"({FILL}) 2>&1; sleep 1.5; rm f*; echo good >result", "checks: [{name: c, command: [grep, good, result]}]\n")
    assert result.status == 0, result
    assert (place.outcome().state, place.outcome().reason) == (events.RUN_STATE_SUCCEEDED, common.REASON_DONE)
    (hit,) = limits_hit(place)
    assert (hit.limit, hit.value) == ("filesystem.disk", LIMIT)


def test_a_disk_bomb_ends_for_the_full_disk(place, run_task):
    result = run_task(f"({FILL}); exit 9")
    assert result.status == 1, result
    outcome = place.outcome()
    assert (outcome.state, outcome.reason) == (events.RUN_STATE_FAILED, common.REASON_DISK_FULL)
    assert outcome.exit_status == 9
    assert "the harness ended with status 9; the workspace's disk was full: its limit is 32 MiB" in outcome.error.what
    assert outcome.error.hint == "raise 'filesystem.disk' in the policy"
    assert LIMIT * 0.97 < outcome.usage.disk_bytes <= LIMIT
    (hit,) = limits_hit(place)
    assert (hit.limit, hit.value) == ("filesystem.disk", LIMIT)


def test_a_check_that_finds_the_disk_full_is_red_for_that(place, run_task):
    result = run_task(f"({FILL}); true", "checks: [{name: c, command: [sh, -c, 'head -c 1M /dev/zero >more']}]\n")
    assert result.status == 1, result
    assert place.outcome().reason == common.REASON_DISK_FULL
    assert "a check was still red after attempt 1; the workspace's disk was full" in place.outcome().error.what


def test_a_failure_of_its_own_is_not_the_disks(place, run_task):
    assert run_task("echo some >file; exit 3").status == 1
    assert place.outcome().reason == common.REASON_HARNESS_FAILED
    assert limits_hit(place) == []
    assert 0 < place.outcome().usage.disk_bytes < MIB


def test_many_small_files_meet_the_limit_of_files(place, run_task):
    script = "import os\nn = 0\ntry:\n  while True:\n    open(f'f{n}', 'w').close()\n    n += 1\nexcept OSError as e:\n  print(n, e.strerror)\n  raise SystemExit(4)\n"
    place.write("code/many.py", script)
    assert run_task("python3 many.py").status == 1
    made, _, words = (place.record() / "log").read_text().partition(" ")
    assert 1900 < int(made) <= 2100 and words == "No space left on device\n"
    assert place.outcome().reason == common.REASON_DISK_FULL
    assert "the workspace's disk was full: its limit is 2000 files" in place.outcome().error.what
    assert place.outcome().error.hint == "raise 'filesystem.disk_files' in the policy"
    (hit,) = limits_hit(place)
    assert (hit.limit, hit.value) == ("filesystem.disk_files", 2000)


def test_a_command_keeps_its_status_and_the_reason_is_said(place):
    result = place.shell(f"({FILL}) 2>&1; exit 7", "--policy", "./policy.yaml")
    assert result.status == 7 and "the workspace's disk was full" in result.err, result


def test_a_file_keeps_its_identity_when_it_is_first_written(place):
    """Layers on two file systems: programs that hold a file open, or remember its number, must not notice."""
    place.write("file", "old\n")
    script = "a=$(stat -c '%d %i' file); echo new >>file; b=$(stat -c '%d %i' file); test \"$a\" = \"$b\" || echo $a, $b"
    result = place.shell(script)
    assert (result.status, result.out) == (0, ""), result


# ---- what is kept ----


def test_changes_are_there_afterwards_for_all_who_ask(place, carreld, run_task):
    assert run_task("echo changed >file; mkdir d; ln -s file d/link", daemon=True).status == 0
    wanted = ["A d", "A d/link", "A file"]

    def ask(_):
        result = place.carrel("diff", "--stat", "last", daemon=True)
        assert result.status == 0, result
        return result.out.splitlines()[:-1]

    with ThreadPoolExecutor(4) as pool:  # at once: one device for all of them
        assert list(pool.map(ask, range(8))) == [wanted] * 8
    place.settle()
    assert ask(0) == wanted
    carreld.kill()
    carreld.start()
    assert ask(0) == wanted
    with ThreadPoolExecutor(4) as pool:  # and a supervisor for each
        found = list(pool.map(lambda _: place.carrel("diff", "--stat", "last").out.splitlines()[:-1], range(4)))
    assert found == [wanted] * 4
    assert place.carrel("apply", "last", daemon=True).status == 0
    assert (place.work / "code/file").read_text() == "changed\n"
    assert (place.record() / "changes").stat().st_blocks * 512 < MIB


def test_a_run_without_changes_keeps_no_volume(place, run_task):
    assert run_task("head -c 8M /dev/zero >$HOME/elsewhere").status == 0
    place.settle()
    assert not (place.record() / "volume").exists() and not (place.record() / "changes").exists()
    result = place.carrel("diff", "--stat", "last")
    assert result.status == 0 and result.out.startswith("0 added, 0 modified, 0 deleted"), result


def test_room_that_is_not_kept_is_given_back(place, run_task):
    assert run_task("head -c 20M /dev/zero >$HOME/elsewhere; sync; head -c 1M /dev/urandom >file").status == 0
    place.settle()
    assert MIB < (place.record() / "changes").stat().st_blocks * 512 < 2 * MIB
    assert place.carrel("rm", "last").status == 0
    assert place.runs() == []


def test_a_volume_that_lost_power_is_repaired_before_it_is_read(place, run_task):
    assert run_task("echo changed >file").status == 0
    place.settle()
    until(lambda: not loops_below(place.base))
    image = place.record() / "changes"
    with open(image, "r+b") as file:  # s_state: mounted, and never unmounted
        file.seek(1024 + 0x3A)
        file.write(b"\0\0")
    assert b"+changed" in place.carrel("diff", "last").stdout
    assert "A file" in place.carrel("diff", "--stat", "last").out
    until(lambda: not loops_below(place.base))
    assert image.read_bytes()[1024 + 0x3A] == 1


def test_a_volume_beyond_repair_is_said_and_not_mounted(place, run_task):
    assert run_task("echo changed >file").status == 0
    place.settle()
    until(lambda: not loops_below(place.base))
    with open(place.record() / "changes", "r+b") as file:
        file.write(bytes(8192))
    result = place.carrel("diff", "--stat", "last")
    assert result.status == 1 and "the run's volume is damaged" in result.err and "e2fsck -f" in result.err, result
    assert place.carrel("rm", "last").status == 0


def test_a_killed_supervisor_leaves_no_device_and_the_next_finds_the_one_there_is(place, carreld, run_task):
    place.write("task.yaml", TASK + "harness: {command: [sh, -c, 'echo one >file; sleep 1; echo two >>file']}\n")
    assert place.carrel("run", "-d", place.work / "task.yaml", daemon=True).status == 0
    until(lambda: loops_below(place.base))
    time.sleep(0.2)
    carreld.kill()
    (device,) = loops_below(place.base)
    carreld.start()
    time.sleep(0.2)
    assert loops_below(place.base) == [device]
    until(lambda: place.journal()[-1].HasField("finished"))
    assert place.outcome().state == events.RUN_STATE_SUCCEEDED
    assert b"+one\n+two\n" in place.carrel("diff", "last", daemon=True).stdout


def test_many_volumes_at_once(place, carreld):
    place.write("task.yaml", TASK + "harness: {command: [sh, -c, 'echo one >file; sleep 2']}\n")
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda _: place.carrel("run", "-d", place.work / "task.yaml", daemon=True), range(24)))
    assert all(end.status == 0 for end in ends), ends
    until(lambda: all(run["state"] == "succeeded" for run in place.carrel("ps", "-a", "--json", daemon=True).json), 60)
    assert [degraded for run in place.runs() for e in place.journal(run) if e.HasField("degraded")] == []


# ---- without ----


def hidden(place, path, *arguments):
    """carrel where a file of the host's is not to be had."""
    command = ["unshare", "-m", "sh", "-c", f'mount --bind /dev/null {path} && exec "$@"', "sh", CARREL, *arguments]
    return subprocess.run(
        command, cwd=place.work, env=place.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "path, words, hint",
    [
        (os.path.realpath(shutil.which("mkfs.ext4", path="/usr/sbin:/sbin")), "'mkfs.ext4' is not there", "install e2fsprogs"),
        ("/dev/loop-control", "cannot make a loop device", "load the kernel's module 'loop'"),
    ],
)
def test_where_there_is_no_volume_the_record_says_so_and_the_run_is_ended(place, path, words, hint):
    fill = "i=0; while head -c 4M /dev/zero >f$i; do i=$((i+1)); [ $i -lt 60 ] || sleep 60; done"
    task = place.write("task.yaml", f"{TASK}harness: {{command: [sh, -c, '{fill}']}}\n")
    result = hidden(place, path, "run", task)
    assert result.returncode == 1, result
    (error,) = degraded(place)
    assert "the disk limit is only measured" in error.what and words in error.what
    assert hint in error.hint
    assert place.outcome().reason == common.REASON_DISK_FULL
    assert "the workspace wrote more than its disk limit" in place.outcome().error.what
    assert "raise 'filesystem.disk'" in place.outcome().error.hint
    assert "A f0" in place.carrel("diff", "--stat", "last").out
    assert place.outcome().usage.disk_bytes > LIMIT


def test_measured_a_single_file_is_stopped_all_the_same(place):
    script = "trap '' XFSZ; head -c 64M /dev/zero >fill; ls -s --block-size=1M fill | cut -d' ' -f1"
    result = hidden(place, "/dev/loop-control", "run", "--policy", "./policy.yaml", "--", "sh", "-c", script)
    assert "File too large" in result.stderr and int(result.stdout) <= 32
