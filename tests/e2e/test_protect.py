"""Paths that a policy protects: seen when a run has changed them, read-only where that is in nobody's way, and left out
by apply, unless the owner approves."""

import json
import subprocess

import pytest

from carrel.v1 import common_pb2 as common
from carrel.v1 import event_pb2 as events

TASK = """\
name: protect
owner: ada
source: {directory: code}
attempts: 1
"""


def git(directory, *arguments):
    command = ["git", "-c", "user.name=ada", "-c", "user.email=ada@example.org", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def code(place):
    """A directory as people have them: a repository with CI, an editor's settings and code."""
    code = place.work / "code"
    place.write("code/.github/workflows/ci.yml", "on: push\n")
    place.write("code/.vscode/settings.json", "{}\n")
    place.write("code/sub/.vscode/tasks.json", "{}\n")
    place.write("code/main.c", "int main;\n")
    git(code, "init", "-q", "-b", "main", ".")
    git(code, "add", ".")
    git(code, "commit", "-q", "-m", "first")
    return code


@pytest.fixture
def run(place, code):
    """run(script, more of the task, *options): the Result of a task whose harness is that script."""

    def run(script, more="", *options, **how):
        harness = f"harness: {{command: [sh, -ec, {json.dumps(script)}]}}\n"
        return place.carrel("run", *options, place.write("task.yaml", TASK + harness + more), **how)

    return run


def outcome_of(place):
    outcome = place.outcome()
    return (outcome.state, outcome.reason)


def changed(place):
    """The paths of the journal's event, or None."""
    found = [event.protected_changed for event in place.journal() if event.HasField("protected_changed")]
    assert len(found) <= 1
    return list(found[0].paths) if found else None


PROTECTED = (events.RUN_STATE_FAILED, common.REASON_PROTECTED)
GREEN = (events.RUN_STATE_SUCCEEDED, common.REASON_DONE)


def test_a_green_run_that_changed_ci_ends_failed_and_says_what_to_do(place, run):
    result = run("echo 'on: pull_request_target' > .github/workflows/ci.yml; echo x > main.c", "checks: [{name: ok, command: ['true']}]\n")
    assert result.status == 1
    assert outcome_of(place) == PROTECTED
    assert changed(place) == [".github/workflows/ci.yml"]
    error = place.outcome().error
    assert error.what == "the run changed what 'filesystem.protect' of its policy protects: '.github/workflows/ci.yml'"
    assert error.field == "filesystem.protect"
    assert "--approve PATTERN" in error.hint and "approve: [PATTERN]" in error.hint
    for words in ("changed what is protected: .github/workflows/ci.yml", "failed (protected): the run changed", "hint      to let a run do that"):
        assert words in result.out, result.out
    assert not [event for event in place.journal() if event.HasField("degraded")]


def test_a_command_is_told_the_same_on_standard_error(place, code):
    result = place.shell("echo hello; mkdir .circleci; echo x > .circleci/config.yml", cwd=code)
    assert (result.status, result.out) == (1, "hello\n")
    assert "carrel: the run changed what 'filesystem.protect' of its policy protects: '.circleci/config.yml'\n  hint: " in result.err


@pytest.mark.parametrize("how", ["task", "option"])
def test_what_the_owner_approved_is_no_matter(place, run, code, how):
    script = "echo new > .github/workflows/ci.yml"
    result = run(script, "approve: ['.github/**']\n") if how == "task" else run(script, "", "--approve", ".github/**")
    assert result.status == 0, result
    assert outcome_of(place) == GREEN and changed(place) is None
    assert place.carrel("diff", "--stat", "last").out == "M .github/workflows/ci.yml\n0 added, 1 modified, 0 deleted\n"
    assert place.carrel("apply", "last").status == 0
    assert (code / ".github/workflows/ci.yml").read_text() == "new\n"


@pytest.mark.parametrize(
    "script, paths",
    [
        ("rm .github/workflows/ci.yml", [".github/workflows/ci.yml"]),
        ("rm -r .github", [".github/workflows/ci.yml"]),
        ("mv .github/workflows/ci.yml .github/workflows/cd.yml", [".github/workflows/cd.yml", ".github/workflows/ci.yml"]),
        ("mv .github elsewhere", [".github/workflows/ci.yml"]),
        ("mv .github x; mv x .github; echo y > .github/workflows/ci.yml", [".github/workflows/ci.yml"]),
        ("mkdir evil; echo x > evil/ci.yml; rm -r .github/workflows; ln -s ../evil .github/workflows", [".github/workflows/ci.yml", ".github/workflows"]),
        ("ln .github/workflows/ci.yml a; echo x >> a", [".github/workflows/ci.yml"]),
        ("ln -s main.c Jenkinsfile", ["Jenkinsfile"]),
        ("mkdir -p a/b/.claude; echo '{}' > a/b/.claude/settings.json", ["a/b/.claude/settings.json"]),
        ("mkdir c; echo '{}' > c/settings.local.json; ln -s c .claude", [".claude"]),
        ("rm -r sub", ["sub/.vscode/tasks.json"]),
        ("echo x > .MCP.json", [".MCP.json"]),
        ("chmod 777 .vscode", [".vscode"]),
        ("mkfifo .envrc", [".envrc"]),
        ("mkdir new; cd new; git init -q .; echo x > .git/hooks/pre-commit", ["new/.git/hooks/pre-commit"]),
    ],
)
def test_however_it_is_changed_it_is_seen(place, run, script, paths):
    assert run(script).status == 1
    assert outcome_of(place) == PROTECTED
    assert changed(place) == paths


@pytest.mark.parametrize(
    "script",
    [
        "echo x > AGENTS.md; echo x > CLAUDE.md; mkdir .claude; echo x > .claude/notes; echo x > Makefile",
        "cp .vscode/settings.json x; cat x > .vscode/settings.json; touch .github/workflows/ci.yml",
        "mkdir new; cd new; git init -q .",
        "mkdir .github/empty",
    ],
)
def test_what_nothing_obeys_is_free(place, run, script):
    assert run(script).status == 0
    assert outcome_of(place) == GREEN and changed(place) is None


def test_a_check_that_is_red_stays_the_reason(place, run):
    result = run("echo x > Jenkinsfile", "checks: [{name: never, command: ['false']}]\n")
    assert result.status == 1
    assert outcome_of(place) == (events.RUN_STATE_FAILED, common.REASON_CHECKS_FAILED)
    assert changed(place) == ["Jenkinsfile"]


def test_hooks_are_read_only_and_commits_work(place, run, code):
    hook = code / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho the hook ran\n")
    hook.chmod(0o755)
    result = run(
        "git config user.name ada; git config user.email ada@example.org\n"
        "echo more >> main.c; git commit -a -m second; git checkout -q -b other HEAD~1; git merge -q main; git stash -q || true\n"
        "for try in 'echo x > .git/hooks/pre-push' 'rm .git/hooks/pre-commit' 'mv .git/hooks x' 'chmod 777 .git/hooks' 'rm -r .git/hooks'; do\n"
        "  LC_ALL=C sh -c \"$try\" 2>&1 && echo \"done: $try\"; done; grep ' /workspace/.git/hooks ' /proc/self/mountinfo"
    )
    assert result.status == 0, result
    assert outcome_of(place) == GREEN
    assert "the hook ran" in result.out and "done: " not in result.out
    assert result.out.count("Read-only file system") >= 4, result.out
    assert "/workspace/.git/hooks ro,nosuid,nodev" in result.out
    assert sorted(path.name for path in (code / ".git/hooks").iterdir() if path.suffix != ".sample") == ["pre-commit"]


@pytest.mark.parametrize("pattern", [".git/hooks", ".git/hooks/pre-push", "**"])
def test_an_approved_hook_can_be_written(place, run, pattern):
    assert run("echo x > .git/hooks/pre-push", "", "--approve", pattern).status == 0
    assert outcome_of(place) == GREEN and changed(place) is None


def test_a_link_in_place_of_hooks_is_not_followed(place, run, code):
    subprocess.run(["rm", "-r", code / ".git/hooks"], check=True)
    (code / "hooks").mkdir()
    (code / ".git/hooks").symlink_to("../hooks")
    assert run("echo x > hooks/free; grep -c ' /workspace/' /proc/self/mountinfo || true").status == 0
    assert run("rm .git/hooks; mkdir .git/hooks; echo x > .git/hooks/pre-push").status == 1


def test_apply_takes_the_rest_and_more_on_request(place, run, code):
    run("echo new > .github/workflows/ci.yml; echo new > .vscode/settings.json; echo new > main.c; rm -r sub")
    stat = place.carrel("diff", "--stat", "last").out
    assert stat == (
        "M .github/workflows/ci.yml (protected)\nM .vscode/settings.json (protected)\nM main.c\n"
        "D sub\nD sub/.vscode\nD sub/.vscode/tasks.json (protected)\n0 added, 3 modified, 3 deleted, 3 of them protected\n"
    )
    listed = {change["path"]: change for change in place.carrel("diff", "--json", "last").json}
    assert listed[".vscode/settings.json"] == {"kind": "modified", "path": ".vscode/settings.json", "protected": True}
    assert "protected" not in listed["main.c"]

    check = place.carrel("apply", "--check", "last")
    result = place.carrel("apply", "last")
    assert (check.status, check.out) == (result.status, result.out) == (1, "M main.c\n")
    for words in ("protected: .github/workflows/ci.yml\n", "protected: sub/.vscode/tasks.json\n", "protected changes left out: nobody approved them\n", "  hint: "):
        assert words in check.err and words in result.err
    assert "1 change could be applied, 0 conflicts\n" in check.err and "1 change applied, 0 conflicts\n" in result.err
    assert (code / "main.c").read_text() == "new\n"
    assert (code / ".github/workflows/ci.yml").read_text() == "on: push\n"
    assert (code / "sub/.vscode/tasks.json").read_text() == "{}\n"

    result = place.carrel("apply", "--approve", ".github/**", "--approve", "sub/**", "last")
    assert result.status == 1 and "protected: .vscode/settings.json\n1 changes" not in result.out
    assert (code / ".github/workflows/ci.yml").read_text() == "new\n" and not (code / "sub").exists()
    assert (code / ".vscode/settings.json").read_text() == "{}\n"
    result = place.carrel("apply", "--approve", "**", "last")
    assert (result.status, result.out) == (0, "M .vscode/settings.json\n")


def test_a_bad_approval_is_refused(place, run):
    result = run("true", "", "--approve", "/etc")
    assert result.status == 125 and "pattern '/etc' is an absolute path" in result.err
    run("true")
    result = place.carrel("apply", "--approve", "a//b", "last")
    assert result.status == 1 and "--approve: pattern 'a//b' has an empty part" in result.err


def test_a_policy_adds_patterns_and_takes_back_what_it_inherits(place, run):
    place.write("policy.yaml", "filesystem: {protect: ['*.c', '!.vscode/**']}\n")
    assert run("echo x > .vscode/settings.json", "policy: policy.yaml\n").status == 0
    result = run("echo x > .vscode/settings.json; echo x > main.c", "policy: policy.yaml\n")
    assert result.status == 1 and "protected: main.c\n" in result.out
    assert run("echo x > CLAUDE.md", "policy: strict\n").status == 1


def test_many_are_counted_and_the_first_are_named(place, run):
    run("for i in $(seq 100 250); do echo x > .github/$i; done")
    assert place.outcome().error.what.endswith("'.github/100', '.github/101', '.github/102' and 148 more")
    (event,) = [event.protected_changed for event in place.journal() if event.HasField("protected_changed")]
    assert len(event.paths) == 100 and event.more == 51


def test_names_that_are_no_text_are_told_as_text(place, run):
    run("mkdir .circleci; echo x > .circleci/$(printf 'a\\377\\033[31mb')")
    (path,) = changed(place)
    assert path == ".circleci/a?\x1b[31mb"
    assert "\x1b" not in place.carrel("events", "last").out


def test_what_cannot_be_told_is_not_green(place, run, code):
    """An agent that leaves more than anybody walks cannot hide a change behind it."""
    deep = "d=x; i=0; while [ $i -lt 140 ]; do mkdir $d; cd $d; i=$((i + 1)); done; echo x > /workspace/Jenkinsfile"
    assert run(deep).status == 1
    assert outcome_of(place) == PROTECTED
    assert "it cannot be told whether the run changed what 'filesystem.protect'" in place.outcome().error.what
    place.write("policy.yaml", "filesystem: {protect: ['!**']}\n")
    assert run(deep, "policy: policy.yaml\n").status == 0
    assert run(deep, "approve: ['**']\n").status == 0


def test_an_original_that_went_away_is_not_green(place, run, code):
    place.write("code/gate", "closed")
    script = "echo x > main.c; echo written; until grep -q open gate; do sleep 0.01; done"
    client = place.start("run", "-C", code, "--", "sh", "-c", script)
    assert client.stdout.readline() == b"written\n"
    code.rename(place.work / "elsewhere")
    place.write("elsewhere/gate", "open")
    _, err = client.communicate(timeout=20)
    assert client.returncode == 1 and b"it cannot be told whether the run changed" in err, err
    assert outcome_of(place) == PROTECTED


def test_a_daemon_tells_a_scheduler_the_same(place, scheduler, code):
    from carrel.v1 import task_pb2 as tasks

    task = tasks.Task(name="protect", owner="ada", source=tasks.Source(directory=str(code)))
    task.harness.command.extend(["sh", "-c", "echo x > .mcp.json"])
    run = scheduler.submit(task)
    seen = list(scheduler.watch(run.id))
    assert [list(event.protected_changed.paths) for event in seen if event.HasField("protected_changed")] == [[".mcp.json"]]
    assert (seen[-1].finished.outcome.state, seen[-1].finished.outcome.reason) == PROTECTED
