"""Resources: what is limited, who is killed for it, and what the record says was used."""

import re
from pathlib import Path

from carrel.v1 import common_pb2 as common
from carrel.v1 import event_pb2 as events
from place import groups

POLICY = "resources: {memory: 96MiB, pids: 64, cpu_weight: 50, io: 100MiB}\nfilesystem: {tmp: 8MiB, shm: 1MiB}\n"
EATER = 'sleep 600 & python3 -c "x = bytearray(512 << 20)"; echo survived; sleep 600'


def task(place, harness, checks=(), attempts=1):
    place.write("policy.yaml", POLICY)
    text = f"name: eats\nowner: ada\npolicy: policy.yaml\nattempts: {attempts}\nharness: {{command: [sh, -c, '{harness}'], prompt_delivery: none}}\n"
    if checks:
        text += "checks:\n" + "".join(f"- {{name: c{i}, command: [sh, -c, '{check}'], timeout: 60s}}\n" for i, check in enumerate(checks))
    return place.write("task.yaml", text)


def bodies(journal, name):
    return [getattr(event, name) for event in journal if event.WhichOneof("body") == name]


def test_a_check_that_eats_the_memory_is_killed_as_a_whole_and_alone(place):
    result = place.carrel("run", task(place, "echo fine", [EATER, "echo next"]))
    assert result.status == 1, result
    journal = place.journal()
    eater, follower = bodies(journal, "process_exited")[1:]
    assert eater.reason == common.REASON_OUT_OF_MEMORY  # its shell slept on, and so did the sleeper: neither was waited for
    assert follower.reason == common.REASON_DONE
    first, second = bodies(journal, "check_finished")
    assert first.summary == "it was killed: the workspace's memory limit of 96 MiB ('resources.memory') was reached"
    assert second.passed
    hits = bodies(journal, "limit_hit")
    assert [hit.limit for hit in hits] == ["resources.memory"] and hits[0].value == 96 << 20
    assert "memory limit" in bodies(journal, "feedback_received")[0].feedback.text
    assert "limit resources.memory (96.0 MiB) hit: the kernel killed" in result.out


def test_a_harness_that_eats_the_memory_leaves_its_checks_alone(place):
    place.carrel("run", task(place, EATER, ["echo fine"]))
    journal = place.journal()
    harness, check = bodies(journal, "process_exited")
    assert (harness.reason, check.reason) == (common.REASON_OUT_OF_MEMORY, common.REASON_DONE)
    assert journal[-1].finished.outcome.state == events.RUN_STATE_SUCCEEDED


def test_a_limit_of_io_says_where_it_does_not_hold(place):
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")  # there on cgroup v2 alone
    whole = controllers.exists() and "io" in controllers.read_text().split()
    place.carrel("run", task(place, "true"))
    told = [degraded.error.what for degraded in bodies(place.journal(), "degraded")]
    if whole:
        assert told == []
    else:
        assert len(told) == 1 and told[0].startswith("'resources.io' slows reads and direct writes only"), told


def test_the_record_says_what_was_used(place):
    busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
    eats = 'python3 -c "x = bytearray(40 << 20)"'
    result = place.carrel("run", task(place, busy, [eats]))
    assert result.status == 0, result
    journal = place.journal()
    harness, check = [exit.usage for exit in bodies(journal, "process_exited")]
    total = journal[-1].finished.outcome.usage
    assert harness.cpu_us > 10_000 and total.cpu_us >= harness.cpu_us + check.cpu_us
    assert 40 << 20 < check.memory_peak_bytes < 96 << 20
    assert total.memory_peak_bytes == check.memory_peak_bytes > harness.memory_peak_bytes
    assert re.search(r"used +\d+\.\d s of processor time, \d+\.\d MiB of memory at most", result.out), result


def test_weights_and_rates_are_the_kernels(place):
    place.write("policy.yaml", POLICY)
    process = place.start("run", "--policy", place.work / "policy.yaml", "--", "sh", "-c", "echo ready; read line", stdin=-1)
    assert process.stdout.readline() == b"ready\n"
    run = place.record().name
    mine = [Path(group) for group in groups() if Path(group).name == run]
    found = {file.name: file.read_text().split() for group in mine for file in group.iterdir() if file.name in (
        "cpu.weight", "cpu.shares", "io.max", "blkio.throttle.write_bps_device", "memory.oom.group")}
    assert found.get("cpu.weight") == ["50"] or found.get("cpu.shares") == ["512"], found
    rates = found.get("io.max") or found.get("blkio.throttle.write_bps_device")
    assert str(100 << 20) in " ".join(rates), found
    assert any((group / "harness").is_dir() for group in mine)
    process.communicate(b"end\n")
    assert process.returncode == 0
