"""Credentials: there for whom they are meant, as long as they are meant to be, and nowhere else."""

import base64
import hashlib
import os
import re
import time

import pytest

from carrel.v1 import event_pb2 as events
from carrel.v1 import task_pb2 as task
from scheduler import Refused

VALUE = b"ghp_16C7e42F292c6912E7710c838347Ae178B4a"
PARTS = [VALUE, base64.b64encode(VALUE), VALUE[: len(VALUE) // 2], VALUE[len(VALUE) // 2 :]]
GRANT_SHOW = 'stat -c "%a %u %g %s" "$CREDENTIALS_DIRECTORY/key"'


@pytest.fixture
def code(place):
    directory = place.work / "code"
    directory.mkdir()
    return directory


def make_task(script, code=None, scope=task.GRANT_SCOPE_RUN, expires_us=0, **more):
    return task.Task(
        name="grant",
        owner="ada",
        source=task.Source(directory=str(code)) if code else None,
        harness=task.Harness(command=["sh", "-c", script]),
        grants=[task.Grant(name="key", scope=scope, expires_us=expires_us)],
        **more,
    )


def submit(scheduler, *arguments, **named):
    run = scheduler.submit(make_task(*arguments, **named), grants={"key": VALUE})
    return run, scheduler.wait(run.id)


def read_data(path):
    """What a file really holds: a volume is large, and most of it a hole."""
    data = b""
    with open(path, "rb", buffering=0) as file:
        end = 0
        while end < os.fstat(file.fileno()).st_size:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # nothing after this
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            data += os.pread(file.fileno(), end - start, start)
    return data


def assert_value_is_nowhere(place):
    place.settle()
    for path in place.state.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = read_data(path)
            for part in PARTS:
                assert part not in data, path
    assert not any(part in place.base.joinpath("carreld.log").read_bytes() for part in PARTS)


def grant_changes(scheduler, run):
    return [(e.grant_changed.state, e.grant_changed.attempt) for e in scheduler.watch(run.id) if e.HasField("grant_changed")]


def test_a_credential_is_a_file_for_the_harness_and_in_no_record(scheduler, place, code):
    script = f"""
        {GRANT_SHOW}; sha256sum <"$CREDENTIALS_DIRECTORY/key"; ls -A "$CREDENTIALS_DIRECTORY"
        touch "$CREDENTIALS_DIRECTORY/more" 2>/dev/null || echo cannot write
        value=$(cat "$CREDENTIALS_DIRECTORY/key")
        env | grep -c "$value"; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c "[g]hp_"
        df --output=fstype "$CREDENTIALS_DIRECTORY" | tail -1
    """
    run, outcome = submit(scheduler, script, code)
    assert outcome.state == events.RUN_STATE_SUCCEEDED or outcome.exit_status in (0, 1)
    lines = scheduler.logs(run.id).decode().splitlines()
    mode, uid, gid, size = lines[0].split()
    assert int(mode, 8) & 0o027 == 0 and int(mode, 8) & 0o440  # the harness reads it; nobody else
    assert (uid, gid, size) in {("0", "1000", str(len(VALUE))), ("1000", "1000", str(len(VALUE)))}
    assert lines[1].split()[0] == hashlib.sha256(VALUE).hexdigest()
    assert lines[2:6] == ["key", "cannot write", "0", "0"]
    assert lines[6] == "tmpfs"  # in memory only
    assert_value_is_nowhere(place)
    assert grant_changes(scheduler, run) == [(events.GRANT_STATE_PROVIDED, 1), (events.GRANT_STATE_REVOKED, 1)]


def test_a_credential_that_is_printed_is_masked(scheduler, place, code):
    script = """
        value=$(cat "$CREDENTIALS_DIRECTORY/key")
        echo "token=$value!"; echo "$value$value" >&2
        printf '%s\\n' "$value" | fold -w 1 | while read c; do printf %s "$c"; sleep 0.002; done; echo
        carrel-guest status --report "I have $value" >/dev/null
        echo "$value" >leak; carrel-guest artifact publish leak || echo refused
    """
    run, outcome = submit(scheduler, script, code, artifacts=[task.ArtifactRule(path="leak", name="rule")])
    assert outcome.state == events.RUN_STATE_SUCCEEDED
    log = scheduler.logs(run.id)
    assert VALUE not in log and VALUE[:16] not in log, log
    assert re.search(rb"token=.+!", log) and b"refused" in log
    assert VALUE.decode() not in "".join(str(event) for event in scheduler.watch(run.id))
    assert "leak" not in {artifact.name for artifact in scheduler.artifacts(run.id)}
    assert "rule" not in {artifact.name for artifact in scheduler.artifacts(run.id)}


def test_a_credential_is_gone_when_it_has_expired(scheduler, place):
    script = f"{GRANT_SHOW}; sleep 0.6; ls -A $CREDENTIALS_DIRECTORY; cat $CREDENTIALS_DIRECTORY/key || echo gone"
    run, _ = submit(scheduler, script, expires_us=300_000)
    log = scheduler.logs(run.id).decode()
    assert log.splitlines()[0].endswith(f" {len(VALUE)}") and log.endswith("gone\n")
    assert grant_changes(scheduler, run) == [(events.GRANT_STATE_PROVIDED, 1), (events.GRANT_STATE_EXPIRED, 1)]
    assert_value_is_nowhere(place)


SEE = 'test -s "/run/credentials/key" && echo there || echo absent'


def test_a_credential_of_an_attempt_is_not_for_checks_and_comes_anew(scheduler, place, code):
    check = task.Check(name="look", command=["sh", "-c", f"{SEE}; test -e done"])
    script = f"{SEE}; test -e first && touch done; touch first; sleep 0.05"
    run, outcome = submit(scheduler, script, code, scope=task.GRANT_SCOPE_ATTEMPT, checks=[check])
    assert (outcome.state, outcome.attempts) == (events.RUN_STATE_SUCCEEDED, 2)
    assert scheduler.logs(run.id).split() == [b"there", b"absent", b"there", b"absent"]
    provided, revoked = events.GRANT_STATE_PROVIDED, events.GRANT_STATE_REVOKED
    assert grant_changes(scheduler, run) == [(provided, 1), (revoked, 1), (provided, 2), (revoked, 2)]
    assert_value_is_nowhere(place)


def test_a_credential_of_the_run_stays_for_checks(scheduler, code):
    check = task.Check(name="look", command=["sh", "-c", SEE])
    run, _ = submit(scheduler, SEE, code, checks=[check])
    assert scheduler.logs(run.id).split() == [b"there", b"there"]


def test_a_credential_that_expired_is_not_given_to_the_next_attempt_of_the_run(scheduler, code):
    check = task.Check(name="look", command=["sh", "-c", "sleep 0.3; test -e second"])
    script = f"{SEE}; test -e first && touch second; touch first"
    run, outcome = submit(scheduler, script, code, expires_us=200_000, checks=[check])
    assert outcome.attempts == 2
    assert scheduler.logs(run.id).split() == [b"there", b"absent"]


def test_a_value_from_a_file_is_read_at_submission(scheduler, place, code):
    file = place.write("secret", VALUE.decode())
    grant = task.Grant(name="key", file=str(file))
    run = scheduler.submit(
        task.Task(owner="ada", grants=[grant], harness=task.Harness(command=["sh", "-c", "sleep 0.2; " + GRANT_SHOW]))
    )
    file.write_text("another")
    scheduler.wait(run.id)
    assert scheduler.logs(run.id).split()[3] == str(len(VALUE)).encode()
    assert_value_is_nowhere(place)


def test_masking_reaches_the_attached_client_too(place):
    secret = place.write("secret", VALUE.decode())
    result = place.shell('cat "$CREDENTIALS_DIRECTORY/key"; echo', "--grant", f"key={secret}")
    assert VALUE not in result.stdout and result.stdout.strip() != b""


@pytest.mark.parametrize("value", [b"", b"abc", b"x" * (64 * 1024 + 1)])
def test_a_value_that_is_too_short_or_too_long_is_refused(scheduler, place, value):
    with pytest.raises(Refused) as refused:
        scheduler.submit(make_task("true"), grants={"key": value})
    assert refused.value.error.code == 22 and "grant 'key'" in refused.value.error.what
    assert place.runs() == []


def test_a_large_and_binary_value_arrives_whole(scheduler, place):
    value = bytes(range(256)) * 256
    run = scheduler.submit(make_task('sha256sum <"$CREDENTIALS_DIRECTORY/key"'), grants={"key": value})
    scheduler.wait(run.id)
    assert scheduler.logs(run.id).split()[0].decode() == hashlib.sha256(value).hexdigest()


def test_a_value_is_in_the_memory_of_no_process_that_outlives_the_run(scheduler, place, carreld):
    """The daemon and the zygote forget it: nothing of it in their writable memory after the run."""
    run, _ = submit(scheduler, "true")
    time.sleep(0.1)
    for pid in place.own_processes():
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
            for line in maps:
                low, high = (int(word, 16) for word in line.split()[0].split("-"))
                if "rw" in line.split()[1]:
                    memory.seek(low)
                    try:
                        assert VALUE not in memory.read(high - low), (pid, line)
                    except OSError:
                        pass
