"""kill -9 of any process at any point: the record opens, says what happened, and nothing acknowledged is lost."""

import hashlib
import os
import re
import signal
import struct
import subprocess
import time

import pytest

from carrel.v1 import common_pb2 as common
from carrel.v1 import event_pb2 as events
from carrel.v1 import task_pb2 as task
from place import CARRELD, Daemon, read_journal, until
from scheduler import Scheduler

TICKER = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo line $i; sleep 0.005; done; echo $i >result"


@pytest.fixture
def daemon(place):
    """A daemon that the test may kill and start anew."""
    daemon = Daemon(place).start()
    yield daemon
    assert daemon.stop() == 0, daemon.log.read_text()


def restart(daemon):
    daemon.kill()
    daemon.start()
    return Scheduler.connect(daemon.place.socket)


def make_task(place, script, **more):
    directory = place.work / "code"
    directory.mkdir(exist_ok=True)
    harness = task.Harness(command=["sh", "-c", script])
    return task.Task(name="recover", owner="ada", source=task.Source(directory=str(directory)), harness=harness, **more)


def find(place, name):
    (pid,) = [pid for pid, found in place.own_processes().items() if found == name]
    return pid


def assert_no_gap(journal):
    assert [event.sequence for event in journal] == list(range(1, len(journal) + 1))
    shim = [event.shim_sequence for event in journal if event.shim_sequence]
    assert shim == list(range(1, len(shim) + 1))


def test_a_run_outlives_its_supervisor_and_loses_not_a_line(place, daemon):
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, TICKER))
        scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
    daemon.kill()
    log = place.record() / "log"
    size = until(lambda: (place.record() / "log").stat().st_size)
    until(lambda: log.stat().st_size > size, what="output while there is no supervisor")
    daemon.start()
    with Scheduler.connect(place.socket) as scheduler:
        outcome = scheduler.wait(run.id)
        assert (outcome.state, outcome.reason) == (events.RUN_STATE_SUCCEEDED, common.REASON_DONE)
        assert scheduler.logs(run.id).decode().split("\n")[:-1] == [f"line {n}" for n in range(1, 401)]
        assert b"+400" in scheduler.artifact(run.id, "workspace.patch").read()
    journal = place.journal()
    assert_no_gap(journal)
    (adopted,) = [event.adopted for event in journal if event.HasField("adopted")]
    assert adopted.supervisor_pid == daemon.process.pid
    segments = [s for e in journal if e.HasField("output_written") for s in e.output_written.segments]
    assert [s.offset for s in segments] == [sum(p.length for p in segments[:n]) for n in range(len(segments))]
    assert sum(segment.length for segment in segments) == log.stat().st_size


def test_a_supervisor_killed_again_and_again_changes_nothing(place, daemon):
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, TICKER))
    for _ in range(5):
        time.sleep(0.15)
        restart(daemon).close()
    with Scheduler.connect(place.socket) as scheduler:
        assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
        assert scheduler.logs(run.id).decode().count("\n") == 400
    journal = place.journal()
    assert_no_gap(journal)
    assert len([event for event in journal if event.HasField("adopted")]) == 5
    assert len([event for event in journal if event.HasField("finished")]) == 1


def test_a_run_that_ends_while_there_is_no_supervisor_is_finished_by_the_next(place, daemon):
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, "echo out; echo changed >file; sleep 0.3; exit 3"))
        scheduler.wait_for(run.id, lambda event: event.HasField("process_started"))
    daemon.kill()
    until(lambda: "carrel-shim" not in place.own_processes().values(), what="the shim's end")
    daemon.start()
    with Scheduler.connect(place.socket) as scheduler:
        outcome = scheduler.wait(run.id)
        assert (outcome.state, outcome.exit_status) == (events.RUN_STATE_FAILED, 3)
        assert b"+changed" in scheduler.artifact(run.id, "workspace.patch").read()
        assert scheduler.logs(run.id) == b"out\n"
    assert_no_gap(place.journal())


def test_feedback_reaches_a_waiting_run_through_the_next_supervisor(place, daemon):
    script = 'input=$(cat); echo "got: $input" | tr "\\n" " "'
    rule = task.FeedbackRule(wait_us=60_000_000)
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, script, prompt="do it", feedback=rule))
        scheduler.wait_for(run.id, lambda event: event.state_changed.to == events.RUN_STATE_WAITING)
        scheduler.feedback(run.id, "first words", id="one", source="bob")
        last = scheduler.wait_for(
            run.id, lambda event: event.state_changed.to == events.RUN_STATE_WAITING and event.sequence > 12
        )
    with restart(daemon) as scheduler:
        assert scheduler.get(run.id).state == events.RUN_STATE_WAITING
        scheduler.feedback(run.id, "first words", id="one", source="bob")  # not sure that it arrived: it did
        scheduler.feedback(run.id, "second words", id="two", source="bob")
        scheduler.wait_for(
            run.id, lambda event: event.state_changed.to == events.RUN_STATE_WAITING, after=last.sequence
        )
        scheduler.accept(run.id, id="three")
        outcome = scheduler.wait(run.id)
        assert (outcome.state, outcome.attempts) == (events.RUN_STATE_SUCCEEDED, 3)
        log = scheduler.logs(run.id).decode()
    assert log.count("first words") == 1 and log.count("second words") == 1
    delivered = [(e.feedback_delivered.id, e.feedback_delivered.attempt) for e in place.journal() if e.HasField("feedback_delivered")]
    assert delivered == [("one", 2), ("two", 3)]
    assert_no_gap(place.journal())


def test_a_stop_through_the_next_supervisor_ends_the_run(place, daemon):
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, "sleep 60"))
        scheduler.wait_for(run.id, lambda event: event.HasField("process_started"))
    with restart(daemon) as scheduler:
        scheduler.stop(run.id, "enough")
        assert scheduler.wait(run.id).state == events.RUN_STATE_STOPPED


def test_a_run_without_its_shim_is_ended_with_that_reason(place, daemon):
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, "echo before; touch made; exec sleep 60"))
        scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
        os.kill(find(place, "carrel-shim"), signal.SIGKILL)
        outcome = scheduler.wait(run.id)
        assert (outcome.state, outcome.reason) == (events.RUN_STATE_ERRORED, common.REASON_SHIM_LOST)
        assert "the run's shim ended before its run did" in outcome.error.what
        assert scheduler.logs(run.id) == b"before\n"
        assert b"made" in scheduler.artifact(run.id, "workspace.patch").read()
    assert "sleep" not in place.own_processes().values()
    assert_no_gap(place.journal())


def test_a_run_without_its_init_is_ended_with_that_reason(place, daemon):
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, "echo before; exec sleep 60"))
        scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
        os.kill(find(place, "carrel-init"), signal.SIGKILL)
        outcome = scheduler.wait(run.id)
        assert (outcome.state, outcome.reason) == (events.RUN_STATE_ERRORED, common.REASON_INIT_LOST)
        assert scheduler.logs(run.id) == b"before\n"
    assert_no_gap(place.journal())


def test_a_shim_and_its_supervisor_lost_together_are_told_by_the_next(place, daemon):
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, "echo before; exec sleep 60"))
        scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
    shim = find(place, "carrel-shim")
    daemon.process.kill()
    os.kill(shim, signal.SIGKILL)
    daemon.kill()
    daemon.start()
    with Scheduler.connect(place.socket) as scheduler:
        outcome = scheduler.wait(run.id)
    assert (outcome.state, outcome.reason) == (events.RUN_STATE_ERRORED, common.REASON_SHIM_LOST)
    assert_no_gap(place.journal())


def test_an_embedded_supervisor_that_is_killed_leaves_its_run_to_the_next(place):
    process = place.start("run", "--", "sh", "-c", "echo ready; sleep 0.5; echo end >file")
    assert process.stdout.readline() == b"ready\n"
    os.kill(find(place, "carreld"), signal.SIGKILL)
    process.communicate(timeout=20)
    assert process.returncode == 125
    until(lambda: "carrel-shim" not in place.own_processes().values(), what="the shim's end")
    (run,) = place.carrel("ps", "-a", "--json").json  # this one's supervisor takes it over
    until(lambda: place.journal()[-1].HasField("finished"), what="the run's end")
    assert re.fullmatch(r"sh-[0-9a-z]{8}", run["id"])


def test_init_passes_a_signal_on_to_what_runs(place, daemon):
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, "trap 'echo got it; exit 7' USR1; echo ready; while :; do sleep 0.05; done"))
        scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
        os.kill(find(place, "carrel-init"), signal.SIGUSR1)
        assert scheduler.wait(run.id).exit_status == 7
        assert scheduler.logs(run.id).endswith(b"got it\n")  # before it the shell may name its sleep's end


def test_a_zygote_that_is_killed_takes_its_daemon_and_no_run(place, daemon):
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, TICKER))
        scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
    os.kill(find(place, "carrel-zygote"), signal.SIGKILL)
    assert daemon.process.wait(10) == 1
    assert "the zygote has ended: restart carreld" in daemon.log.read_text()
    daemon.start()
    with Scheduler.connect(place.socket) as scheduler:
        assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
        assert scheduler.logs(run.id).decode().count("\n") == 400


def test_a_torn_journal_is_mended_and_the_run_goes_on(place, daemon):
    """As if the machine had lost power in the middle of an append."""
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, "echo before; sleep 0.5; echo after"))
        scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
    daemon.kill()
    entries = read_journal(place.record())
    last, event = entries[-1]
    event.sequence += 1
    event.previous_sha256 = hashlib.sha256(last).digest()
    entry = event.SerializeToString()
    with open(place.record() / "journal", "ab") as journal:
        journal.write(struct.pack(">I", len(entry)) + entry[: len(entry) // 2])
    daemon.start()
    with Scheduler.connect(place.socket) as scheduler:
        assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
        assert scheduler.logs(run.id) == b"before\nafter\n"
    assert_no_gap(place.journal())


def test_a_journal_that_cannot_be_read_ends_its_run_and_keeps_nothing(place, daemon):
    """A damaged record is no reason to leak what the run held; the index says what is the matter."""
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, "sleep 300"))
        scheduler.wait_for(run.id, lambda event: event.HasField("process_started"))
    daemon.kill()
    with open(place.record() / "journal", "r+b") as journal:
        journal.seek(40)
        byte = journal.read(1)
        journal.seek(40)
        journal.write(bytes([byte[0] ^ 1]))
    daemon.start()
    until(lambda: not os.listdir(place.state / "ids"), what="the id range is given back")
    with Scheduler.connect(place.socket) as scheduler:
        ended = scheduler.get(run.id)
    assert ended.state == events.RUN_STATE_ERRORED
    assert "journal" in ended.outcome.error.what


def test_what_an_ended_run_still_held_is_given_back_by_the_next(place, daemon):
    """As if everything had been killed between a run's last event and the end of its cleaning up."""
    with Scheduler.connect(place.socket) as scheduler:
        run = scheduler.submit(make_task(place, "echo kept >file"))
        scheduler.wait(run.id)
    until(lambda: not os.listdir(place.state / "ids"), what="the id range is given back")
    daemon.kill()
    (place.state / "ids" / "77").symlink_to(run.id)
    (place.record() / "changes").rename(place.record() / "volume")
    (place.record() / "layers/root/upper").mkdir(parents=True)  # as where the limit is measured
    daemon.start()
    until(lambda: not os.listdir(place.state / "ids"), what="the id range is given back again")
    assert not (place.record() / "volume").exists() and (place.record() / "changes").exists()
    assert list((place.record() / "layers").iterdir()) == []
    with Scheduler.connect(place.socket) as scheduler:
        assert scheduler.get(run.id).state == events.RUN_STATE_SUCCEEDED
        assert b"+kept" in scheduler.artifact(run.id, "workspace.patch").read()


def test_a_submission_cut_short_leaves_nothing(place, daemon):
    """A record that nobody was told of, as a kill between its making and its index leaves it."""
    half = place.state / "runs" / f"{place.name}-01234567"
    half.mkdir()
    (half / "lock").touch()
    (half / "task").touch()
    restart(daemon).close()
    assert not half.exists()


def test_only_one_daemon_has_a_socket(place, daemon):
    command = [CARRELD, "--state-dir", place.state, "--socket", place.socket]
    second = subprocess.run(command, env=place.environment(daemon=True), capture_output=True, text=True, timeout=10)
    assert second.returncode == 1
    assert f"another carreld listens on '{place.socket}' already" in second.stderr
    with Scheduler.connect(place.socket) as scheduler:
        assert scheduler.list() == []
