"""Bombs in five workspaces at once: control requests are answered, neighbours finish, bombs end for the right reason, nothing is left."""

import ctypes
import os

import pytest

from bombs import MIB, Range, descriptors, resident_bytes
from carrel.v1 import common_pb2 as common
from carrel.v1 import control_pb2 as control
from carrel.v1 import event_pb2 as events
from place import until

# What a loop that is stuck breaks, and a machine that others use, too, does not: tests/bench/bombs/run has the figure.
MAX_P99_MS = 2000
TIMED_OUT = (events.RUN_STATE_TIMED_OUT, common.REASON_TIMEOUT)
OUT_OF_MEMORY = (events.RUN_STATE_FAILED, common.REASON_OUT_OF_MEMORY)
DISK_FULL = (events.RUN_STATE_FAILED, common.REASON_DISK_FULL)

# How each kind may end, and the limits that its record names.
KINDS = {
    "fork": ({TIMED_OUT}, {"resources.pids"}),
    "threads": ({TIMED_OUT}, {"resources.pids"}),
    "exits": ({TIMED_OUT, OUT_OF_MEMORY}, set()),  # the dead take memory, until somebody has had the time to reap them
    "orphans": ({TIMED_OUT, OUT_OF_MEMORY}, set()),
    "zombies": ({TIMED_OUT}, {"resources.pids"}),
    "signals": ({TIMED_OUT}, set()),
    "memory": ({OUT_OF_MEMORY}, {"resources.memory"}),
    "descriptors": ({TIMED_OUT, OUT_OF_MEMORY}, set()),  # of which the kernel has less: descriptors, or memory for them
    "flight": ({TIMED_OUT, OUT_OF_MEMORY}, set()),
    "log": ({TIMED_OUT}, {"limits.log"}),
    "chatter": ({TIMED_OUT}, {"limits.log"}),
    "disk": ({DISK_FULL}, {"filesystem.disk"}),
    "guest": ({TIMED_OUT}, set()),
    "deaf": ({TIMED_OUT}, set()),
}
FAILED = (events.RUN_STATE_FAILED, common.REASON_HARNESS_FAILED)  # a shell that cannot fork gives up
SCRIPTS = {"sh": ("fork", "bomb() { bomb | bomb & }; bomb; while :; do :; done"), "python": ("fork", "exec python3 fork.py")}


@pytest.fixture
def ground(place, carreld):
    made = Range(place)
    (made.code / "fork.py").write_text("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n")
    return made


def limits_hit(journal):
    return {event.limit_hit.limit for event in journal if event.HasField("limit_hit")}


def record_bytes(run):
    """What the record takes on the disk, without the changes and artifacts, which have limits of their own."""
    return sum(file.stat().st_blocks * 512 for file in run.iterdir() if file.is_file() and file.name in ("journal", "log"))


def check_bombs(place, ended, states, limits):
    for run, outcome in ended.items():
        journal = place.journal(place.state / "runs" / run)
        assert (outcome.state, outcome.reason) in states, f"{run}: {outcome}"
        assert limits <= limits_hit(journal), f"{run}: {limits_hit(journal)}"
        assert outcome.error.what, run
        assert record_bytes(place.state / "runs" / run) < 3 * MIB, run


def check_supervisor(carreld, before):
    """It lives, holds what it held, and has let go of the rest."""
    pid = carreld.process.pid
    assert carreld.process.poll() is None
    assert resident_bytes(pid) - before["memory"] < 16 * MIB
    until(lambda: descriptors(pid) <= before["descriptors"], what="the supervisor's descriptors are closed")


@pytest.mark.parametrize("kind", [*KINDS, *SCRIPTS])
def test_five_bombs_at_once(place, carreld, ground, kind):
    base, script = SCRIPTS.get(kind, (kind, None))
    states, limits = KINDS[base]
    pid = carreld.process.pid
    ground.warm_up()
    before = {"memory": resident_bytes(pid), "descriptors": descriptors(pid)}
    ended, honest, prober = ground.go_off(kind, script)
    print(f"{kind}: {prober}")
    place.settle()
    check_bombs(place, ended, states | {FAILED} if kind == "sh" else states, limits)
    for run, outcome in honest.items():
        assert outcome.state == events.RUN_STATE_SUCCEEDED, f"neighbour {run}: {outcome}"
        assert (place.state / "runs" / run / "log").read_text() == "hello\ncounted to 20000\n"
    assert prober.milliseconds(99) < MAX_P99_MS, str(prober)
    check_supervisor(carreld, before)


def test_what_a_workspace_holds_of_the_kernel_is_not_counted_as_roots(place, scheduler, ground):
    """Inotify instances: the kernel has 128 for a user, and counts a user namespace's for who owns it."""
    libc = "import ctypes\nlibc = ctypes.CDLL(None)\n"
    hold = "n = 0\nwhile libc.inotify_init() >= 0:\n    n += 1\nprint(n, flush=True)\nlibc.pause()\n"
    (ground.code / "hold.py").write_text(libc + hold)
    run = ground.submit(scheduler, "inotify", "exec python3 hold.py", 60)
    until(lambda: scheduler.logs(run), what="it holds all that it gets")
    assert int(scheduler.logs(run)) > 100
    mine = ctypes.CDLL(None, use_errno=True).inotify_init()
    assert mine >= 0, os.strerror(ctypes.get_errno())
    os.close(mine)
    assert place.run("true").status == 0  # a supervisor of its own, whose loop needs one as well
    scheduler.stop(run)
    scheduler.wait(run)


def test_a_guest_that_reads_no_answers_costs_the_shim_no_memory(place, scheduler, ground):
    run = ground.submit(scheduler, "deaf", "exec ./bomb deaf", 60)
    scheduler.wait_for(run, lambda event: event.HasField("process_started"))
    (shim,) = [pid for pid, name in place.own_processes().items() if name == "carrel-shim"]
    used = [resident_bytes(shim) for _ in range(5000) if scheduler.get(run)]
    scheduler.stop(run)
    scheduler.wait(run)
    assert max(used) < 12 * MIB


def test_a_removal_holds_up_nobody(place, scheduler, ground):
    many = "python3 -c \"[open(f'f{i}', 'w').close() for i in range(20000)]\""
    run = ground.submit(scheduler, "many", many, 60, bounded=False)
    assert scheduler.wait(run).state == events.RUN_STATE_SUCCEEDED
    place.settle()
    removal = scheduler.ask(remove=control.RemoveRequest(run=run))
    assert scheduler.list() == []  # the run is gone already, its files are not
    assert not scheduler.waiting[removal], "the list was answered after the removal"
    scheduler.response(removal)
    assert not (place.state / "runs" / run).exists()
