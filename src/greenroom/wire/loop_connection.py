"""A connection on an event loop, and what gathers the writes of one turn of it."""

import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from greenroom.model.errors import ProtocolError
from greenroom.wire.connection import MAX_FDS, FarSocket, Inbox, encode, pieces, send_with_fds
from greenroom.wire.payload import Descriptor, Payload, in_memory
from greenroom.wire.schema import Message

if TYPE_CHECKING:
    import asyncio

_READS = 16
"""Reads of one connection in one go, so that none keeps the others waiting."""
_DOUBT = 0.05
"""Seconds after a read until we make sure that nothing, and no end, was kept from us."""
_JOIN = 256 * 1024
"""Bytes up to which queued frames leave in one write; a larger one leaves by itself, uncopied."""


class Turn:
    """Gathers what is sent in one turn of a loop, so that each connection writes once."""

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self.loop = loop
        self._dirty: list[LoopConnection] = []
        self._reading = False
        self._doubted: list[LoopConnection] = []

    def mark(self, connection: "LoopConnection") -> None:
        """``connection`` has something to write; it will at the end of this turn."""
        if not self._dirty and not self._reading:
            self.loop.call_soon(self.flush)
        self._dirty.append(connection)

    def begin(self) -> None:
        """A read begins; what it makes us send leaves with :meth:`flush`."""
        self._reading = True

    def flush(self) -> None:
        """Write what has gathered."""
        self._reading = False
        dirty, self._dirty = self._dirty, []
        try:
            while dirty:
                dirty.pop().flush()
        finally:
            if dirty:
                # One raised, and the loop tells of it: the others still write.
                self._dirty += dirty
                self.loop.call_soon(self.flush)

    def doubt(self, connection: "LoopConnection") -> None:
        """Look at ``connection`` once more in a moment. Where a peer has closed with something unread on its side, uvloop
        calls the reader once and never again, whatever is left to read; to read on each time until nothing is left
        would cost every message a system call."""
        if not self._doubted:
            self.loop.call_later(_DOUBT, self._make_sure)
        self._doubted.append(connection)

    def _make_sure(self) -> None:
        doubted, self._doubted = self._doubted, []
        try:
            while doubted:
                doubted.pop().make_sure()
        finally:
            for connection in doubted:  # one raised, and the loop tells of it
                self.doubt(connection)


class LoopConnection:
    """A connection on an event loop: calls ``on_message(message, payloads)`` for each arrival, ``on_closed(reason)`` once.

    ``reason`` is ``""`` when the peer closed between two frames, else one line. ``first_frame``: bytes of header and body
    that the first frame may have. ``largest``: the peer is on another machine, and bytes that what comes from there in the place
    of a descriptor may have; 0: it isn't.
    """

    def __init__(
        self,
        sock: socket.socket,
        turn: Turn,
        on_message: Callable[[Message, list[Payload]], None],
        on_closed: Callable[[str], None],
        first_frame: tuple[int, int] | None = None,
        largest: int = 0,
    ) -> None:
        sock.setblocking(False)
        largest = sys.maxsize if isinstance(sock, FarSocket) else largest
        self._far = bool(largest)
        self._sock = sock
        self._turn = turn
        self.on_message = on_message
        """May be replaced, once it is known who speaks."""
        self._on_closed = on_closed
        self.on_partial: Callable[[int], None] | None = None
        """Told after each read how many bytes have come of a frame that isn't whole; may raise ProtocolError."""
        self._inbox = Inbox(first_frame, largest)
        self._queue: deque[tuple[bytes | memoryview, list[int], Sequence[Payload] | None]] = deque()
        self._pieces: Iterator[tuple[bytes, int]] | None = None
        """Of the files of what is first in the queue, where they can't be passed."""
        self._paused = False
        self._doubted = False
        self._read_since = False
        """Since it was doubted, the loop has called the reader: so that was no last time."""
        self._marked = False
        self._writing = False
        self._closing = False
        self.closed = False
        self.inline_only = False
        """No descriptor can be passed to the peer."""
        self.backlog = 0
        """Bytes that the peer has not taken yet."""
        turn.loop.add_reader(sock, self._readable)

    def send(self, message: Message, payloads: Sequence[Payload] | None = None) -> None:
        """Queue one message; it leaves at the end of this turn. A closed connection drops it."""
        if self.closed:
            return
        if self.inline_only and payloads is not None:
            payloads = [in_memory(payload) for payload in payloads]
        data, fds = encode(message, payloads)
        # The payloads are kept beside the frame: a Descriptor among them closes its file when nobody holds it.
        self._queue.append((data, fds, payloads if fds else None))
        self.backlog += len(data)
        if fds and self._far:
            self.backlog += sum(payload.size for payload in payloads or () if isinstance(payload, Descriptor))
        if not self._marked and not self._writing:
            self._marked = True
            self._turn.mark(self)

    def flush(self) -> None:
        """Write as much as the socket takes."""
        self._marked = False
        try:
            while self._queue and not self.closed:
                sent = self._write_some()
                self.backlog -= sent
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._turn.loop.add_writer(self._sock, self.flush)
            return
        except (BrokenPipeError, ConnectionResetError):
            self._shut("")  # the peer has closed; that we still had something to say is no news
            return
        except OSError as error:
            self._shut(f"write failed: {error.strerror or error}")
            return
        if self._writing and not self.closed:
            self._writing = False
            self._turn.loop.remove_writer(self._sock)
        if self._closing and not self.closed:
            self._shut("")

    def _write_some(self) -> int:
        data, fds, kept = self._queue.popleft()
        if fds and self._far:
            self._pieces = self._pieces or pieces(fds)
            frame, size = next(self._pieces, (b"", 0))
            if frame:
                self.backlog += len(frame) - size
                self._queue.appendleft((data, fds, kept))
                data = frame
            else:  # all of them have left, and the message is as any other
                self._pieces = None
        elif fds:
            batch, rest = fds[:MAX_FDS], fds[MAX_FDS:]
            try:
                sent = send_with_fds(self._sock, data[:1] if rest else data, batch)
            except OSError:
                self._queue.appendleft((data, fds, kept))
                raise
            if sent < len(data):
                self._queue.appendleft((memoryview(data)[sent:], rest, kept))
            return sent
        if self._queue and len(data) < _JOIN and self._pieces is None:
            data = self._joined(data)
        sent = 0
        try:
            sent = self._sock.send(data)
        finally:
            if sent < len(data):
                self._queue.appendleft((memoryview(data)[sent:], [], None))
        return sent

    def _joined(self, first: bytes | memoryview) -> bytes:
        """``first`` and the frames behind it that leave with it."""
        parts, size = [first], len(first)
        while self._queue and not self._queue[0][1] and size + len(self._queue[0][0]) <= _JOIN:
            data, _, _ = self._queue.popleft()
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    def _readable(self) -> None:
        self._read()
        self._read_since = True
        if not self._doubted and not self.closed:
            self._read_since = False
            self._doubted = True
            self._turn.doubt(self)

    def make_sure(self) -> None:
        """Read what is there, and notice an end that the loop has kept from us; see :meth:`Turn.doubt`."""
        self._doubted = False
        if self._read_since and not self.closed:
            self._read_since = False
            self._doubted = True
            self._turn.doubt(self)
            return
        for _ in range(_READS):
            if self.closed or self._closing or self._paused or not self._read():
                return
        self._doubted = True
        self._turn.doubt(self)

    def drain(self) -> None:
        """Read all that has come by now: the peer has ended."""
        while not self.closed and self._read():
            pass

    def _read(self) -> bool:
        """One read; whether there was something."""
        self._turn.begin()
        try:
            arrived = self._inbox.read(self._sock)
            if arrived is None:
                self._shut("")
                return False
            for message, payloads in arrived:
                if self.closed:
                    return False
                self.on_message(message, payloads)
            if self.on_partial is not None and not self.closed:
                self.on_partial(self._inbox.partial)
        except (BlockingIOError, InterruptedError):
            return False
        except ConnectionResetError:
            self._shut("")
        except ProtocolError as error:
            self._shut(str(error))
        except OSError as error:
            self._shut(f"read failed: {error.strerror or error}")
        except Exception as error:
            # Whoever waits for an answer must not wait for ever: the peer is told by the connection's end.
            self._shut(f"internal error: {type(error).__name__}: {error}")
            raise
        finally:
            self._turn.flush()
        return True

    def pause_reading(self) -> None:
        """Read no more until :meth:`resume_reading`: the peer's writes will block."""
        if not self.closed and not self._paused:
            self._paused = True
            self._turn.loop.remove_reader(self._sock)

    def resume_reading(self) -> None:
        """Read again."""
        if not self.closed and self._paused:
            self._paused = False
            self._turn.loop.add_reader(self._sock, self._readable)

    def close(self) -> None:
        """Close once everything queued is written; nothing more is read."""
        if self.closed or self._closing:
            return
        self._closing = True
        self._turn.loop.remove_reader(self._sock)
        if not self._writing:
            self.flush()

    def abort(self) -> None:
        """Close now; what is queued is dropped."""
        self._shut("")

    def fail(self, reason: str) -> None:
        """Close now, for that reason."""
        self._shut(reason)

    def abandon(self) -> None:
        """In a forked child: let go of the descriptor, leaving the parent's loop and the peer as they are."""
        self.closed = True
        self._queue.clear()
        self._inbox.close()
        os.close(self._sock.detach())

    def _shut(self, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._turn.loop.remove_reader(self._sock)
        self._turn.loop.remove_writer(self._sock)
        self._queue.clear()
        self.backlog = 0
        self._inbox.close()
        self._sock.close()
        self._on_closed(reason)
