import asyncio
import os
import signal
import socket
import sys
import threading

import pytest

from greenroom.model.errors import ConnectionError, ProtocolError, RequestSizeError
from greenroom.wire.connection import BlockingConnection, Inbox, encode
from greenroom.wire.loop_connection import LoopConnection, Turn
from greenroom.wire.messages import Inputs, Stop
from greenroom.wire.payload import Descriptor, PayloadWriter


@pytest.fixture
def pair():
    left, right = (BlockingConnection(sock) for sock in socket.socketpair())
    yield left, right
    left.close()
    right.close()


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def large(data):
    writer = PayloadWriter(10, 1 << 30)
    writer.write(data)
    payload = writer.payload()
    assert isinstance(payload, Descriptor)
    return payload


def read(payload):
    if isinstance(payload, bytes):
        return payload
    with payload.open() as file:
        return file.read()


def test_messages_arrive_in_order_with_their_payloads(pair):
    left, right = pair
    left.send(Inputs("fc-1", 0, []), [b"a", b"", b"ccc"])
    left.send(Stop("x"))
    assert right.receive() == (Inputs("fc-1", 0, [1, 0, 3]), [b"a", b"", b"ccc"])
    assert right.receive() == (Stop("x"), [])


def test_large_payloads_travel_as_descriptors(pair):
    left, right = pair
    before = open_descriptors()
    data = [os.urandom(100) for _ in range(200)]
    left.send(Inputs("fc-1", 0, []), [large(d) if n % 3 else d for n, d in enumerate(data)])
    _, payloads = right.receive()
    assert [read(p) for p in payloads] == data
    del payloads
    assert open_descriptors() == before


def test_a_size_that_the_descriptor_lacks_is_refused(pair):
    left, right = pair
    payload = large(b"x" * 100)
    payload.size = 1000
    left.send(Inputs("fc-1", 0, []), [payload])
    with pytest.raises(ProtocolError, match="another size"):
        right.receive()


def test_limits():
    writer = PayloadWriter(10, 100)
    writer.write(b"x" * 100)
    with pytest.raises(RequestSizeError, match="100 bytes"):
        writer.write(b"x")
    assert isinstance(large(b"x" * 11), Descriptor)
    small = PayloadWriter(10, 100)
    small.write(b"x" * 10)
    assert small.payload() == b"x" * 10


def test_the_end_of_the_stream_and_of_time(pair):
    left, right = pair
    with pytest.raises(TimeoutError):
        right.receive(0.01)
    assert not right.broken
    left.close()
    with pytest.raises(ConnectionError):
        right.receive()
    assert right.broken


def test_an_interrupt_in_the_middle_breaks_the_connection(pair):
    _, right = pair

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(KeyboardInterrupt):
            right.receive()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert right.broken


def test_a_slow_reader_gets_everything():
    async def main():
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        closed = []
        connection = LoopConnection(ours, Turn(asyncio.get_running_loop()), lambda *_: None, closed.append)
        count = 500
        for number in range(count):
            connection.send(Inputs("fc-1", number, []), [os.urandom(1000) if number % 50 else large(b"y" * 50)])
        await asyncio.sleep(0)
        assert connection.backlog > 0
        got = []
        reader = BlockingConnection(theirs)

        def drain():
            while len(got) < count:
                got.append(reader.receive()[0].first)

        await asyncio.to_thread(drain)
        assert got == list(range(count))
        assert connection.backlog == 0
        connection.send(Stop("last"))
        connection.close()
        assert (await asyncio.to_thread(reader.receive))[0] == Stop("last")
        assert closed == [""]
        reader.close()

    asyncio.run(main())


def test_garbage_ends_a_loop_connection_with_its_reason():
    async def main():
        ours, theirs = socket.socketpair()
        closed = asyncio.get_running_loop().create_future()
        LoopConnection(ours, Turn(asyncio.get_running_loop()), lambda *_: None, closed.set_result)
        theirs.sendall(b"\xff" * 100)
        assert "promises" in await closed
        theirs.close()

    asyncio.run(main())


def loops():
    import uvloop

    return [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("new_loop", loops(), ids=["asyncio", "uvloop"])
def test_the_end_is_noticed_behind_all_that_came_before_it(new_loop):
    """A peer that closes with something unread on its side: uvloop tells of such an end once, whatever is left to read."""

    async def main():
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        loop = asyncio.get_running_loop()
        got, closed = [], loop.create_future()
        connection = LoopConnection(ours, Turn(loop), lambda message, _: got.append(message.first), closed.set_result)
        connection.send(Stop("unread"))
        connection.flush()
        peer, sent = BlockingConnection(theirs), 0
        theirs.setblocking(False)
        with pytest.raises(ConnectionError):  # the buffers are full
            while True:
                peer.send(Inputs("fc-1", sent, []), [b"x" * 4096])
                sent += 1
        assert sent > 100
        peer.close()
        await asyncio.wait_for(closed, 30)
        assert got == list(range(sent)), "nothing of it was lost"

    loop = new_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_nothing_waits_for_a_peer_that_has_gone():
    async def main():
        ours, theirs = socket.socketpair()
        closed = asyncio.get_running_loop().create_future()
        connection = LoopConnection(ours, Turn(asyncio.get_running_loop()), lambda *_: None, closed.set_result)
        for _ in range(100):
            connection.send(Inputs("fc-1", 0, []), [b"x" * 100_000])
        await asyncio.sleep(0)
        assert connection.backlog > 1_000_000
        theirs.close()
        await asyncio.wait_for(closed, 30)
        assert connection.backlog == 0

    asyncio.run(main())


def test_one_that_ends_badly_keeps_no_other_from_writing():
    async def main():
        loop = asyncio.get_running_loop()
        turn, told = Turn(loop), []
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

        def end_badly(reason):
            raise RuntimeError("in on_closed")

        broken, broken_peer = socket.socketpair()
        pairs = [socket.socketpair(), (broken, broken_peer), socket.socketpair()]
        connections = [
            LoopConnection(ours, turn, lambda *_: None, end_badly if ours is broken else lambda _: None)
            for ours, _ in pairs
        ]
        broken_peer.close()
        for connection in connections:
            connection.send(Stop("x"))
        for connection, (_, theirs) in zip(connections, pairs, strict=True):
            if theirs is not broken_peer:
                reader = BlockingConnection(theirs)
                assert (await asyncio.to_thread(reader.receive, 30))[0] == Stop("x")
                connection.abort()
                reader.close()
        assert [str(error) for error in told] == ["in on_closed"]

    asyncio.run(main())


def on_a_loop(use):
    """A connection on a loop and the other end of it, a bare socket; what ``use`` returned, and why it closed."""
    closed = []

    async def main():
        left, right = socket.socketpair()
        failures = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context.get("exception")))
        gone = asyncio.Event()

        def on_closed(reason):
            closed.append(reason)
            gone.set()

        def on_message(message, payloads):
            raise KeyError("a bug of ours")

        LoopConnection(left, Turn(loop), on_message, on_closed)
        with right:
            use(right)
            async with asyncio.timeout(30):
                await gone.wait()
        return failures

    return asyncio.run(main()), closed


def test_a_bug_in_a_handler_ends_the_connection_rather_than_leave_the_peer_waiting():
    failures, closed = on_a_loop(lambda sock: sock.sendall(encode(Stop("x"))[0]))
    assert [type(error) for error in failures] == [KeyError]
    assert closed == ["internal error: KeyError: 'a bug of ours'"]


def test_descriptors_without_a_message_are_not_kept():
    before = open_descriptors()

    def flood(sock):
        # The first bytes of a long frame, and more descriptors than any message could have.
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            sock.sendall(bytes.fromhex("0000ffff 00ffffff"))
            for _ in range(40):
                socket.send_fds(sock, [b"\0"], [null] * 60)
        except OSError:
            pass  # it was closed meanwhile
        finally:
            os.close(null)

    failures, closed = on_a_loop(flood)
    assert failures == []
    assert closed == ["more than 1024 file descriptors came without their message"]
    assert open_descriptors() == before


def test_a_descriptor_beside_a_message_that_names_none_is_refused():
    left, right = socket.socketpair()
    frame = encode(Stop("x"))[0]
    null = os.open(os.devnull, os.O_RDONLY)
    socket.send_fds(left, [frame], [null])
    os.close(null)
    connection = BlockingConnection(right)
    with pytest.raises(ProtocolError, match="belong to no message"):
        connection.receive(5)
    connection.close()
    left.close()


def test_a_file_that_is_no_sealed_memory_is_refused():
    """Its sender could change it under its reader, or make it longer than was said."""
    left, right = socket.socketpair()
    fd = os.memfd_create("open")
    os.ftruncate(fd, 100)
    frame = encode(Inputs("fc-1", 0, []), [Descriptor(os.dup(fd), 100)])[0]
    socket.send_fds(left, [frame], [fd])
    os.close(fd)
    connection = BlockingConnection(right)
    with pytest.raises(ProtocolError, match="no sealed memory"):
        connection.receive(5)
    connection.close()
    left.close()


def test_what_was_closed_keeps_no_buffer():
    """Of a thousand connections that wait for the garbage collector, each in a circle with its peer's object, that is 64 MB."""
    inbox = Inbox()
    buffer = inbox._buffer.obj
    before = sys.getrefcount(buffer)
    inbox.close()
    assert sys.getrefcount(buffer) < before
