"""The command line: help, JSON, errors, and what people pipe."""

import json
import os
import subprocess

import pytest

from place import CARREL, CARRELD

COMMANDS = ["run", "ps", "logs", "events", "artifacts", "diff", "apply", "feedback", "stop", "rm"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", ["--help", "-h", "help"])
def test_every_subcommand_explains_itself(place, command, how):
    result = place.carrel("help", command) if how == "help" else place.carrel(command, how)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"Usage: carrel {command} ") and "--state-dir" in result.out
    assert len(max(result.out.splitlines(), key=len)) <= 110


def test_help_lists_every_subcommand(place):
    for arguments in (["help"], ["--help"], ["-h"]):
        result = place.carrel(*arguments)
        assert result.status == 0
        assert all(f"\n  {command} " in result.out for command in COMMANDS)
    result = place.carrel()
    assert (result.status, result.out) == (2, "") and "Usage: carrel" in result.err


def test_versions_are_told(place):
    assert place.carrel("--version").out.startswith("carrel ")
    assert subprocess.run([CARRELD, "--version"], capture_output=True, text=True).stdout.startswith("carreld ")


def test_json_is_json_everywhere(place):
    place.write("file", "before\n")
    task = place.write(
        "task.yaml",
        "name: json\nowner: ada\nsource: {directory: .}\nharness: {command: [sh, -c, 'echo after >file; echo out']}\n",
    )
    result = place.carrel("run", "--json", task)
    assert result.status == 0
    (run,) = result.json
    assert (run["name"], run["state"]) == ("json", "succeeded") and "attempt 1 green" in result.err
    assert [found["id"] for found in place.carrel("ps", "-a", "--json").json] == [run["id"]]
    events = place.carrel("events", "--json", "last").json
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    assert "finished" in events[-1]
    assert place.carrel("artifacts", "--json", "last").json[0]["name"] == "workspace.patch"
    assert place.carrel("diff", "--json", "last").json == [{"kind": "modified", "path": "file"}]
    assert place.carrel("apply", "--json", "last").json == [{"kind": "modified", "path": "file"}]
    for command in (["ps", "-a"], ["events", "last"], ["artifacts", "last"], ["diff", "--stat", "last"]):
        with pytest.raises(json.JSONDecodeError):
            assert place.carrel(*command).json


def test_events_can_go_on_after_a_number(place):
    assert place.run("true").status == 0
    whole = place.carrel("events", "last").out.splitlines()
    assert place.carrel("events", "--after", "3", "last").out.splitlines() == whole[3:]
    assert place.carrel("events", "--after", str(len(whole)), "last").out == ""
    assert place.carrel("events", "-f", "--after", str(len(whole)), "last", timeout=10).out == ""


def test_a_task_tells_what_happens_and_what_next(place):
    task = place.write(
        "task.yaml",
        "name: told\nowner: ada\nsource: {directory: .}\nattempts: 2\nharness: {command: [cat], prompt_delivery: stdin}\n"
        "prompt: try it\nchecks: [{name: never, command: [sh, -c, 'echo because; exit 3']}]\n",
    )
    result = place.carrel("run", task)
    assert result.status == 1
    run = place.record().name
    for words in ("attempt 1 started", "attempt 1 red", "never | because", "attempt 2 started with 1 item of feedback",
                  "feedback (check) from never", f"run {run} failed (checks-failed)", "attempts  2",
                  f"next      carrel diff {run}", "a check was still red after attempt 2"):
        assert words in result.out, words
    quiet = place.carrel("run", "--quiet", task)
    assert quiet.status == 1 and "attempt 1 started" not in quiet.out and "failed (checks-failed)" in quiet.out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["frob"], "unknown command 'frob'"),
        (["rnu"], "did you mean 'carrel run'?"),
        (["logs"], "logs: an argument is missing"),
        (["logs", "a", "b"], "logs: too many arguments"),
        (["ps", "--al"], "'--al'"),
        (["ps", "-n", "many"], "'many'"),
        (["events", "--after", "-1", "x"], "-1"),
    ],
)
def test_a_wrong_command_line_is_status_2(place, arguments, words):
    result = place.carrel(*arguments)
    assert (result.status, result.out) == (2, "") and words in result.err


@pytest.mark.parametrize("command", ["logs", "events", "artifacts", "diff", "apply", "stop", "rm"])
def test_a_run_that_is_not_there_is_status_1(place, command):
    result = place.carrel(command, "nothing-12345678")
    assert (result.status, result.out) == (1, "")
    assert "nothing-12345678" in result.err
    result = place.carrel(command, "last")
    assert result.status == 1 and result.err.startswith("carrel: ")


def test_an_ambiguous_start_of_an_id_lists_what_it_could_be(place):
    for _ in range(2):
        assert place.run("true").status == 0
    runs = [run.name for run in place.runs()]
    result = place.carrel("logs", "true")
    assert result.status == 1 and all(run in result.err for run in runs)
    assert place.carrel("logs", runs[0][:8]).status == 0


def test_output_that_cannot_be_written_is_an_error(place):
    assert place.run("echo", "x").status == 0
    for command in (["ps", "-a"], ["events", "last"], ["logs", "last"], ["help"]):
        with open("/dev/full", "w") as full:
            assert place.carrel(*command, stdout=full).status not in (0, None), command


def test_closed_standard_descriptors_are_no_accident(place):
    result = place.carrel("run", "--", "true", stdin=None, stdout=None, stderr=None, preexec_fn=lambda: os.closerange(0, 3))
    assert result.status in (0, 1, 125)
    assert place.outcome().attempts == 1


def test_a_state_directory_that_others_can_write_is_refused(place):
    place.state.chmod(0o777)
    result = place.run("true")
    place.state.chmod(0o700)
    assert result.status == 125 and "can be written by others than root" in result.err


def test_anybody_is_told_how_it_is_used(place):
    def become_nobody():
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    binary = os.open(CARREL, os.O_RDONLY)  # nobody need be able to walk to the build directory
    try:
        help = subprocess.run(
            [f"/proc/self/fd/{binary}", "--help"],
            pass_fds=[binary],
            preexec_fn=become_nobody,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
        )
    finally:
        os.close(binary)
    assert help.returncode == 0 and b"run" in help.stdout


def test_removing_a_run_takes_all_of_it(place):
    place.write("file", "x")
    assert place.shell("echo y >file").status == 0
    assert place.carrel("rm", "last").status == 0
    assert place.runs() == [] and place.carrel("ps", "-a", "--json").out == ""
