"""Harnesses that crash, hang, fork, eat memory and fill disks: the right state, the reason, and nothing left."""

import json
import resource
import time

import pytest

from carrel.v1 import common_pb2 as common
from carrel.v1 import event_pb2 as events

SMALL = """\
resources: {memory: 64MiB, pids: 24}
filesystem: {tmp: 16MiB, shm: 1MiB, disk: 32MiB}
limits: {log: 1MiB, stop_grace: 200ms}
"""
TASK = """\
name: fault
owner: ada
source: {directory: code}
policy: policy.yaml
"""


@pytest.fixture(params=["embedded", "daemon"])
def run_task(request, place):
    """run_task(more of the task): the Result of a run under a small policy."""
    daemon = request.getfixturevalue("carreld") if request.param == "daemon" else None
    (place.work / "code").mkdir()
    place.write("policy.yaml", SMALL)

    def run_task(text, **how):
        return (daemon or place).carrel("run", place.write("task.yaml", TASK + text), **how)

    return run_task


@pytest.fixture
def small(place):
    """small(script): carrel run -- sh -c script under a small policy."""
    place.write("policy.yaml", SMALL)
    return lambda script, **how: place.shell(script, "--policy", "./policy.yaml", **how)


def limits_hit(place):
    return {event.limit_hit.limit: event.limit_hit for event in place.journal() if event.HasField("limit_hit")}


def outcome_of(place):
    outcome = place.outcome()
    return (outcome.state, outcome.reason)


def test_a_harness_that_crashes_has_failed_and_the_record_says_of_what(place, run_task):
    result = run_task("harness: {command: [sh, -c, 'kill -SEGV $$']}\n")
    assert result.status == 1
    assert outcome_of(place) == (events.RUN_STATE_FAILED, common.REASON_HARNESS_FAILED)
    assert place.outcome().signal == 11
    assert "the harness was ended by signal 11 (Segmentation fault)" in place.outcome().error.what


def test_a_harness_that_hangs_is_ended_at_its_time_limit(place, run_task):
    start = time.monotonic()
    result = run_task("harness: {command: [sleep, '60'], timeout: 300ms}\n")
    assert result.status == 124 and time.monotonic() - start < 3
    assert outcome_of(place) == (events.RUN_STATE_TIMED_OUT, common.REASON_TIMEOUT)
    assert "did not end within its time limit" in place.outcome().error.what


def test_a_harness_that_ignores_sigterm_is_killed_after_the_grace(place, run_task):
    start = time.monotonic()
    result = run_task("harness: {command: [sh, -c, 'trap \"\" TERM; while :; do sleep 1; done'], timeout: 300ms}\n")
    assert result.status == 124 and time.monotonic() - start < 4
    (exited,) = [event.process_exited for event in place.journal() if event.HasField("process_exited")]
    assert (exited.signal, exited.reason) == (9, common.REASON_TIMEOUT)
    assert exited.duration_us > 500_000


def test_a_run_that_hangs_is_ended_at_its_time_limit(place, run_task):
    assert run_task("timeout: 300ms\nharness: {command: [sleep, '60']}\n").status == 124
    assert outcome_of(place) == (events.RUN_STATE_TIMED_OUT, common.REASON_TIMEOUT)


def test_a_check_that_hangs_is_red_and_the_feedback_says_so(place, run_task):
    result = run_task(
        "attempts: 2\nharness: {command: [cat]}\nchecks: [{name: slow, command: [sleep, '60'], timeout: 200ms}]\n"
    )
    assert result.status == 1
    assert outcome_of(place) == (events.RUN_STATE_FAILED, common.REASON_CHECKS_FAILED)
    assert "check 'slow' failed: it did not end within its time limit" in result.out


def test_a_check_whose_report_is_missing_is_red(place, run_task):
    result = run_task("attempts: 1\nharness: {command: ['true']}\nchecks: [{name: a, command: ['true'], junit: no.xml}]\n")
    assert result.status == 1
    (check,) = [event.check_finished for event in place.journal() if event.HasField("check_finished")]
    assert not check.passed and "no.xml" in check.summary


@pytest.mark.parametrize("check", ["true", "echo '<testsuite><testcase><failure/></testcase></testsuite>' >r.xml || true"])
def test_a_check_is_not_judged_by_a_report_from_before_it(place, run_task, check):
    write = "echo '<testsuite><testcase/></testsuite>' >r.xml; chmod 444 r.xml; sleep 0.1"
    result = run_task(
        "attempts: 1\n"
        f"harness: {{command: [sh, -c, {json.dumps(write)}]}}\n"
        f"checks: [{{name: a, command: [sh, -c, {json.dumps(check)}], junit: r.xml}}]\n"
    )
    assert result.status == 1
    (check,) = [event.check_finished for event in place.journal() if event.HasField("check_finished")]
    assert (check.passed, check.summary) == (False, "the JUnit report '/workspace/r.xml' is older than the check")


def test_a_fork_bomb_ends_and_its_limit_is_on_record(place, small):
    start = time.monotonic()
    result = small("bomb() { bomb | bomb & }; bomb; sleep 1", timeout=30)
    assert result.status is not None and time.monotonic() - start < 20
    hit = limits_hit(place)["resources.pids"]
    assert hit.value == 24 and hit.count >= 1 and "could not start another process" in hit.consequence


def test_a_memory_bomb_is_ended_for_memory(place, run_task):
    result = run_task(
        "attempts: 1\nharness: {command: [python3, -c, 'x = bytearray(512 * 1024 * 1024)']}\n", timeout=30
    )
    assert result.status == 1
    assert outcome_of(place) == (events.RUN_STATE_FAILED, common.REASON_OUT_OF_MEMORY)
    assert "the workspace's memory limit of 64 MiB was reached" in place.outcome().error.what
    assert limits_hit(place)["resources.memory"].value == 64 << 20


def test_a_memory_bomb_as_a_command_is_137(place, small):
    assert small("exec python3 -c 'x = bytearray(512 * 1024 * 1024)'").status == 137
    assert outcome_of(place) == (events.RUN_STATE_FAILED, common.REASON_OUT_OF_MEMORY)


def test_tmp_has_its_own_limit(place, small):
    result = small("head -c 64M /dev/zero >/tmp/fill; ls -s --block-size=1M /tmp/fill | cut -d' ' -f1")
    assert "No space left on device" in result.err and int(result.out) <= 16


def test_output_past_the_logs_limit_reaches_the_client_but_not_the_record(place, small):
    size = 200 * 1024 * 1024
    process = place.start(
        "run", "--policy", "./policy.yaml", "--", "head", "-c", str(size), "/dev/zero"
    )
    got = 0
    while block := process.stdout.read(1 << 20):
        got += len(block)
    assert (process.wait(), got) == (0, size)
    assert (place.record() / "log").stat().st_size == 1 << 20
    assert limits_hit(place)["limits.log"].value == 1 << 20


def test_a_gibibyte_of_output_does_not_hurt(place):
    """Without a client that reads along: a task's harness, kept to the log's limit."""
    (place.work / "code").mkdir()
    place.write("policy.yaml", SMALL)
    task = place.write("task.yaml", TASK + "harness: {command: [head, -c, 1G, /dev/zero]}\n")
    start = time.monotonic()
    result = place.carrel("run", "--quiet", task, timeout=60)
    assert result.status == 0, result
    assert time.monotonic() - start < 10
    assert (place.record() / "log").stat().st_size == 1 << 20
    assert (place.record() / "journal").stat().st_size < 1 << 20


def test_what_a_harness_leaves_running_is_gone_before_the_checks(place, run_task):
    result = run_task(
        "attempts: 1\n"
        "harness: {command: [sh, -c, 'setsid sleep 77 & (while :; do date >>beat; done) & sleep 0.2']}\n"
        "checks:\n"
        "  - {name: alone, command: [sh, -c, '! grep -l sleep /proc/[0-9]*/comm']}\n"
        "  - {name: quiet, command: [sh, -c, 'a=$(wc -c <beat); sleep 0.3; test $a = $(wc -c <beat)']}\n"
    )
    assert result.status == 0, result


def test_a_command_that_leaves_a_process_behind_ends_all_the_same(place):
    start = time.monotonic()
    result = place.shell("sleep 60 & echo started")
    assert (result.status, result.out) == (0, "started\n") and time.monotonic() - start < 5


def test_a_harness_that_is_not_there_is_carrels_failure_of_a_task(place, run_task):
    result = run_task("attempts: 3\nharness: {command: [no-such-agent]}\n")
    assert result.status == 125
    assert outcome_of(place) == (events.RUN_STATE_ERRORED, common.REASON_SETUP_FAILED)
    assert "cannot execute 'no-such-agent'" in result.out + result.err


def test_hostile_output_does_not_confuse_the_record(place, run_task):
    result = run_task("harness: {command: [sh, -c, 'head -c 300000 /dev/urandom; head -c 300000 /dev/urandom >&2']}\n")
    assert result.status == 0
    assert (place.record() / "log").stat().st_size == 600000
    segments = [s for e in place.journal() if e.HasField("output_written") for s in e.output_written.segments]
    assert sum(segment.length for segment in segments) == 600000


@pytest.mark.parametrize("top", ["/workspace", "$HOME"])
def test_a_tree_that_is_hard_to_remove_goes_with_its_record(place, top):
    place.write("deep.py", "import os\nfor _ in range(4000):\n os.mkdir('a')\n os.chdir('a')\nopen('x', 'w')\n")
    script = f"p=$PWD/deep.py; cd {top} && mkdir locked && touch locked/f && chmod 0 locked && exec python3 $p"
    usual = (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])  # what a login and systemd give
    # too deep to be compared, so nothing may be protected in it
    result = place.shell(
        script, "--approve", "**", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    )
    assert result.status == 0, result
    run = place.record()
    result = place.carrel("rm", "last", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, usual))
    assert result.status == 0, result
    assert not run.exists()
