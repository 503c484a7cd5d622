"""Bombs: harnesses that use up what a host has only so much of, five at a time, beside honest ones, while somebody asks.

test_bombs.py asserts what comes of them, tests/bench/bombs/run measures how long a control request takes meanwhile.
"""

import multiprocessing
import os
import subprocess
import time
from pathlib import Path

from carrel.v1 import policy_pb2 as policy
from carrel.v1 import task_pb2 as task
from scheduler import Scheduler

SOURCE = Path(__file__).resolve().parent.parent / "data/bombs/bomb.c"
MIB = 1 << 20
BOMBS = 5
NEIGHBOURS = 2
PAUSE_S = 0.004  # between two control requests
HONEST = "cc -O1 -o hello hello.c && ./hello && i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo counted to $i"
HELLO = '#include <stdio.h>\nint main(void) {\n        puts("hello");\n        return 0;\n}\n'


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


class Prober:
    """A client that asks `list` and `get` all the time, and notes how long each took; a process, so that nothing of ours delays it."""

    def __init__(self, path):
        fork = multiprocessing.get_context("fork")
        self.path = path
        self.latencies_s = []
        self.failure = None
        self.stopped = fork.Event()
        self.notes, notes = fork.Pipe(duplex=False)
        self.process = fork.Process(target=self.ask, args=(notes,), daemon=True)

    def timed(self, ask, *words, **how):
        start = time.monotonic()
        answer = ask(*words, **how)
        self.latencies_s.append(time.monotonic() - start)
        return answer

    def ask(self, notes):
        try:
            with Scheduler.connect(self.path) as scheduler:
                while not self.stopped.wait(PAUSE_S):
                    for run in self.timed(scheduler.list, live=True)[:1]:
                        self.timed(scheduler.get, run.id)
        except Exception as failure:  # for whoever waits for the end
            self.failure = repr(failure)
        notes.send((self.latencies_s, self.failure))

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        if self.notes.poll(60):
            self.latencies_s, self.failure = self.notes.recv()
        else:
            self.failure = "a request was not answered within 60 s"
        self.process.kill()
        self.process.join()

    def milliseconds(self, percent):
        assert self.failure is None, f"a control request failed: {self.failure}"
        return percentile(self.latencies_s, percent) * 1000

    def __str__(self):
        words = ", ".join(f"{name} {self.milliseconds(at):.1f}" for name, at in (("p50", 50), ("p99", 99), ("max", 100)))
        return f"{len(self.latencies_s)} control requests: {words} ms"


class Range:
    """Where bombs go off: compiled once, and a policy that bounds them."""

    def __init__(self, place):
        self.place = place
        self.code = place.work / "code"
        self.code.mkdir()
        (self.code / "hello.c").write_text(HELLO)
        subprocess.run(["cc", "-O2", "-pthread", "-o", self.code / "bomb", SOURCE], check=True)

    def policy(self):
        wanted = policy.Policy(name="small", extends="default")
        wanted.resources.memory_bytes = 96 * MIB
        wanted.resources.pids = 200
        wanted.resources.open_files = 4096
        wanted.filesystem.disk_bytes = 64 * MIB
        wanted.filesystem.tmp_bytes = 16 * MIB
        wanted.limits.log_bytes = 1 * MIB
        wanted.limits.artifact_bytes = 32 * MIB
        wanted.limits.stop_grace_us = 200_000
        return wanted

    def submit(self, scheduler, name, script, seconds, bounded=True):
        """Start a run of this place's, whose harness is a shell's script; return its id."""
        wanted = task.Task(name=f"{self.place.name}-{name}", owner="ada", source=task.Source(directory=str(self.code)))
        wanted.harness.command.extend(["sh", "-c", script])
        wanted.harness.timeout_us = int(seconds * 1e6)
        wanted.harness.prompt_delivery = task.PROMPT_DELIVERY_NONE
        return scheduler.submit(wanted, policy=self.policy() if bounded else None).id

    def warm_up(self):
        """One run that makes the image's root, which is kept."""
        with Scheduler.connect(self.place.socket) as scheduler:
            scheduler.wait(self.submit(scheduler, "first", "true", 60))
        self.place.settle()

    def go_off(self, kind, script=None, seconds=3):
        """Five bombs and the neighbours at once: ({bombs' ids: outcomes}, {neighbours': outcomes}, the Prober)."""
        with Scheduler.connect(self.place.socket) as scheduler, Prober(self.place.socket) as prober:
            bombs = [self.submit(scheduler, kind, script or f"exec ./bomb {kind}", seconds) for _ in range(BOMBS)]
            honest = [self.submit(scheduler, "honest", HONEST, 60, bounded=False) for _ in range(NEIGHBOURS)]
            outcomes = {run: scheduler.wait(run) for run in bombs + honest}
        return {run: outcomes[run] for run in bombs}, {run: outcomes[run] for run in honest}, prober


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
