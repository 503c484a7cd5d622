"""What breaks a connection breaks that connection only."""

import collections
import os
import socket
import struct

import pytest

from carrel.v1 import control_pb2 as control
from carrel.v1 import task_pb2 as task
from scheduler import Closed, Refused, Scheduler, encode

HELLO = encode(control.Request(id=1, hello=control.HelloRequest(version=1, client="hostile")))
LIST = encode(control.Request(id=2, list=control.ListRequest()))


def header(size, descriptors=0, zero=b"\0\0\0"):
    return struct.pack(">IB", size, descriptors) + zero


HOSTILE = {
    "a length past the limit": HELLO + header((1 << 20) + 1),
    "the largest length": HELLO + header(0xFFFFFFFF),
    "a header whose last bytes are not zero": HELLO + header(4, zero=b"\0\1\0") + b"abcd",
    "descriptors that did not come": HELLO + header(4, descriptors=1) + b"abcd",
    "too many descriptors announced": HELLO + header(4, descriptors=255) + b"abcd",
    "garbage": os.urandom(4096),
    "garbage behind hello": HELLO + bytes(range(255, 0, -1)),
    "a message that does not decode": HELLO + header(4) + b"\xff\xff\xff\xff",
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "hello twice": HELLO + HELLO,
}


def read_to_end(connection):
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bytes_close_their_connection_and_no_other(connect, scheduler, case):
    hostile = connect(hello=False)
    hostile.connection.settimeout(5)
    try:
        hostile.connection.sendall(HOSTILE[case])
    except (BrokenPipeError, ConnectionResetError):
        pass
    read_to_end(hostile.connection)  # ends, or times out and fails the test
    assert scheduler.list() == []


@pytest.mark.parametrize("cut", [1, 7, 8, 9, len(HELLO) - 1])
def test_a_frame_that_is_cut_off_closes_its_connection_and_no_other(connect, scheduler, cut):
    hostile = connect(hello=False)
    hostile.connection.sendall(HELLO[:cut])
    hostile.connection.shutdown(socket.SHUT_WR)
    hostile.connection.settimeout(5)
    assert read_to_end(hostile.connection) == b""
    assert scheduler.list() == []


def test_descriptors_that_were_not_announced_close_the_connection(connect, scheduler):
    hostile = connect()
    with open("/dev/null") as null:
        socket.send_fds(hostile.connection, [LIST], [null.fileno()])
    hostile.connection.settimeout(5)
    assert read_to_end(hostile.connection) == b""
    assert scheduler.list() == []


def test_a_first_request_other_than_hello_is_answered_with_an_error_and_closed(connect, scheduler):
    hostile = connect(hello=False)
    with pytest.raises(Refused) as refused:
        hostile.list()
    assert "hello" in refused.value.error.what.lower()
    with pytest.raises(Closed):
        hostile.receive()
    assert scheduler.list() == []


def send_raw(client, request, body):
    """A request as bytes that our own schema would not make."""
    client.waiting[request] = collections.deque()
    client.connection.sendall(header(len(body)) + body)


def test_an_id_of_0_is_refused(scheduler):
    send_raw(scheduler, 0, control.Request(list=control.ListRequest()).SerializeToString())
    with pytest.raises(Refused) as refused:
        scheduler.response(0)
    assert refused.value.error.code == 22
    assert scheduler.list() == []


def test_an_id_that_still_waits_is_refused(scheduler, place):
    run = scheduler.submit(task.Task(owner="ada", harness=task.Harness(command=["sleep", "60"])))
    watch = control.Request(id=100, watch=control.WatchRequest(run=run.id, follow=True)).SerializeToString()
    send_raw(scheduler, 100, watch)
    assert scheduler.response(100)[0].HasField("event")
    scheduler.connection.sendall(encode(control.Request(id=100, list=control.ListRequest())))
    with pytest.raises(Refused) as refused:
        while True:
            scheduler.response(100)
    assert refused.value.error.code == 22
    with Scheduler.connect(place.socket) as other:  # this connection's client has lost count
        other.stop(run.id)
        other.wait(run.id)


def test_a_request_without_a_body_is_refused(scheduler):
    with pytest.raises(Refused) as refused:
        scheduler.call()
    assert refused.value.error.code == 22
    assert scheduler.list() == []


def test_a_request_of_a_later_protocol_is_refused(scheduler):
    """Field 99: this version knows no such request."""
    send_raw(scheduler, 7, control.Request(id=7).SerializeToString() + b"\x9a\x06\x00")
    with pytest.raises(Refused) as refused:
        scheduler.response(7)
    assert refused.value.error.code == 22
    assert scheduler.list() == []


def test_fields_of_a_later_protocol_are_ignored(scheduler):
    send_raw(scheduler, 7, control.Request(id=7, list=control.ListRequest()).SerializeToString() + b"\x9a\x06\x03abc")
    assert scheduler.response(7)[0].HasField("done")


def test_an_older_protocol_is_refused(connect):
    client = connect(hello=False)
    with pytest.raises(Refused) as refused:
        client.hello(version=0)
    assert "version 0 is not spoken here" in refused.value.error.what


def test_a_newer_client_is_told_what_to_speak(connect):
    client = connect(hello=False)
    assert client.hello(version=9).version == 1
    assert client.server.server.startswith("carreld ") and client.server.max_frame_bytes == 1 << 20


def test_requests_may_be_sent_without_waiting(connect):
    client = connect(hello=False)
    requests = [client.ask(hello=control.HelloRequest(version=1))]
    requests += [client.ask(list=control.ListRequest()) for _ in range(50)]
    bodies = [client.response(request)[0].WhichOneof("body") for request in reversed(requests)]
    assert bodies == ["done"] * 50 + ["hello"]


def test_a_request_byte_by_byte_is_a_request(connect):
    client = connect(hello=False)
    for byte in HELLO + LIST:
        client.connection.send(bytes([byte]))
    assert client.receive()[0].WhichOneof("body") == "hello"
    assert client.receive()[0].WhichOneof("body") == "done"


def test_a_client_that_does_not_read_costs_no_one_else(place, connect, scheduler):
    run = scheduler.submit(
        task.Task(owner="ada", harness=task.Harness(command=["sh", "-c", "for i in $(seq 20000); do echo $i; done"]))
    )
    scheduler.wait(run.id)
    lazy = connect()
    for _ in range(200):
        lazy.ask(watch=control.WatchRequest(run=run.id, follow=True))
    assert scheduler.get(run.id).id == run.id
    assert scheduler.list()[0].id == run.id


def test_other_users_are_turned_away(place, scheduler):
    pid = os.fork()
    if pid == 0:
        try:
            os.setresgid(1234, 1234, 1234)
            os.setresuid(1234, 1234, 1234)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(place.socket))
            os._exit(1)
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_submissions_that_break_their_promises_are_refused(scheduler):
    good = task.Task(owner="ada", harness=task.Harness(command=["true"]))
    with open("/dev/null") as null:
        with pytest.raises(Refused) as refused:
            scheduler.call([null.fileno()], submit=control.SubmitRequest(task=good, attach=True))
        assert refused.value.error.code in (22, 74)
        with pytest.raises(Refused):
            scheduler.call([null.fileno()], submit=control.SubmitRequest(task=good))
    with pytest.raises(Refused) as refused:
        scheduler.call(submit=control.SubmitRequest())
    assert refused.value.error.field == "task"
    relative = task.Task(owner="ada", harness=task.Harness(command=["true"]), source=task.Source(directory="code"))
    with pytest.raises(Refused) as refused:
        scheduler.submit(relative)
    assert (refused.value.error.code, refused.value.error.field) == (22, "source.directory")
    assert scheduler.list() == []
