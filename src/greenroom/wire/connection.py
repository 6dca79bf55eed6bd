"""A connection of a thread that blocks, and what it shares with one on an event loop (``loop_connection.py``).

Both are raw sockets rather than asyncio streams, since large payloads come as file descriptors beside the bytes. Where none
can be passed, to and from another machine, what is in the file travels ahead of its message, as ``Piece``s, and is a file
again on the other side.
"""

import array
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence

from greenroom.model.errors import ConnectionError, ProtocolError, RequestSizeError
from greenroom.wire.far_messages import Piece
from greenroom.wire.frames import FrameDecoder, encode_frame
from greenroom.wire.payload import Descriptor, Payload, PayloadWriter, join, split
from greenroom.wire.schema import Message, decode_header, encode_header

_READ = 256 * 1024
_FIRST = 16 * 1024
"""Bytes that a connection reads at once, until it is said more than that."""
_LITTLE = 32 * 1024
_PIECE = 256 * 1024
"""Bytes of a file that travel in one frame, where it can't be passed."""
MAX_FDS = 64
"""Descriptors that leave with one write."""
MAX_WAITING_FDS = 1024
"""Descriptors that may have come ahead of their message."""
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * 4)
# As plain integers: the arithmetic of flag enums would show in every call's time.
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_TRUNCATED = int(socket.MSG_CTRUNC)
DAY = 86400.0
"""Seconds that the kernel is asked to wait at once; more than some 24 days it refuses."""
MAX_SOCKET_PATH = 107
"""Bytes that the path of a Unix socket may have (``sun_path`` less its end)."""


class FarSocket(socket.socket):
    """One that leads to another machine, by whatever way: bytes get through, descriptors don't. See ``far.py``."""


def encode(message: Message, payloads: Sequence[Payload] | None = None) -> tuple[bytes, list[int]]:
    """Frame and descriptors of a message; its ``sizes`` are filled in from ``payloads``."""
    if payloads is None:
        return encode_frame(encode_header(message)), []
    sizes, body, fds = join(payloads)
    return encode_frame(encode_header(message, sizes), body), fds


def pieces(fds: Sequence[int]) -> Iterator[tuple[bytes, int]]:
    """Frames that carry what is in files, which have to stay open meanwhile; each with how much of that it has."""
    for fd in fds:
        offset, size = 0, os.fstat(fd).st_size
        while offset < size:
            data = os.pread(fd, _PIECE, offset)
            offset += len(data)
            yield encode_frame(encode_header(Piece(offset >= size, [len(data)])), data), len(data)


class Inbox:
    """What has arrived: frames and descriptors, which pair up in order.

    Args:
        largest: from afar, where no descriptors come: bytes that what comes in their place may have. 0: they come.
    """

    def __init__(self, first_frame: tuple[int, int] | None = None, largest: int = 0) -> None:
        self._decoder = FrameDecoder(first=first_frame)
        self._largest = largest
        self._file: PayloadWriter | None = None
        """What comes in pieces, as far as it has."""
        self._fds: list[int] = []
        # Read into, again and again: a fresh buffer for each read costs more than the read.
        self._buffer = memoryview(bytearray(_FIRST))
        self._buffers = [self._buffer]

    def read(self, sock: socket.socket) -> list[tuple[Message, list[Payload]]] | None:
        """One read; the messages that it completes, or None at the end of the stream."""
        length, ancillary, message_flags, _ = sock.recvmsg_into(self._buffers, _ANCILLARY, _CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._fds.extend(fds)
        if message_flags & _TRUNCATED:
            raise ProtocolError("file descriptors were lost: this process has as many open as it may (ulimit -n)")
        if len(self._fds) > MAX_WAITING_FDS:
            raise ProtocolError(f"more than {MAX_WAITING_FDS} file descriptors came without their message")
        if not length:
            return None
        arrived: list[tuple[Message, list[Payload]]] = []
        # Much is cut into frames where it lies, little as bytes, which are cut faster.
        data = self._buffer[:length]
        for header, body in self._decoder.feed(bytes(data) if length < _LITTLE else data):
            message = decode_header(header)
            if type(message) is Piece:
                self._put(message, body)
                continue
            sizes = getattr(message, "sizes", None)
            if sizes is None and body:
                raise ProtocolError(f"{type(message).__name__} carries no payload, yet {len(body)} bytes came")
            arrived.append((message, split(sizes, body, self._fds) if sizes is not None else []))
        if self._fds and not self._largest and not self._decoder.mid_frame:
            raise ProtocolError("file descriptors came that belong to no message")
        if length == len(self._buffer) < _READ:
            self._buffer = memoryview(bytearray(_READ))
            self._buffers = [self._buffer]
        return arrived

    def _put(self, piece: Piece, data: bytes) -> None:
        """The next of a file, which stands in the place of a descriptor once it is whole."""
        if not self._largest or not data or piece.sizes != [len(data)]:
            raise ProtocolError("a piece of a file came that can't be one")
        if len(self._fds) >= MAX_WAITING_FDS:
            raise ProtocolError(f"more than {MAX_WAITING_FDS} files came without their message")
        self._file = self._file or PayloadWriter(0, self._largest)
        try:
            self._file.write(data)
        except RequestSizeError as error:
            raise ProtocolError(str(error)) from None
        if piece.last:
            whole, self._file = self._file.payload(), None
            assert isinstance(whole, Descriptor)
            self._fds.append(whole.release())

    @property
    def partial(self) -> int:
        """Bytes that have come of a frame that isn't whole."""
        return self._decoder.partial

    def close(self) -> None:
        """Nothing more is read. Whoever is in a circle with a closed connection doesn't keep its buffer in memory too."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self._buffer = memoryview(b"")
        self._buffers = []


def connect(path: str) -> socket.socket:
    """A stream socket to the Unix socket at ``path``.

    Raises:
        ConnectionError: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise ConnectionError(f"no Greenroom server answers at {path}: {error.strerror or error}") from None
    return sock


def send_with_fds(sock: socket.socket, data: bytes | memoryview, fds: list[int]) -> int:
    """One write with descriptors beside it; the bytes that were taken."""
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


class BlockingConnection:
    """A connection of one thread. Sends at once; receives when asked.

    An exception that a signal handler raises in the middle of a read or write leaves it ``broken``: half a frame may be
    gone, so it must be closed.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.broken = False
        self._far = isinstance(sock, FarSocket)
        self._inbox = Inbox(largest=sys.maxsize if self._far else 0)
        self._arrived: deque[tuple[Message, list[Payload]]] = deque()

    def send(self, message: Message, payloads: Sequence[Payload] | None = None) -> None:
        """Send one message; blocks while the peer is slow. Raises :class:`ConnectionError` when the peer is gone."""
        data, fds = encode(message, payloads)
        self.send_encoded(data, fds)

    def send_encoded(self, data: bytes, fds: list[int]) -> None:
        """Send frames that :func:`encode` made."""
        finished = False
        try:
            if fds and self._far:
                for frame, _ in pieces(fds):
                    self.sock.sendall(frame)
                fds = []
            while fds:
                batch, fds = fds[:MAX_FDS], fds[MAX_FDS:]
                # The first descriptors leave with one byte each time, the last with all that is left.
                sent = send_with_fds(self.sock, data[:1] if fds else data, batch)
                data = data[sent:]
            if data:
                self.sock.sendall(data)
            finished = True
        except OSError as error:
            raise ConnectionError(f"the connection to the server was lost: {error.strerror or error}") from None
        finally:
            self.broken |= not finished

    def receive(self, timeout: float | None = None) -> tuple[Message, list[Payload]]:
        """The next message and its payloads; blocks up to ``timeout`` seconds.

        Raises:
            ConnectionError: the peer is gone.
            TimeoutError: (the builtin) nothing came in time.
            ProtocolError: what came is no message.
        """
        if self._arrived:
            return self._arrived.popleft()
        deadline = None if timeout is None else time.monotonic() + timeout
        finished = False
        try:
            while not self._arrived:
                if deadline is not None and not self._readable(deadline):
                    finished = True
                    raise TimeoutError
                arrived = self._inbox.read(self.sock)
                if arrived is None:
                    raise ConnectionError("the server closed the connection")
                self._arrived.extend(arrived)
            finished = True
        except TimeoutError:
            raise
        except OSError as error:
            raise ConnectionError(f"the connection to the server was lost: {error.strerror or error}") from None
        finally:
            self.broken |= not finished
        return self._arrived.popleft()

    def pending(self) -> bool:
        """Whether a message can be had without a read."""
        return bool(self._arrived)

    def read_once(self) -> list[tuple[Message, list[Payload]]]:
        """One read of a socket that is readable, so that it doesn't block; the messages that it completes.

        Raises:
            ConnectionError: the peer is gone.
        """
        try:
            arrived = self._inbox.read(self.sock)
        except OSError as error:
            raise ConnectionError(f"the connection to the server was lost: {error.strerror or error}") from None
        if arrived is None:
            raise ConnectionError("the server closed the connection")
        if self._arrived:
            arrived = [*self._arrived, *arrived]
            self._arrived.clear()
        return arrived

    def _readable(self, deadline: float) -> bool:
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        left = deadline - time.monotonic()
        return bool(poll.poll(min(max(0.0, left), DAY) * 1000)) or (left > DAY and self._readable(deadline))

    def close(self) -> None:
        """Close the socket; may be called again."""
        self.broken = True
        self._inbox.close()
        self.sock.close()
