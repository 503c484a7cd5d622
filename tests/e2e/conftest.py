"""Fixtures: a place for each test, a daemon where it wants one, and the check that nothing is left."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
PROTO = Path(__file__).resolve().parent.parent.parent / "proto"


def generate_messages():
    """The messages as Python modules, made anew from the .proto files for this session."""
    directory = tempfile.mkdtemp(prefix="carrel-e2e-proto-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("carrel/v1/*.proto"))
    subprocess.run(["protoc", f"--proto_path={PROTO}", f"--python_out={directory}", *files], check=True)
    sys.path.insert(0, directory)


generate_messages()

from place import CARREL, CARRELD, Daemon, Place  # noqa: E402
from scheduler import Scheduler  # noqa: E402


def pytest_sessionstart(session):
    if os.geteuid() != 0:
        raise pytest.UsageError("the end-to-end tests make workspaces: run them as root")
    for binary in (CARREL, CARRELD):
        if not binary.exists():
            raise pytest.UsageError(f"'{binary}' is not there: build first, or set CARREL_BUILD")


@pytest.fixture(autouse=True)
def place():
    """The test's own directories; afterwards nothing of its runs may be left on the host."""
    here = Place()
    try:
        yield here
        here.end_clients()
        left = here.wait_until_nothing_is_left()
    finally:
        here.clean()
        here.remove()
    assert not left, "left behind:\n  " + "\n  ".join(left)


@pytest.fixture
def state(place):
    return place.state


@pytest.fixture
def carrel(place):
    """carrel(...) with a supervisor of its own for each command; the Result."""
    return place.carrel


@pytest.fixture
def carreld(place):
    """A running daemon with the place's state directory."""
    daemon = Daemon(place)
    daemon.start()
    yield daemon
    assert daemon.stop() == 0, daemon.log.read_text()


@pytest.fixture
def scheduler(carreld, place):
    with Scheduler.connect(place.socket) as client:
        yield client


@pytest.fixture
def connect(place, carreld):
    """connect(hello=True): another client of the place's daemon."""
    clients = []

    def connect(hello=True):
        clients.append(Scheduler.connect(place.socket, hello=hello))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()
