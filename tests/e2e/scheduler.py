"""A scheduler for carrel in a page: how a platform's own orchestrator drives carreld.

It shares no code with carrel. All it knows is proto/PROTOCOL.md and proto/carrel/v1/*.proto, from which
`protoc --python_out` makes the modules below (conftest.py does that for the tests).

    with Scheduler.connect("/run/carrel/control.sock") as scheduler:
        run = scheduler.submit(task)
        for event in scheduler.watch(run.id):
            ...                                    # remember event.sequence: watch(run.id, after=that) goes on there
        patch = scheduler.artifact(run.id, "workspace.patch").read()

Requests may be sent while a watch is open: responses are sorted by their id.
"""

import collections
import os
import socket
import struct

from carrel.v1 import control_pb2 as control
from carrel.v1 import event_pb2 as events

HEADER = struct.Struct(">IB3x")  # bytes of the message, how many descriptors come along, three zero bytes
MAX_FRAME = 4 * 1024 * 1024  # the most that a supervisor sends
MAX_DESCRIPTORS = 16
VERSION = 1


class Refused(Exception):
    """The supervisor's answer was an error; .error is the message."""

    def __init__(self, error):
        super().__init__(f"{error.what} (errno {error.code}; field '{error.field}'; hint: {error.hint})")
        self.error = error


class Closed(ConnectionError):
    """The supervisor has closed the connection."""


def encode(message, descriptors=0):
    """A frame's bytes."""
    body = message.SerializeToString()
    return HEADER.pack(len(body), descriptors) + body


class Artifact:
    """An artifact and the descriptor that reads it; what it shows never changes."""

    def __init__(self, description, descriptor):
        self.description = description
        self.descriptor = descriptor

    def read(self):
        with os.fdopen(os.dup(self.descriptor), "rb") as file:
            return os.pread(file.fileno(), self.description.size_bytes + 1, 0)

    def close(self):
        os.close(self.descriptor)


class Scheduler:
    """One connection to a supervisor."""

    def __init__(self, connection):
        self.connection = connection
        self.last_id = 0
        self.waiting = {}  # id -> responses that came while somebody waited for another id
        self.server = None

    @classmethod
    def connect(cls, path, hello=True, timeout=60):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        connection.connect(str(path))
        self = cls(connection)
        if hello:
            self.hello()
        return self

    def close(self):
        for responses in self.waiting.values():
            for _, descriptors in responses:
                for fd in descriptors:
                    os.close(fd)
        self.waiting = {}
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- frames ----

    def send(self, message, descriptors=()):
        data = encode(message, len(descriptors))
        sent = socket.send_fds(self.connection, [data], list(descriptors)) if descriptors else 0
        self.connection.sendall(data[sent:])

    def receive_bytes(self, size):
        """Exactly so many bytes and the descriptors that came along."""
        data, descriptors = b"", []
        while len(data) < size:
            more, fds, _, _ = socket.recv_fds(self.connection, size - len(data), MAX_DESCRIPTORS)
            descriptors += fds
            if not more:
                raise Closed(f"closed after {len(data)} of {size} bytes")
            data += more
        return data, descriptors

    def receive(self):
        """The next response and its descriptors."""
        header, descriptors = self.receive_bytes(HEADER.size)
        size, announced = HEADER.unpack(header)
        if size > MAX_FRAME:
            raise ConnectionError(f"a response of {size} bytes")
        body, more = self.receive_bytes(size)
        descriptors += more
        if len(descriptors) != announced:
            raise ConnectionError(f"{len(descriptors)} descriptors came, {announced} were announced")
        return control.Response.FromString(body), descriptors

    # ---- requests ----

    def ask(self, descriptors=(), **body):
        """Send a request; return its id."""
        self.last_id += 1
        request = control.Request(id=self.last_id, **body)
        self.waiting[request.id] = collections.deque()
        self.send(request, descriptors)
        return request.id

    def response(self, request):
        """The next response of a request, in order; after an error there is none. A last one ends the request."""
        while not self.waiting[request]:
            response, descriptors = self.receive()
            if response.id not in self.waiting:
                raise ConnectionError(f"a response to request {response.id}, which does not wait")
            self.waiting[response.id].append((response, descriptors))
        response, descriptors = self.waiting[request].popleft()
        if response.last:
            del self.waiting[request]
        if response.HasField("error"):
            raise Refused(response.error)
        return response, descriptors

    def call(self, descriptors=(), **body):
        """One request, one response."""
        response, received = self.response(self.ask(descriptors, **body))
        assert response.last
        return response, received

    def each(self, field, **body):
        """One request, many responses; ends with Done."""
        request = self.ask(**body)
        while True:
            response, _ = self.response(request)
            if response.WhichOneof("body") == field:
                yield getattr(response, field)
            if response.last:
                return

    def hello(self, version=VERSION):
        response, _ = self.call(hello=control.HelloRequest(version=version, client="example scheduler"))
        if response.hello.version != VERSION:
            raise ConnectionError(f"the supervisor speaks version {response.hello.version}")
        self.server = response.hello
        return response.hello

    def submit(self, task, policy=None, grants=None, terminal=None, descriptors=()):
        """Start a run. grants: {name: bytes} for those whose value is in no file; descriptors: attach to them."""
        request = control.SubmitRequest(task=task, policy=policy, attach=bool(descriptors), terminal=terminal)
        for name, value in (grants or {}).items():
            request.grants.add(name=name, value=value)
        response, _ = self.call(descriptors, submit=request)
        return response.submit.run

    def get(self, run):
        return self.call(get=control.GetRequest(run=run))[0].run

    def list(self, live=False, limit=0):
        return list(self.each("run", list=control.ListRequest(live=live, limit=limit)))

    def watch(self, run, after=0, follow=True):
        """The run's events from number after + 1, to its end or, without follow, to the journal's present one."""
        return self.each("event", watch=control.WatchRequest(run=run, after=after, follow=follow))

    def wait_for(self, run, wanted, after=0):
        """Follow a run until wanted(event) is true; return that event."""
        for event in self.watch(run, after=after):
            if wanted(event):
                return event
        raise AssertionError(f"run {run} ended without the event that was waited for")

    def wait(self, run):
        """Wait for a run's end; return its outcome."""
        return self.wait_for(run, lambda event: event.HasField("finished")).finished.outcome

    def logs(self, run):
        """All that the run's processes have written so far."""
        response, (fd,) = self.call(logs=control.LogsRequest(run=run))
        try:
            data = b""
            while len(data) < response.logs.size_bytes:
                data += os.pread(fd, response.logs.size_bytes - len(data), len(data))
            return data
        finally:
            os.close(fd)

    def artifacts(self, run):
        return list(self.each("artifact", artifacts=control.ArtifactsRequest(run=run)))

    def artifact(self, run, name):
        response, (fd,) = self.call(artifact=control.ArtifactRequest(run=run, name=name))
        return Artifact(response.artifact, fd)

    def changes(self, run):
        """What the run changed: a description, and descriptors of the original and of the changes."""
        response, (lower, upper) = self.call(changes=control.ChangesRequest(run=run))
        return response.changes, lower, upper

    def feedback(self, run, text="", id="", source="", kind=events.FEEDBACK_KIND_COMMENT):
        feedback = events.Feedback(id=id, kind=kind, source=source, text=text)
        self.call(feedback=control.FeedbackRequest(run=run, feedback=feedback))

    def accept(self, run, id=""):
        self.feedback(run, id=id, kind=events.FEEDBACK_KIND_ACCEPT)

    def stop(self, run, why=""):
        self.call(stop=control.StopRequest(run=run, why=why))

    def remove(self, run):
        self.call(remove=control.RemoveRequest(run=run))

    def resize(self, run, rows, columns):
        request = control.ResizeRequest(run=run)
        request.terminal.rows, request.terminal.columns = rows, columns
        self.call(resize=request)
