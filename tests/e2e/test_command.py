"""carrel run -- COMMAND: as if the command ran here, but for what it can reach."""

import hashlib
import os
import signal
import subprocess
import time

import pytest

from carrel.v1 import common_pb2 as common
from carrel.v1 import event_pb2 as events
from place import until


@pytest.mark.parametrize("status", [0, 1, 2, 42, 124, 125, 126, 127, 255])
def test_the_commands_status_is_carrels(place, status):
    assert place.shell(f"exit {status}").status == status


@pytest.mark.parametrize("name", ["HUP", "INT", "KILL", "TERM", "SEGV"])
def test_a_signal_that_kills_the_command_is_128_and_its_number(place, name):
    assert place.shell(f"kill -{name} $$").status == 128 + getattr(signal, f"SIG{name}")


def test_a_command_that_is_not_there_is_127_and_carrel_says_which(place):
    result = place.run("no-such-program")
    assert result.status == 127
    assert "cannot execute 'no-such-program': No such file or directory" in result.err


def test_a_command_that_cannot_be_executed_is_126_and_carrel_says_why(place):
    place.write("data", "no program\n")
    result = place.run("./data")
    assert result.status == 126
    assert "cannot execute './data': Permission denied" in result.err


def test_a_command_that_takes_too_long_is_124_and_carrel_says_why(place):
    start = time.monotonic()
    result = place.run("sleep", "60", options=["--timeout", "300ms"])
    assert result.status == 124 and time.monotonic() - start < 5
    assert "the run did not end within its time limit" in result.err
    assert place.outcome().state == events.RUN_STATE_TIMED_OUT


def test_input_and_output_pass_through_to_the_byte(place):
    data = os.urandom(8 * 1024 * 1024 + 13)
    result = place.run("cat", input=data)
    assert (result.status, result.stderr) == (0, b"")
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()


def test_stdout_and_stderr_stay_apart(place):
    result = place.shell("echo out; echo err >&2; echo out again")
    assert (result.status, result.stdout, result.stderr) == (0, b"out\nout again\n", b"err\n")
    assert place.carrel("logs", "--stdout", "last").stdout == b"out\nout again\n"
    assert place.carrel("logs", "--stderr", "last").stdout == b"err\n"


def test_a_command_without_input_finds_its_end_at_once(place):
    assert place.run("cat", stdin=subprocess.DEVNULL).stdout == b""


def test_a_reader_that_leaves_ends_the_writer_as_a_shell_pipe_would(place):
    process = place.start("run", "--", "yes")
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()
    assert process.wait(20) == 128 + signal.SIGPIPE
    process.stderr.close()


def test_the_original_directory_is_not_touched(place):
    place.write("kept", "before\n")
    place.write("gone", "before\n")
    result = place.shell("echo after >kept; rm gone; mkdir -p new/deep; echo new >new/deep/file; ls")
    assert result.out.split() == ["kept", "new"]
    assert {path.name: path.read_text() for path in place.work.iterdir()} == {"kept": "before\n", "gone": "before\n"}


def test_diff_shows_and_apply_writes_what_the_run_changed(place):
    place.write("kept", "before\n")
    place.write("gone", "before\n")
    place.write("same", "same\n")
    assert place.shell("echo after >kept; rm gone; mkdir -p new/deep; echo new >new/deep/file; chmod +x same").status == 0
    stat = place.carrel("diff", "--stat", "last").out.splitlines()
    assert {"M kept", "D gone", "M same", "A new/deep/file"} <= set(stat)
    patch = place.carrel("diff", "last").out
    assert "-before\n+after\n" in patch and "deleted file" in patch and "new mode 100755" in patch
    assert place.carrel("apply", "--check", "last").status == 0
    assert (place.work / "gone").exists()
    result = place.carrel("apply", "last")
    assert result.status == 0, result
    assert (place.work / "kept").read_text() == "after\n"
    assert (place.work / "new/deep/file").read_text() == "new\n"
    assert (place.work / "same").stat().st_mode & 0o777 == 0o755
    assert not (place.work / "gone").exists()
    for path in place.work.rglob("*"):  # nothing belongs to a workspace's ids
        assert (path.stat().st_uid, path.stat().st_gid) == (0, 0), path


def test_apply_refuses_a_conflict_and_writes_nothing(place):
    place.write("one", "before\n")
    place.write("two", "before\n")
    assert place.shell("echo run >one; echo run >two; echo run >three").status == 0
    time.sleep(0.02)  # later than the run's start, by any clock's grain
    place.write("two", "somebody else\n")
    result = place.carrel("apply", "last")
    assert result.status == 1
    assert "conflict: two: it changed in the original after the run started" in result.err
    assert "nothing was written" in result.err
    assert {p.name: p.read_text() for p in place.work.iterdir()} == {"one": "before\n", "two": "somebody else\n"}


def test_a_run_that_changed_nothing_has_no_patch(place):
    assert place.run("true").status == 0
    result = place.carrel("diff", "last")
    assert (result.status, result.stdout) == (0, b"") and "no changes" in result.err


def test_variables_and_credentials_of_the_command_line_arrive(place):
    secret = place.write("secret", "correct horse battery staple")
    result = place.shell(
        'echo "$GREETING"; wc -c <"$CREDENTIALS_DIRECTORY/key"', "-e", "GREETING=hello", "--grant", f"key={secret}"
    )
    assert (result.status, result.out.split()) == (0, ["hello", str(len("correct horse battery staple"))])


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_a_signal_to_carrel_stops_the_run(place, name):
    number = getattr(signal, f"SIG{name}")
    process = place.start("run", "--", "sh", "-c", "echo ready; exec sleep 60")
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 128 + number
    outcome = place.outcome()
    assert (outcome.state, outcome.reason) == (events.RUN_STATE_STOPPED, common.REASON_STOPPED)


@pytest.mark.parametrize("kind", ["embedded", "daemon"])
def test_a_killed_client_ends_its_attached_run(place, kind, request):
    if kind == "daemon":
        request.getfixturevalue("carreld")
    process = place.start("run", "--", "sh", "-c", "echo ready; exec sleep 60", daemon=kind == "daemon")
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate()
    until(lambda: place.journal()[-1].HasField("finished"), what="the run's end")
    assert place.outcome().state == events.RUN_STATE_STOPPED


def test_a_detached_run_outlives_its_client(place, carreld):
    result = carreld.carrel("run", "--detach", "--", "sh", "-c", "sleep 0.3; echo done")
    assert result.status == 0
    run = result.out.strip()
    assert carreld.carrel("logs", "-f", run).out == "done\n"
    assert place.outcome().state == events.RUN_STATE_SUCCEEDED


def test_detaching_needs_a_daemon(place):
    result = place.run("true", options=["--detach"])
    assert result.status == 125 and "--detach needs a supervisor that stays" in result.err
