"""The demo: an agent, a red check, feedback, a second attempt, a patch. Embedded and through a daemon."""

import filecmp
import shutil
import subprocess

import pytest

from carrel.v1 import event_pb2 as events
from place import ROOT

DEMO = ROOT / "tests/data/demo"
TOKEN = (DEMO / "demo-token.txt").read_bytes().strip()
FAILING_TEST = "a_removal_keeps_every_other_key"
LOST_HALF = 16  # bytes: not even a part of the credential may be found


def same_trees(one, other):
    comparison = filecmp.dircmp(one, other, ignore=[])
    return not (comparison.left_only or comparison.right_only or comparison.diff_files) and all(
        same_trees(one / name, other / name) for name in comparison.common_dirs
    )


@pytest.fixture(params=["embedded", "daemon"])
def demo(request, place):
    """The demo, run once: (place, runner, Result of carrel run, a copy of the library from before)."""
    shutil.copytree(DEMO, place.work / "demo")
    shutil.copytree(DEMO / "library", place.work / "before")
    daemon = request.getfixturevalue("carreld") if request.param == "daemon" else None
    runner = daemon.carrel if daemon else place.carrel
    return place, runner, runner("run", place.work / "demo/task.yaml", timeout=120), place.work / "before"


def test_the_demo_does_all_that_it_promises(demo):
    place, carrel, result, before = demo
    assert result.status == 0, result
    run = place.record()
    journal = place.journal()

    # attempt 1 is red, the feedback names the failing test, attempt 2 is green
    attempts = [event.attempt_finished for event in journal if event.HasField("attempt_finished")]
    assert [(attempt.attempt, attempt.green) for attempt in attempts] == [(1, False), (2, True)]
    checks = [event.check_finished for event in journal if event.HasField("check_finished")]
    assert [(check.check, check.passed, check.tests, check.failures) for check in checks] == [
        ("unit", False, 5, 1),
        ("unit", True, 5, 0),
    ]
    (feedback,) = [event.feedback_received.feedback for event in journal if event.HasField("feedback_received")]
    assert feedback.kind == events.FEEDBACK_KIND_CHECK and feedback.attempt == 1
    assert FAILING_TEST in feedback.text
    (delivered,) = [event.feedback_delivered for event in journal if event.HasField("feedback_delivered")]
    assert (delivered.id, delivered.attempt) == (feedback.id, 2)
    outcome = journal[-1].finished.outcome
    assert (outcome.state, outcome.attempts) == (events.RUN_STATE_SUCCEEDED, 2)
    assert FAILING_TEST in result.out and f"run {run.name} succeeded" in result.out

    # the credential was there for the harness of each attempt, and for nobody else
    grants = [(e.grant_changed.state, e.grant_changed.attempt) for e in journal if e.HasField("grant_changed")]
    assert grants == [
        (state, attempt) for attempt in (1, 2) for state in (events.GRANT_STATE_PROVIDED, events.GRANT_STATE_REVOKED)
    ]
    place.settle()
    for path in [path for top in (run, place.state / "artifacts") for path in top.rglob("*") if path.is_file()]:
        assert TOKEN[:LOST_HALF] not in path.read_bytes(), path
    assert TOKEN[:LOST_HALF] not in result.stdout + result.stderr
    assert TOKEN[:LOST_HALF] not in carrel("logs", "last").stdout

    # artifacts: the rule's, the guest's, the check's, the supervisor's
    artifacts = carrel("artifacts", "--json", "last").json
    assert {(artifact["name"], artifact["origin"]) for artifact in artifacts} == {
        ("junit.xml", "rule"),
        ("notes.md", "guest"),
        ("unit.junit.xml", "check"),
        ("workspace.patch", "supervisor"),
    }
    assert b"failures=\"0\"" in carrel("artifacts", "last", "junit.xml").stdout  # the newest of that name

    # the original is as it was; the patch repairs a copy of it
    assert same_trees(place.work / "demo/library", before)
    patch = place.work / "demo.patch"
    assert carrel("artifacts", "-o", patch, "last", "workspace.patch").status == 0
    assert carrel("diff", "last").stdout == patch.read_bytes()
    copy = place.work / "copy"
    shutil.copytree(before, copy)
    assert subprocess.run(["make", "-C", copy, "test"], capture_output=True).returncode != 0
    shutil.rmtree(copy / "build")
    subprocess.run(["git", "apply", "--verbose", str(patch)], cwd=copy, check=True, capture_output=True)
    subprocess.run(["make", "-C", copy, "test"], check=True, capture_output=True)

    # the record has all that makes it one
    assert {"task", "policy", "plan", "journal", "log"} <= {path.name for path in run.iterdir()}
    (listed,) = carrel("ps", "-a", "--json").json
    assert listed["id"] == run.name and listed["state"] == "succeeded" and listed["record"] == str(run)

    # apply puts the same into the original
    assert carrel("apply", "last").status == 0
    assert (place.work / "demo/library/src/map.c").read_bytes() == (copy / "src/map.c").read_bytes()
