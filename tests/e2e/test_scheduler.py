"""An external scheduler drives runs over the socket: submit, watch, feedback, artifacts, stop, remove."""

import hashlib
import os
import time

import pytest

from carrel.v1 import common_pb2 as common
from carrel.v1 import event_pb2 as events
from carrel.v1 import policy_pb2 as policy
from carrel.v1 import task_pb2 as task
from place import read_journal
from scheduler import Refused, Scheduler


@pytest.fixture
def code(place):
    directory = place.work / "code"
    directory.mkdir()
    (directory / "file").write_text("before\n")
    return directory


def make_task(script, code=None, **more):
    source = task.Source(directory=str(code)) if code else None
    return task.Task(name="job", owner="ada", source=source, harness=task.Harness(command=["sh", "-c", script]), **more)


def is_waiting(event):
    return event.state_changed.to == events.RUN_STATE_WAITING


WAIT = task.FeedbackRule(wait_us=60_000_000)


def test_a_run_is_submitted_watched_and_found(scheduler, place, code):
    before = time.time()
    run = scheduler.submit(make_task("echo out; echo err >&2; echo after >file", code))
    assert (run.name, run.owner, run.image, run.source) == ("job", "ada", "host", str(code))
    assert run.record == str(place.state / "runs" / run.id)
    journal = list(scheduler.watch(run.id))
    assert [event.sequence for event in journal] == list(range(1, len(journal) + 1))
    bodies = [event.WhichOneof("body") for event in journal]
    assert bodies[0] == "submitted" and bodies[-1] == "finished"
    assert [body for body in bodies if body in ("attempt_started", "process_started", "process_exited", "attempt_finished")] == [
        "attempt_started", "process_started", "process_exited", "attempt_finished"
    ]
    submitted = journal[0].submitted
    assert (submitted.run, submitted.owner, submitted.submitter_uid) == (run.id, "ada", 0)
    assert submitted.plan_digest == run.plan_digest != ""
    assert all(before - 1 < event.time_unix_us / 1e6 < time.time() + 1 for event in journal)
    assert [event.boottime_us for event in journal] == sorted(event.boottime_us for event in journal)
    changes = [event.state_changed for event in journal if event.HasField("state_changed")]
    states = [(getattr(change, "from"), change.to) for change in changes]  # a word that Python keeps for itself
    assert len(states) >= 1 and all(one[1] == other[0] for one, other in zip(states, states[1:])), states

    found = scheduler.get(run.id)
    assert (found.state, found.attempt, found.events) == (events.RUN_STATE_SUCCEEDED, 1, len(journal))
    assert found.outcome == journal[-1].finished.outcome
    assert found.finished_unix_us >= found.submitted_unix_us
    assert scheduler.get("last").id == scheduler.get(run.id[:6]).id == run.id
    # what was written, by process and stream
    log = scheduler.logs(run.id)
    segments = [s for e in journal if e.HasField("output_written") for s in e.output_written.segments]
    streams = {s.stream: log[s.offset : s.offset + s.length] for s in segments}
    assert streams == {events.OUTPUT_STREAM_STDOUT: b"out\n", events.OUTPUT_STREAM_STDERR: b"err\n"}


def test_the_journal_is_a_chain_that_anybody_can_check(scheduler, place):
    run = scheduler.submit(make_task("for i in 1 2 3; do echo $i; sleep 0.05; done"))
    watched = list(scheduler.watch(run.id))
    entries = read_journal(place.record())
    assert [event for _, event in entries] == watched
    digest = bytes(32)
    for raw, event in entries:
        assert event.previous_sha256 == digest
        digest = hashlib.sha256(raw).digest()
    assert len(entries) > 8


def test_a_watch_goes_on_where_it_was_left(scheduler, connect):
    run = scheduler.submit(make_task("for i in $(seq 30); do echo $i; sleep 0.03; done"))
    seen = []
    while not seen or not seen[-1].HasField("finished"):
        client = connect()  # each connection is lost after three events
        for event in client.watch(run.id, after=seen[-1].sequence if seen else 0):
            seen.append(event)
            if len(seen) % 3 == 0:
                break
        client.close()
    assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
    assert seen == list(scheduler.watch(run.id, follow=False))
    assert list(scheduler.watch(run.id, after=seen[-1].sequence)) == []
    assert [event.sequence for event in scheduler.watch(run.id, after=5)] == list(range(6, len(seen) + 1))


def test_a_watch_without_follow_ends_at_the_present(scheduler):
    run = scheduler.submit(make_task("sleep 60"))
    scheduler.wait_for(run.id, lambda event: event.HasField("process_started"))
    assert not list(scheduler.watch(run.id, follow=False))[-1].HasField("finished")
    scheduler.stop(run.id)
    scheduler.wait(run.id)


def test_many_watchers_see_the_same(scheduler, connect):
    run = scheduler.submit(make_task("for i in $(seq 20); do echo $i; done"))
    watchers = [connect().watch(run.id) for _ in range(8)]
    expected = list(scheduler.watch(run.id))
    assert all(list(watcher) == expected for watcher in watchers)


def test_an_event_arrives_when_it_happens(scheduler):
    run = scheduler.submit(make_task("sleep 0.2; echo now; sleep 60"))
    event = scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
    assert time.time() - event.time_unix_us / 1e6 < 0.2
    scheduler.stop(run.id)
    scheduler.wait(run.id)


def test_feedback_from_outside_starts_a_new_attempt_that_reads_it(scheduler, code):
    run = scheduler.submit(make_task("cat", code, prompt="make it better", feedback=WAIT))
    waiting = scheduler.wait_for(run.id, is_waiting)
    assert scheduler.get(run.id).state == events.RUN_STATE_WAITING
    scheduler.feedback(run.id, "please add a test", id="review-1", source="grace")
    received = scheduler.wait_for(run.id, lambda event: event.HasField("feedback_received"), after=waiting.sequence)
    assert received.feedback_received.feedback == events.Feedback(
        id="review-1", kind=events.FEEDBACK_KIND_COMMENT, source="grace", text="please add a test"
    )
    waiting = scheduler.wait_for(run.id, is_waiting, after=waiting.sequence)
    log = scheduler.logs(run.id).decode()
    assert log.count("make it better") == 2 and "grace" in log and "please add a test" in log
    scheduler.feedback(run.id, "line 7: warning", id="ci-1", source="build", kind=events.FEEDBACK_KIND_CI)
    scheduler.wait_for(run.id, is_waiting, after=waiting.sequence)
    scheduler.accept(run.id, id="done")
    outcome = scheduler.wait(run.id)
    assert (outcome.state, outcome.attempts) == (events.RUN_STATE_SUCCEEDED, 3)
    assert scheduler.logs(run.id).decode().count("please add a test") == 1


def test_the_same_feedback_twice_is_delivered_once(scheduler, connect):
    run = scheduler.submit(make_task("cat", prompt="go", feedback=WAIT))
    waiting = scheduler.wait_for(run.id, is_waiting)
    for client in (scheduler, connect(), scheduler):
        client.feedback(run.id, "once", id="same")
    waiting = scheduler.wait_for(run.id, is_waiting, after=waiting.sequence)
    scheduler.feedback(run.id, "once", id="same")
    scheduler.accept(run.id, id="end")
    assert scheduler.wait(run.id).attempts == 2
    journal = list(scheduler.watch(run.id))
    assert [e.feedback_received.feedback.id for e in journal if e.HasField("feedback_received")].count("same") == 1
    assert [e.feedback_delivered.id for e in journal if e.HasField("feedback_delivered")] == ["same"]
    assert scheduler.logs(run.id).count(b"once") == 1


def test_feedback_while_the_harness_works_waits_for_the_next_attempt(scheduler):
    run = scheduler.submit(make_task("cat; sleep 0.3", prompt="go", feedback=WAIT))
    scheduler.wait_for(run.id, lambda event: event.HasField("process_started"))
    scheduler.feedback(run.id, "early words", id="early")
    waiting = scheduler.wait_for(run.id, is_waiting)
    assert [e.attempt_started.attempt for e in scheduler.watch(run.id, follow=False) if e.HasField("attempt_started")] == [1, 2]
    assert b"early words" in scheduler.logs(run.id) and waiting
    scheduler.accept(run.id, id="end")
    assert scheduler.wait(run.id).attempts == 2


def test_an_early_accept_is_no_feedback_to_the_harness(scheduler):
    run = scheduler.submit(make_task("cat; sleep 0.3", prompt="go", feedback=task.FeedbackRule(wait_us=400_000)))
    scheduler.wait_for(run.id, lambda event: event.HasField("process_started"))
    scheduler.accept(run.id, id="early")
    outcome = scheduler.wait(run.id)
    assert (outcome.state, outcome.attempts) == (events.RUN_STATE_SUCCEEDED, 1)


def test_feedback_without_an_id_gets_one(scheduler):
    run = scheduler.submit(make_task("cat", prompt="go", feedback=WAIT))
    waiting = scheduler.wait_for(run.id, is_waiting)
    scheduler.feedback(run.id, "no id")
    received = scheduler.wait_for(run.id, lambda event: event.HasField("feedback_received"), after=waiting.sequence)
    assert received.feedback_received.feedback.id != ""
    scheduler.wait_for(run.id, is_waiting, after=waiting.sequence)
    scheduler.accept(run.id)
    assert scheduler.wait(run.id).attempts == 2


def test_the_command_line_gives_feedback_too(scheduler, carreld):
    run = scheduler.submit(make_task("cat", prompt="go", feedback=WAIT))
    waiting = scheduler.wait_for(run.id, is_waiting)
    result = carreld.carrel("feedback", "--source", "grace", run.id, "from the command line")
    assert result.status == 0, result
    scheduler.wait_for(run.id, is_waiting, after=waiting.sequence)
    assert b"from the command line" in scheduler.logs(run.id)
    result = carreld.carrel("feedback", "--accept", run.id)
    assert result.status == 0, result
    assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED


def test_waiting_has_an_end(scheduler):
    run = scheduler.submit(make_task("cat", feedback=task.FeedbackRule(wait_us=200_000)))
    assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED


def refusal(call, *arguments, **named):
    with pytest.raises(Refused) as refused:
        call(*arguments, **named)
    error = refused.value.error
    assert error.what, "an error without words"
    return error


def test_feedback_that_cannot_be_is_refused(scheduler):
    run = scheduler.submit(make_task("true"))
    scheduler.wait(run.id)
    assert refusal(scheduler.feedback, run.id, "late", id="late").code == 116  # ESTALE
    live = scheduler.submit(make_task("sleep 60"))
    assert refusal(scheduler.feedback, live.id, "x", id="a", kind=events.FEEDBACK_KIND_CHECK).code == 22
    assert refusal(scheduler.feedback, live.id, "x" * 200_000, id="b").code == 7  # E2BIG
    scheduler.stop(live.id)
    scheduler.wait(live.id)


def test_artifacts_come_as_descriptors_that_only_read(scheduler, code):
    script = "head -c 3000000 /dev/urandom >big; echo small >small; echo note >note; carrel-guest artifact publish note"
    rules = [task.ArtifactRule(path="big"), task.ArtifactRule(path="small", name="renamed")]
    run = scheduler.submit(make_task(script, code, artifacts=rules))
    assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
    listed = {artifact.name: artifact for artifact in scheduler.artifacts(run.id)}
    assert set(listed) == {"big", "renamed", "note", "workspace.patch"}
    for name, description in listed.items():
        artifact = scheduler.artifact(run.id, name)
        data = artifact.read()
        assert artifact.description == description
        assert (len(data), "sha256:" + hashlib.sha256(data).hexdigest()) == (description.size_bytes, description.digest)
        with pytest.raises(OSError):
            os.write(artifact.descriptor, b"x")
        assert scheduler.artifact(run.id, description.digest).read() == data
        artifact.close()
    assert listed["big"].size_bytes == 3_000_000 and listed["note"].origin == "guest"
    assert refusal(scheduler.artifact, run.id, "nothing").code == 2


def test_an_artifact_that_is_missing_or_no_file_is_on_record(scheduler, code):
    rules = [task.ArtifactRule(path="nothing"), task.ArtifactRule(path="link"), task.ArtifactRule(path="pipe")]
    run = scheduler.submit(make_task("ln -s /etc/passwd link; mkfifo pipe", code, artifacts=rules))
    assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
    degraded = [event.degraded.error.what for event in scheduler.watch(run.id) if event.HasField("degraded")]
    assert any("nothing" in what for what in degraded) and any("pipe" in what for what in degraded)
    artifacts = {artifact.name for artifact in scheduler.artifacts(run.id)}
    assert not {"nothing", "pipe"} & artifacts
    if "link" in artifacts:  # the file of that name in the workspace, never the host's
        with open("/etc/passwd", "rb") as host:
            assert scheduler.artifact(run.id, "link").read() != host.read()


def test_changes_come_as_two_directories(scheduler, code):
    run = scheduler.submit(make_task("echo after >file; echo new >new", code))
    scheduler.wait(run.id)
    description, lower, upper = scheduler.changes(run.id)
    assert description.source == str(code)
    assert os.listdir(lower) == ["file"] and sorted(os.listdir(upper)) == ["file", "new"]
    assert (code / "file").read_text() == "before\n"
    os.close(lower)
    os.close(upper)
    without = scheduler.submit(make_task("true"))
    scheduler.wait(without.id)
    assert refusal(scheduler.changes, without.id).code == 2


def test_stop_asks_first_and_kills_after_the_grace(scheduler):
    stubborn = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"
    quick = policy.Policy(extends="default", limits=policy.Limits(stop_grace_us=300_000))
    run = scheduler.submit(make_task(stubborn), policy=quick)
    scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
    start = time.monotonic()
    scheduler.stop(run.id, "no longer wanted")
    outcome = scheduler.wait(run.id)
    assert 0.25 < time.monotonic() - start < 2
    assert (outcome.state, outcome.reason) == (events.RUN_STATE_STOPPED, common.REASON_STOPPED)
    assert "no longer wanted" in outcome.error.what
    assert b"asked" in scheduler.logs(run.id)


def test_a_harness_that_heeds_sigterm_can_tidy_up(scheduler, code):
    polite = "trap 'echo saved >work; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    run = scheduler.submit(make_task(polite, code))
    scheduler.wait_for(run.id, lambda event: event.HasField("output_written"))
    scheduler.stop(run.id)
    start = time.monotonic()
    assert scheduler.wait(run.id).state == events.RUN_STATE_STOPPED
    assert time.monotonic() - start < 2
    assert b"+saved" in scheduler.artifact(run.id, "workspace.patch").read()


def test_stopping_what_has_ended_or_waits_is_fine(scheduler):
    run = scheduler.submit(make_task("true", feedback=WAIT))
    scheduler.wait_for(run.id, is_waiting)
    scheduler.stop(run.id)
    assert scheduler.wait(run.id).state == events.RUN_STATE_STOPPED
    scheduler.stop(run.id)  # it stays as it ended
    assert scheduler.get(run.id).state == events.RUN_STATE_STOPPED


def test_remove_takes_the_record_of_an_ended_run_only(scheduler, place):
    live, ended = scheduler.submit(make_task("sleep 60")), scheduler.submit(make_task("true"))
    scheduler.wait(ended.id)
    assert refusal(scheduler.remove, live.id).code == 16  # EBUSY
    scheduler.remove(ended.id)
    assert refusal(scheduler.get, ended.id).code == 2
    assert [path.name for path in place.runs()] == [live.id]
    scheduler.stop(live.id)
    scheduler.wait(live.id)


def test_lists_are_newest_first_and_can_be_narrowed(scheduler):
    ended = [scheduler.submit(make_task("true")).id for _ in range(3)]
    for run in ended:
        scheduler.wait(run)
    live = scheduler.submit(make_task("sleep 60")).id
    assert [run.id for run in scheduler.list()] == [live, *reversed(ended)]
    assert [run.id for run in scheduler.list(live=True)] == [live]
    assert [run.id for run in scheduler.list(limit=2)] == [live, ended[-1]]
    assert scheduler.get("last").id == live
    assert refusal(scheduler.get, "nothing-of-that-name").code == 2
    assert refusal(scheduler.get, "job").code == 76  # ENOTUNIQ
    scheduler.stop(live)
    scheduler.wait(live)


def test_a_run_belongs_to_nobodys_connection(scheduler, place):
    with Scheduler.connect(place.socket) as other:
        run = other.submit(make_task("sleep 0.2; echo survived"))
    assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
    assert scheduler.logs(run.id) == b"survived\n"


def test_a_policy_of_the_submitters_is_enforced_but_opens_no_file(scheduler):
    small = policy.Policy(extends="strict", resources=policy.Resources(pids=16))
    run = scheduler.submit(make_task("ulimit -n; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 1 & done"), policy=small)
    scheduler.wait(run.id)
    hits = [event.limit_hit for event in scheduler.watch(run.id) if event.HasField("limit_hit")]
    assert [(hit.limit, hit.value) for hit in hits] == [("resources.pids", 16)]
    error = refusal(scheduler.submit, make_task("true"), policy=policy.Policy(extends="/etc/passwd.yaml"))
    assert "cannot be named here" in error.what
    assert refusal(scheduler.submit, make_task("true", policy="../../etc/x.yaml")).code in (1, 22)


def test_resize_needs_a_terminal(scheduler):
    run = scheduler.submit(make_task("sleep 60"))
    assert refusal(scheduler.resize, run.id, 24, 80).code == 25  # ENOTTY
    scheduler.stop(run.id)
    scheduler.wait(run.id)


def test_a_scheduler_attaches_to_a_run_of_its_own(scheduler):
    ends = [os.pipe() for _ in range(3)]
    theirs = [ends[0][0], ends[1][1], ends[2][1]]
    run = scheduler.submit(make_task("cat; echo err >&2"), descriptors=theirs)
    for fd in theirs:
        os.close(fd)
    os.write(ends[0][1], b"to and fro")
    os.close(ends[0][1])
    assert os.read(ends[1][0], 100) == b"to and fro"
    assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
    assert (os.read(ends[2][0], 100), os.read(ends[1][0], 100)) == (b"err\n", b"")
    os.close(ends[1][0])
    os.close(ends[2][0])


def test_a_prompt_can_be_an_argument_or_nothing(scheduler):
    harness = task.Harness(command=["printf", "[%s]"], prompt_delivery=task.PROMPT_DELIVERY_ARGUMENT)
    run = scheduler.submit(task.Task(owner="ada", prompt="as an argument", harness=harness))
    scheduler.wait(run.id)
    assert scheduler.logs(run.id) == b"[as an argument\n]"
    harness = task.Harness(command=["sh", "-c", "cat; carrel-guest --json status"], prompt_delivery=task.PROMPT_DELIVERY_NONE)
    run = scheduler.submit(task.Task(owner="ada", prompt="for who asks", harness=harness))
    assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
    assert b"for who asks" in scheduler.logs(run.id)


def test_many_runs_at_once_all_end(scheduler):
    runs = [scheduler.submit(make_task(f"echo {n}; exit {n % 3}")) for n in range(24)]
    for n, run in enumerate(runs):
        outcome = scheduler.wait(run.id)
        assert outcome.exit_status == n % 3
        assert scheduler.logs(run.id) == f"{n}\n".encode()
    assert len({run.id for run in runs}) == 24


def test_the_same_task_has_the_same_plan(scheduler):
    digests = {scheduler.submit(make_task("true")).plan_digest for _ in range(2)}
    assert len(digests) == 1
    other = scheduler.submit(make_task("false"))
    assert other.plan_digest not in digests
    for run in scheduler.list():
        scheduler.wait(run.id)


def test_a_label_of_the_task_is_kept(scheduler, place):
    run = scheduler.submit(make_task("true", labels={"ticket": "CARREL-1"}))
    scheduler.wait(run.id)
    kept = task.Task.FromString((place.record() / "task").read_bytes())
    assert kept.labels["ticket"] == "CARREL-1" and kept.owner == "ada"
