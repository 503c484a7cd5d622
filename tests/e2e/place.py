"""Where one test's runs live: its directories, its daemon, its command line, and what they may not leave behind.

Everything that a test starts carries the place's path in its environment (MARK), which carreld's zygote and shims
keep: so what is left can be told from what other users of the machine do.
"""

import glob
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from carrel.v1 import event_pb2 as events

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("CARREL_BUILD", ROOT / "build")).resolve()
CARREL = BUILD / "tools/carrel/carrel"
CARRELD = BUILD / "runtime/supervisor/carreld"
MARK = "CARREL_E2E_PLACE"
LEFT_TIMEOUT_S = 5


def until(wanted, timeout=10, what=None):
    """Wait until wanted() is true, and return what it returned."""
    end = time.monotonic() + timeout
    while True:
        value = wanted()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what or wanted}")
        time.sleep(0.01)


def read_journal(run):
    """The entries of a record's journal: (bytes as they stand there, Event)."""
    data = (Path(run) / "journal").read_bytes()
    at, entries = 0, []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        raw = data[at + 4 : at + 4 + size]
        assert len(raw) == size, "the journal's last entry is torn"
        entries.append((raw, events.Event.FromString(raw)))
        at += 4 + size
    return entries


# ---- processes, control groups, mounts --------------------------------------------------------------


def processes():
    """pid -> (name, parent) of all processes."""
    found = {}
    for directory in glob.glob("/proc/[0-9]*"):
        try:
            text = Path(directory, "stat").read_text()
        except OSError:
            continue
        name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        if rest[0] != "Z":
            found[int(directory[6:])] = (name, int(rest[1]))
    return found


def children(pid):
    return [child for child, (_, parent) in processes().items() if parent == pid]


def groups():
    """All control groups that carrel made for runs, of every hierarchy."""
    patterns = ("/sys/fs/cgroup/carrel/*/", "/sys/fs/cgroup/*/carrel/*/", "/sys/fs/cgroup/*/**/carrel/*/")
    return {path.rstrip("/") for pattern in patterns for path in glob.glob(pattern, recursive=True)}


def mounts_below(path):
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f" {path}/" in line or f"={path}/" in line]


def loops_below(path):
    """Loop devices that are bound to a file below a directory, also to one that was removed."""
    found = []
    for name in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            backing = Path(name).read_text()
        except OSError:
            continue
        if backing.startswith(f"{path}/"):
            found.append(f"{name.split('/')[3]} {backing.strip()}")
    return found


# ---- results ----------------------------------------------------------------------------------------


class Result:
    """How a command ended."""

    def __init__(self, status, stdout, stderr):
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    @property
    def out(self):
        return self.stdout.decode()

    @property
    def err(self):
        return self.stderr.decode()

    @property
    def json(self):
        """The documents of --json, a line each."""
        return [json.loads(line) for line in self.out.splitlines()]

    def __repr__(self):
        return f"status {self.status}\nstdout: {self.stdout[-2000:]!r}\nstderr: {self.stderr[-2000:]!r}"


class Place:
    """The directories of one test, and the means to run things there."""

    def __init__(self):
        self.base = Path(tempfile.mkdtemp(prefix="carrel-e2e-", dir="/var/tmp"))
        self.base.chmod(0o755)
        self.state = self.base / "state"
        self.work = self.base / "work"
        self.socket = self.base / "control.sock"
        self.state.mkdir(mode=0o700)
        self.work.mkdir()
        self.name = self.base.name.lower().replace("_", "-")  # for tasks, whose runs' ids begin with it
        self.ids_seen = set()
        self.clients = []

    # ---- running carrel ----

    def environment(self, daemon=False, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CARREL")}
        environment[MARK] = str(self.base)
        environment["CARREL_STATE_DIR"] = str(self.state)
        if daemon:
            environment["CARREL_SOCKET"] = str(self.socket)
        else:
            environment["CARREL_EMBEDDED"] = "1"
        environment.update({name: str(value) for name, value in more.items()})
        return environment

    def start(self, *arguments, daemon=False, cwd=None, env=None, before=(), **popen):
        """Start carrel, behind the words of another command, if any, and return the Popen."""
        command = [*before, str(CARREL), *(str(argument) for argument in arguments)]
        environment = self.environment(daemon, **(env or {}))
        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        process = subprocess.Popen(command, cwd=cwd or self.work, env=environment, **popen)
        self.clients.append(process)
        return process

    def carrel(self, *arguments, input=None, timeout=60, **how):
        """Run carrel to its end; return the Result."""
        if input is not None:
            how["stdin"] = subprocess.PIPE
        process = self.start(*arguments, **how)
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"carrel {arguments} did not end within {timeout} s: {stdout!r} {stderr!r}") from None
        return Result(process.returncode, stdout, stderr)

    def run(self, *command, **how):
        """carrel run -- COMMAND; options of run as options=[...]."""
        options = how.pop("options", [])
        return self.carrel("run", *options, "--", *command, **how)

    def shell(self, script, *options, **how):
        """carrel run -- sh -c SCRIPT"""
        return self.run("sh", "-c", script, options=options, **how)

    def write(self, name, text):
        """A file in the work directory."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    # ---- records ----

    def runs(self):
        """The records' directories, oldest first."""
        found = sorted((self.state / "runs").glob("*"), key=lambda path: path.stat().st_mtime)
        self.ids_seen |= {path.name for path in found}
        return found

    def settle(self):
        """Wait until ended runs have given back what nobody has to wait for: then a record is at rest."""
        until(lambda: not os.listdir(self.state / "ids"), what="the id ranges are given back")

    def record(self):
        """The directory of the only record."""
        (run,) = self.runs()
        return run

    def journal(self, run=None):
        return [event for _, event in read_journal(run or self.record())]

    def outcome(self, run=None):
        last = self.journal(run)[-1]
        assert last.HasField("finished"), f"the journal ends with {last}"
        return last.finished.outcome

    # ---- what must not be left ----

    def own_processes(self):
        """pid -> name of all processes that were started for this place, by their mark or their ancestors."""
        all_of_them = processes()
        own = set()
        for pid in all_of_them:
            try:
                if f"{MARK}={self.base}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    own.add(pid)
            except OSError:
                pass
        grown = True
        while grown:
            grown = {pid for pid, (_, parent) in all_of_them.items() if parent in own} - own
            own |= grown
        return {pid: all_of_them[pid][0] for pid in own}

    def own_groups(self):
        """Groups of this place's runs: by the ids of its records, or by a task's name."""
        self.runs()
        return {p for p in groups() if Path(p).name in self.ids_seen or Path(p).name.startswith(self.name)}

    def left(self):
        """What is there that should be gone: a list of words, empty when all is well."""
        found = [f"process {pid} '{name}'" for pid, name in self.own_processes().items()]
        found += [f"control group {path}" for path in self.own_groups()]
        found += [f"mount {line}" for line in mounts_below(self.base)]
        found += [f"loop device {name}" for name in loops_below(self.base)]
        ids = self.state / "ids"
        found += [f"id range {name}" for name in (os.listdir(ids) if ids.is_dir() else [])]
        found += [f"spool {path}" for path in self.state.glob("runs/*/shim")]
        return found

    def end_clients(self):
        """Those that a test which failed did not come to end."""
        for process in self.clients:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()

    def wait_until_nothing_is_left(self):
        """Return what is still left when the time is over; a group or process may need a moment to go."""
        end = time.monotonic() + LEFT_TIMEOUT_S
        while self.left() and time.monotonic() < end:
            time.sleep(0.02)
        return self.left()

    def clean(self):
        """Force everything away: after a failure, so that the next test starts from nothing."""
        for pid in self.own_processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for path in sorted(self.own_groups(), reverse=True):
            try:
                os.rmdir(path)
            except OSError:
                pass

    def remove(self):
        if mounts_below(self.base):
            raise AssertionError(f"'{self.base}' is kept: something is mounted below it")
        subprocess.run(["rm", "-rf", self.base], check=True)  # of any depth, which Python's own is not


class Daemon:
    """A carreld of a place's own."""

    def __init__(self, place):
        self.place = place
        self.process = None
        self.log = place.base / "carreld.log"

    def start(self):
        place = self.place
        command = [str(CARRELD), "--state-dir", str(place.state), "--socket", str(place.socket)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, env=place.environment(daemon=True), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self.answers, what=f"carreld listens on {place.socket}")
        return self

    def answers(self):
        assert self.process.poll() is None, f"carreld ended: {self.log.read_text()}"
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.place.socket))
                return True
            except OSError:
                return False

    def kill(self):
        """kill -9, as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """End it as an operator does; return its status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("carreld did not end on SIGTERM within 10 s") from None

    def carrel(self, *arguments, **how):
        return self.place.carrel(*arguments, daemon=True, **how)
