"""A harness that gives its shim what holds it up: the run ends in time all the same, and gives away no credential."""

import os
import time
from pathlib import Path

import pytest

from carrel.v1 import common_pb2 as common
from carrel.v1 import event_pb2 as events
from carrel.v1 import policy_pb2 as policy
from carrel.v1 import task_pb2 as task
from place import until
from scheduler import Scheduler

VALUE = b"ghp_16C7e42F292c6912E7710c838347Ae178B4a"
SLACK_S = 15  # runtime/supervisor/deadline.c
GRACE_US = 200_000

# Frames of proto/wire, with one descriptor: a status, which closes it, and an artifact 'x', which reads it.
SEND = """
import os, socket, struct, sys, time
def ask(frame, fd):
    guest = socket.socket(socket.AF_UNIX)
    guest.connect("/run/carrel/guest.sock")
    socket.send_fds(guest, [frame[:-1]], [fd])
    os.close(fd)  # the shim's is the last one now, and it has the rest of the frame to come
    guest.send(frame[-1:])
    return guest
STATUS = b"\\0\\0\\0\\x02\\x01\\0\\0\\0" + b"\\x1a\\0"
ARTIFACT = b"\\0\\0\\0\\x05\\x01\\0\\0\\0" + b"\\x12\\x03\\x0a\\x01x"
"""
# Its last owner closes it when what was sent is taken, or 28 hours are over; nobody takes it.
LINGER = SEND + """
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
client.setblocking(False)
try:
    while True:
        client.send(bytes(65536))
except BlockingIOError:
    pass
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 100000))
print("ready", flush=True)
time.sleep(0.5)
guest = ask(STATUS, client.detach())
time.sleep(1000)
"""


def make_task(place, script, timeout_s, **more):
    code = place.work / "code"
    code.mkdir()
    (code / "harness.py").write_text(script)
    return task.Task(
        name=place.name,
        owner="ada",
        source=task.Source(directory=str(code)),
        harness=task.Harness(command=["python3", "harness.py"]),
        timeout_us=timeout_s * 1_000_000,
        **more,
    )


def short_grace():
    return policy.Policy(name="short", extends="default", limits=policy.Limits(stop_grace_us=GRACE_US))


def printed(scheduler, run, words):
    return until(lambda: words in scheduler.logs(run.id), what=f"the run prints {words}")


HELD_UP = ", and its shim, held up by what the harness gave it, was killed"


def test_a_run_ends_in_time_though_its_shim_hangs_in_a_socket_that_lingers(place, scheduler):
    begun = time.monotonic()
    run = scheduler.submit(make_task(place, LINGER, 2), policy=short_grace())
    outcome = scheduler.wait(run.id)
    assert (outcome.state, outcome.reason) == (events.RUN_STATE_TIMED_OUT, common.REASON_TIMEOUT)
    assert outcome.error.what == "the run did not end within its time limit" + HELD_UP
    assert 2 + SLACK_S < time.monotonic() - begun < 2 + SLACK_S + 15


def test_a_run_is_stopped_though_its_shim_hangs_and_another_supervisor_started_it(place, carreld, scheduler):
    run = scheduler.submit(make_task(place, LINGER, 3600), policy=short_grace())
    printed(scheduler, run, b"ready")
    time.sleep(1)  # until the harness has sent it
    carreld.kill()
    carreld.start()
    with Scheduler.connect(place.socket) as other:
        other.stop(run.id)
        outcome = other.wait(run.id)
    assert (outcome.state, outcome.reason) == (events.RUN_STATE_STOPPED, common.REASON_STOPPED)
    assert outcome.error.what == "the run was stopped" + HELD_UP


# A file of a quarter of a terabyte, which says that it has no bytes; only who opened it makes it that large.
ENDLESS = SEND + """
guest = ask(ARTIFACT, os.open("/proc/self/pagemap", os.O_RDONLY))
print("answer", len(guest.recv(1000)) > 0, flush=True)
"""


def test_an_artifact_that_is_longer_than_it_says_is_read_as_far_as_it_says(place, scheduler):
    wanted = make_task(place, ENDLESS, 5)
    wanted.grants.add(name="key", scope=task.GRANT_SCOPE_RUN)
    run = scheduler.submit(wanted, policy=short_grace(), grants={"key": VALUE})
    assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
    assert scheduler.logs(run.id) == b"answer True\n"
    assert [artifact.size_bytes for artifact in scheduler.artifacts(run.id) if artifact.name == "x"] == [0]


# A file that is shorter by the end than at the beginning cannot be copied whole.
SHRINKING = SEND + """
answers = []
for _ in range(6):
    fd = os.memfd_create("x")
    os.ftruncate(fd, 400 << 20)
    guest = ask(ARTIFACT, os.dup(fd))
    time.sleep(0.05)
    os.ftruncate(fd, 0)
    os.close(fd)
    answers.append(guest.recv(1000))
print(sum(b"read in vain" in answer for answer in answers))
"""


def test_artifacts_that_come_to_nothing_are_not_read_for_ever(place, scheduler):
    run = scheduler.submit(make_task(place, SHRINKING, 60))
    assert scheduler.wait(run.id).state == events.RUN_STATE_SUCCEEDED
    assert int(scheduler.logs(run.id)) >= 4  # 512 MiB may be wasted


TALK = {
    "bytes": "import fcntl, os\nfcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT)\nwhile True: os.write(1, b'x')\n",
    "requests": SEND
    + """
guest = socket.socket(socket.AF_UNIX)
guest.connect("/run/carrel/guest.sock")
while True:
    guest.send(b"\\0\\0\\0\\x02\\0\\0\\0\\0" + b"\\x1a\\0")
    guest.recv(1 << 16)
""",
}


def cpu_s(pid):
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("kind", TALK)
def test_a_harness_that_talks_for_ever_leaves_its_shim_some_of_a_processor(place, scheduler, kind):
    run = scheduler.submit(make_task(place, TALK[kind], 60), policy=short_grace())
    (shim,) = until(lambda: [pid for pid, name in place.own_processes().items() if name == "carrel-shim"])
    time.sleep(1)
    begun = cpu_s(shim)
    time.sleep(3)
    used = cpu_s(shim) - begun
    scheduler.stop(run.id)
    scheduler.wait(run.id)
    assert used < 0.75, f"{used} s of processor time in 3 s"
