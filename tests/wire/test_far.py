"""Connections that no descriptor gets through: what is in a file travels in pieces, and is a file again."""

import asyncio
import fcntl
import os
import socket
import threading

import pytest

from greenroom.model.errors import ConnectionError, ProtocolError
from greenroom.wire.connection import BlockingConnection, FarSocket, encode
from greenroom.wire.far_messages import Piece
from greenroom.wire.loop_connection import LoopConnection, Turn
from greenroom.wire.messages import Inputs, Stop
from greenroom.wire.payload import Descriptor
from tests.wire.test_connection import large, open_descriptors, read


def far_pair():
    return [FarSocket(fileno=sock.detach()) for sock in socket.socketpair()]


@pytest.fixture
def pair():
    left, right = (BlockingConnection(sock) for sock in far_pair())
    yield left, right
    left.close()
    right.close()


def in_thread(what, *args):
    thread = threading.Thread(target=what, args=args)
    thread.start()
    return thread


def test_files_arrive_whole_and_in_order_among_what_is_small(pair):
    left, right = pair
    before = open_descriptors()
    data = [os.urandom(size) for size in (11, 3, 300_000, 0, 256 * 1024, 5_000_000)]
    sending = in_thread(left.send, Inputs("fc-1", 0, []), [large(d) if len(d) > 10 else d for d in data])
    _, payloads = right.receive(30)
    sending.join()
    assert [read(p) for p in payloads] == data
    files = [p for p in payloads if isinstance(p, Descriptor)]
    assert len(files) == 4
    for file in files:
        assert fcntl.fcntl(file.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    left.send(Stop("x"))
    assert right.receive(30) == (Stop("x"), [])
    del payloads, files, file
    assert open_descriptors() == before


def test_on_a_loop_they_wait_for_a_peer_that_is_slow_and_nothing_is_copied_for_it():
    async def main():
        mine, other = far_pair()
        arrived = asyncio.get_running_loop().create_future()
        sender = LoopConnection(mine, Turn(asyncio.get_running_loop()), lambda *_: None, lambda _: None)
        data = [os.urandom(2_000_000), b"small", os.urandom(3_000_000)]
        sender.send(Inputs("fc-1", 0, []), [large(d) if len(d) > 10 else d for d in data])
        sender.send(Stop("x"))
        await asyncio.sleep(0)
        assert sender.backlog > 4_000_000
        taken = []

        def take(message, payloads):
            taken.append((message, [read(p) for p in payloads]))
            if isinstance(message, Stop):
                arrived.set_result(None)

        receiver = LoopConnection(other, Turn(asyncio.get_running_loop()), take, lambda _: None)
        await asyncio.wait_for(arrived, 30)
        assert taken[0][1] == data
        assert taken[1][0] == Stop("x")
        assert sender.backlog == 0
        sender.close()
        receiver.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([(Piece(True, []), [b""])], "can't be one"),
        ([(Piece(False, []), [b"x", b"y"])], "can't be one"),
        ([(Piece(True, []), [b"x"]), (Inputs("fc-1", 0, [-2]), None)], "another size"),
        ([(Inputs("fc-1", 0, [-2]), None)], "promises a file descriptor that did not come"),
        ([(Piece(True, []), [b"x"])] * 1025, "more than 1024 files"),
    ],
)
def test_what_can_not_be_a_file_is_refused(pair, said, why):
    left, right = pair
    data = b"".join(encode(message, payloads)[0] for message, payloads in said)
    sending = in_thread(lambda: left.sock.sendall(data))
    with pytest.raises(ProtocolError, match=why):
        right.receive(30)
    sending.join()


def test_a_file_has_a_limit_and_on_this_machine_there_are_none():
    for largest, why in ((1000, "larger than the limit of 1000 bytes"), (0, "can't be one")):

        async def main(largest=largest, why=why):
            mine, other = socket.socketpair()
            reasons = asyncio.get_running_loop().create_future()
            connection = LoopConnection(
                mine, Turn(asyncio.get_running_loop()), lambda *_: None, reasons.set_result, largest=largest
            )
            for _ in range(3):
                other.sendall(encode(Piece(False, []), [b"x" * 400])[0])
            assert why in await asyncio.wait_for(reasons, 30)
            assert connection.closed
            other.close()

        asyncio.run(main())


def test_a_peer_that_ends_in_the_middle_of_a_file_leaves_nothing(pair):
    left, right = pair
    before = open_descriptors()
    left.sock.sendall(encode(Piece(False, []), [b"x" * 1000])[0])
    left.close()
    with pytest.raises(ConnectionError):
        right.receive(30)
    right.close()
    del pair
    assert open_descriptors() <= before
