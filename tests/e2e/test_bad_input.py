"""Whatever is wrong with a task or policy is refused with its place, the reason and the next step; nothing is made."""

import re

import pytest

from place import groups

TASK = """\
name: {name}
owner: ada
source: {{directory: code}}
harness:
  command: ["true"]
"""

# name: (line added to the task, or a whole policy in policy.yaml; what the message must hold; its hint)
TASKS = {
    "unknown field": ("atempts: 3", r"task\.yaml:6:1: unknown field 'atempts' in Task", "did you mean 'attempts'"),
    "unknown nested field": ("checks: [{name: a, comand: [b]}]", r"task\.yaml:6:20: unknown field 'comand' in Check", "command"),
    "wrong type": ("attempts: many", r"task\.yaml:6:11: 'attempts' must be a whole number .*, not 'many'", None),
    "list for a mapping": ("feedback: [1]", r"task\.yaml:6:11: 'feedback' must be a mapping", "name: value"),
    "bad unit": ("timeout: 5 parsecs", r"task\.yaml:6:10: 'timeout' must be a duration, not '5 parsecs'", "90s or 1h30m"),
    "no unit": ("timeout: 30", r"task\.yaml:6:10: 'timeout' must be a duration, not '30'", "with a unit"),
    "duplicate key": ("owner: bob", r"task\.yaml:6:1: duplicate key 'owner'", "it stands at 2:1 already"),
    "not YAML": ("prompt: [", r"task\.yaml:\d+:\d+: ", None),
    "unknown image": ("image: ubuntu", r"there is no image 'ubuntu'|unknown image 'ubuntu'|image 'ubuntu'", "host"),
    "unknown profile": ("policy: defualt", r"no policy profile 'defualt'", "did you mean 'default'? Profiles: build, default, strict"),
    "missing policy file": ("policy: none.yaml", r"'[^']*none\.yaml'.*No such file or directory", None),
    "missing grant file": ("grants: [{name: key, file: nowhere}]", r"task\.yaml:6:.*nowhere.*No such file or directory", None),
    "grant without a value": ("grants: [{name: key}]", r"grant 'key' has no value", "name a 'file', or send the value"),
    "bad grant name": ("grants: [{name: a/b, file: task.yaml}]", r"task\.yaml:6:\d+: 'a/b' is not a name", "use letters"),
    "check outlasts the run": ("timeout: 1m\nchecks: [{name: a, command: [b], timeout: 2m}]", r"task\.yaml:7:\d+: 'checks\[0\]\.timeout' is longer than the run's timeout", "raise 'timeout'"),
    "artifact outside": ("artifacts: [{path: ../secret}]", r"task\.yaml:6:\d+: '\.\./secret' is not a path below the source", "without '.' or '..'"),
    "two checks of one name": ("checks: [{name: a, command: [b]}, {name: a, command: [c]}]", r"task\.yaml:6:\d+: the name 'a' stands twice", "each a name of its own"),
    "reserved variable": ("labels: {a: b}\npolicy: env.yaml", r"env\.yaml:1:\d+: environment variable 'CARREL_X' is reserved", "choose another name"),
}

POLICIES = {
    "unknown field": ("resources:\n  memry: 1GiB\n", r"policy\.yaml:2:3: unknown field 'memry' in Resources", "did you mean 'memory'"),
    "bad unit": ("resources:\n  memory: 4 apples\n", r"policy\.yaml:2:11: 'memory' must be a size, not '4 apples'", "512MiB or 4GiB"),
    "impossible limit": ("resources:\n  pids: 1\n", r"policy\.yaml:2:9: .*pids", None),
    "too little memory": ("resources: {memory: 1MiB}\n", r"policy\.yaml:1:\d+: .*memory", None),
    "memory file system above memory": ("resources: {memory: 64MiB}\n", r"'filesystem\.tmp' is larger than 'resources\.memory'", "lower it, or raise 'resources.memory'"),
    "root": ("identity: {uid: 0, user: root}\n", r"policy\.yaml:1:\d+: 'root' cannot be the harness's user", "agent"),
    "unknown system call": ("syscalls:\n  allow: [opne]\n", r"policy\.yaml:2:\d+: .*'opne'", "open"),
    "unknown group": ("syscalls:\n  allow: ['@flies']\n", r"policy\.yaml:2:\d+: .*'@flies'", "@files"),
    "cyclic extends": ("extends: ./policy.yaml\n", r"policies extend each other in a circle: .*policy\.yaml -> .*policy\.yaml", "drop one of the 'extends'"),
    "mount of nothing": ("filesystem:\n  mounts: [{source: /no/such/tree, target: /data}]\n", r"'/no/such/tree'.*No such file or directory", "create it, or drop it"),
    "mount of the host's proc": ("filesystem:\n  mounts: [{source: /proc, target: /p}]\n", r"policy\.yaml:2:\d+: mount source '/proc' is of the host's kernel", "a /proc of its own"),
    "mount of the host's sys": ("filesystem:\n  mounts: [{source: /sys/fs/cgroup, target: /c}]\n", r"policy\.yaml:2:\d+: mount source '/sys/fs/cgroup' is of", "'filesystem.sys: yes'"),
    "mount over proc": ("filesystem:\n  mounts: [{source: /srv, target: /proc/x}]\n", r"policy\.yaml:2:\d+: .*'/proc/x'", None),
    "neither yes nor no": ("nesting: perhaps\n", r"policy\.yaml:1:\d+: 'nesting' must be yes or no, not 'perhaps'", None),
    "unknown network mode": ("network: {mode: full}\n", r"policy\.yaml:1:\d+: 'mode' must be none, not 'full'", None),
}


@pytest.fixture(params=["embedded", "daemon"])
def refuses(request, place):
    """refuses(arguments, pattern, hint): carrel run says no, and why, and nothing was made."""
    daemon = request.getfixturevalue("carreld") if request.param == "daemon" else None
    (place.work / "code").mkdir()

    def refuses(*arguments, pattern, hint=None, status=125):
        before = sorted(path for path in place.base.rglob("*") if path.suffix != ".sqlite-wal")
        result = place.carrel("run", *arguments, daemon=daemon is not None)
        assert result.status == status, result
        first, *others = result.err.splitlines()
        assert first.startswith("carrel: ") and re.search(pattern, first), result.err
        assert result.out == ""
        if hint is not None:
            assert any(line.startswith("  hint: ") and hint in line for line in others), result.err
        runs = place.state / "runs"
        assert not runs.exists() or not list(runs.iterdir())
        assert place.carrel("ps", "-a", "--json", daemon=daemon is not None).out == ""
        assert not [path for path in groups() if path.rsplit("/", 1)[1].startswith(place.name)]
        ids = place.state / "ids"
        assert not ids.exists() or not list(ids.iterdir())
        assert [path for path in before if not path.exists() and "sqlite" not in path.name] == []

    return refuses


@pytest.mark.parametrize("case", TASKS)
def test_a_wrong_task_is_refused(place, refuses, case):
    line, pattern, hint = TASKS[case]
    place.write("env.yaml", "environment: {CARREL_X: y}\n")
    refuses(place.write("task.yaml", TASK.format(name=place.name) + line + "\n"), pattern=pattern, hint=hint)


@pytest.mark.parametrize("case", POLICIES)
def test_a_wrong_policy_is_refused(place, refuses, case):
    text, pattern, hint = POLICIES[case]
    place.write("policy.yaml", text)
    task = TASK.format(name=place.name) + "policy: policy.yaml\n"
    refuses(place.write("task.yaml", task), pattern=pattern, hint=hint)


def test_a_policy_that_extends_itself_through_others_is_refused(place, refuses):
    place.write("a.yaml", "extends: b.yaml\n")
    place.write("b.yaml", "extends: a.yaml\n")
    refuses("--policy", "./a.yaml", "--", "true", pattern=r"in a circle: \S*a\.yaml -> \S*b\.yaml -> \S*a\.yaml")


@pytest.mark.parametrize(
    "without, pattern, hint",
    [
        ("owner", "the task has no owner", "add 'owner: <who answers for this run>'"),
        ("harness", "'harness.command' is empty", "write the program and its arguments: [make, test]"),
    ],
)
def test_a_task_without_what_it_needs_is_refused(place, refuses, without, pattern, hint):
    lines = TASK.format(name=place.name).splitlines()
    kept = [line for line in lines if not line.startswith(without) and not (without == "harness" and "command" in line)]
    refuses(place.write("task.yaml", "\n".join(kept)), pattern=rf"task\.yaml(:\d+:\d+)?: {pattern}", hint=hint)


def test_a_missing_source_directory_is_refused(place, refuses):
    task = place.write("task.yaml", TASK.format(name=place.name).replace("code", "nowhere"))
    refuses(task, pattern=r"task\.yaml:3:\d+: cannot find 'nowhere': No such file or directory")


def test_a_file_as_source_directory_is_refused(place, refuses):
    task = place.write("task.yaml", TASK.format(name=place.name).replace("code", "task.yaml"))
    refuses(task, pattern=r"task\.yaml:3:\d+: .*task\.yaml': Not a directory")


def test_a_missing_task_is_refused(refuses):
    refuses("nowhere.yaml", pattern="'nowhere.yaml'.*No such file or directory")


@pytest.mark.parametrize(
    "options, pattern",
    [
        (["--policy", "defualt"], "no policy profile 'defualt'"),
        (["--image", "ubuntu"], "'ubuntu'"),
        (["--source", "nowhere"], "'nowhere': No such file or directory"),
        (["--grant", "key=nowhere"], "'nowhere'.*No such file or directory|cannot read grant 'key'"),
        (["--grant", "key"], "the form is NAME=FILE"),
        (["--env", "=x"], "the form is NAME=VALUE"),
        (["--timeout", "soon"], "'soon'"),
        (["--name", "No Good"], "'No Good' is not a name"),
        (["--no-such-option"], "'--no-such-option'"),
    ],
)
def test_a_wrong_option_is_refused(refuses, options, pattern):
    refuses(*options, "--", "true", pattern=pattern)


def test_a_run_needs_a_command(refuses):
    refuses("--", pattern="no command behind '--'", hint="carrel run TASK.yaml, or carrel run -- COMMAND")


def test_a_socket_that_is_named_must_be_there(place):
    result = place.carrel("run", "--", "true", env={"CARREL_EMBEDDED": "", "CARREL_SOCKET": place.base / "none.sock"})
    assert result.status == 125 and "none.sock" in result.err and "No such file or directory" in result.err
    assert not (place.state / "runs").exists()
