"""The connections that calls travel on.

A thread that blocks reads its own socket: no other thread stands between it and the server. An event loop has one
connection for all its coroutines. A ``.map()`` or a generator has a connection to itself, so that to abandon it is to
close it, and the server cancels what is left.
"""

from __future__ import annotations

import itertools
import math
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from greenroom.model import errors
from greenroom.model.errors import AuthError, ConnectionError, Error, ProtocolError
from greenroom.sdk.address import address, on_change
from greenroom.sdk.codec import limits
from greenroom.sdk.lazy import Lazy
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.loop_connection import LoopConnection, Turn
from greenroom.wire.messages import (
    PROTOCOL_VERSION,
    Bind,
    Done,
    Failed,
    Hello,
    Outputs,
    Refused,
    Values,
    Welcome,
)
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from greenroom.sdk.target import Target
else:
    asyncio = Lazy("asyncio")

SPIN = 0.00025
"""Seconds for which a caller looks for its answer before it sleeps."""
MAX_PAUSE = 64
"""Calls without such a look, after looks that found nothing, at the most."""

_rids = itertools.count(1)


def next_rid() -> int:
    """A number for a request."""
    return next(_rids)


class Sink(Protocol):
    """Whoever waits for the outputs of one call, or for the answer to one request."""

    def take(self, message: Any, payloads: list[Payload]) -> None:
        """``Outputs``, ``Values``, ``Done`` or ``Failed``, or an exception when the connection was lost."""


_lock = threading.Lock()
_channels: WeakSet[_Router] = WeakSet()
_generation = 0
"""Counts the servers that this process has spoken to; a channel of an earlier one is of no use."""


_latest = [""]
"""Id of the server that this process has spoken to last."""


def has_spoken() -> bool:
    """Whether this process has spoken to any server."""
    return bool(_latest[0])


class _Router:
    """What arrives on a connection, to whoever waits for it."""

    connection: BlockingConnection | LoopConnection

    def __init__(self) -> None:
        self.sinks: dict[str | int, Sink] = {}
        self.generation = _generation
        self.server_id = ""
        """Of the server, once it has said so."""
        self.on_welcome: Callable[[], None] | None = None
        self._bound: set[tuple[str, str]] = set()
        to = address()
        self._sock = to.connect()
        self._hello = Hello(to.role, to.token, PROTOCOL_VERSION)
        with _lock:
            _channels.add(self)
            current = self.generation == _generation
        if not current:
            self.shut_down()  # its server was left while we connected

    def bind(self, target: Target) -> None:
        """See that the server knows the target's constructor arguments."""
        if target.binding and (key := (target.function_id, target.binding)) not in self._bound:
            self.connection.send(Bind(target.function_id, target.binding, []), [target.binding_payload()])
            self._bound.add(key)

    def shut_down(self) -> None:
        """End the connection, from any thread; the one that it belongs to finds it closed by the peer."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already

    def abandon(self) -> None:
        """Let go of the socket; the peer, and whoever else holds it, notice nothing."""
        if (fd := self._sock.detach()) >= 0:
            os.close(fd)

    def route(self, message: Any, payloads: list[Payload]) -> None:
        if isinstance(message, Outputs | Values):
            sink = self.sinks.get(message.call_id)
        elif isinstance(message, Done | Failed):
            sink = self.sinks.get(message.rid)
        elif isinstance(message, Welcome):
            limits.inline, limits.payload = message.inline_limit, message.max_payload
            self.server_id = _latest[0] = message.server_id
            if self.on_welcome is not None:
                self.on_welcome()
            return
        elif isinstance(message, Refused):
            raise AuthError(f"the server refused the connection: {message.reason}")
        else:
            raise ProtocolError(f"the server said {type(message).__name__} to a caller")
        if sink is not None:
            sink.take(message, payloads)


class ThreadChannel(_Router):
    """A connection for one thread."""

    connection: BlockingConnection

    def __init__(self) -> None:
        super().__init__()
        self.connection = BlockingConnection(self._sock)
        self.connection.send(self._hello)
        self._poll: select.poll | None = None
        self._pause: float = 0 if len(os.sched_getaffinity(0)) > 1 else math.inf
        """Calls until the next look; on one core there is nobody else to look for."""
        self._missed = 0
        """Looks in a row that found nothing."""

    def pump_answer(self) -> None:
        """As :meth:`pump`, for what may come in an instant: look for it a while before going to sleep.

        To wake a process that sleeps on another core costs more than all the rest of a quick call, on virtual machines
        above all. Where answers take longer, looks become rare; and each lets whoever else wants this core go first.
        """
        if self._pause or self.connection.pending():
            self._pause = max(0, self._pause - 1)
        elif self._look():
            self._missed = 0
        else:
            self._missed += 1
            self._pause = min(MAX_PAUSE, 1 << self._missed)
        self.pump()

    def _look(self) -> bool:
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._sock, select.POLLIN)
        end = time.monotonic() + SPIN
        while not self._poll.poll(0):
            if time.monotonic() > end:
                return False
            os.sched_yield()
        return True

    def pump(self, timeout: float | None = None) -> None:
        """Read one message and route it; raises the builtin ``TimeoutError``, or ``ConnectionError``."""
        self.route(*self.connection.receive(timeout))

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()


_local = threading.local()


def thread_channel() -> ThreadChannel:
    """This thread's connection to the current server."""
    channel: ThreadChannel | None = getattr(_local, "channel", None)
    if channel is not None and not channel.connection.broken and channel.generation == _generation:
        return channel
    if channel is not None:
        channel.close()
    _local.channel = None
    channel = _local.channel = ThreadChannel()
    return channel


class LoopChannel(_Router):
    """A connection for one event loop."""

    connection: LoopConnection

    def __init__(self) -> None:
        super().__init__()
        self.connection = LoopConnection(self._sock, Turn(asyncio.get_running_loop()), self.route, self._lost)
        self.connection.send(self._hello)

    def _lost(self, reason: str) -> None:
        error = ConnectionError(f"the connection to the server was lost{': ' + reason if reason else ''}")
        sinks, self.sinks = list(self.sinks.values()), {}
        for sink in sinks:
            sink.take(error, [])

    def close(self) -> None:
        """Close the connection, what was said on it is still sent."""
        self.connection.close()

    def abandon(self) -> None:
        """See :meth:`_Router.abandon`; nor is its loop spoken to."""
        if not self.connection.closed:
            self.connection.abandon()


_loops: dict[asyncio.AbstractEventLoop, LoopChannel] = {}


def loop_channel() -> LoopChannel:
    """The running loop's connection to the current server."""
    loop = asyncio.get_running_loop()
    channel = _loops.get(loop)
    if channel is None or channel.connection.closed or channel.generation != _generation:
        if channel is not None:
            channel.close()
        _drop_closed_loops()
        channel = _loops[loop] = LoopChannel()
    return channel


def _drop_closed_loops() -> None:
    """A loop doesn't say when it closes: each ``asyncio.run`` would leave a connection behind."""
    for loop in [loop for loop in list(_loops) if loop.is_closed()]:
        channel = _loops.pop(loop, None)
        if channel is not None:
            channel.abandon()


class Word:
    """Waits, in a thread that pumps its channel, for one message."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        self.said: tuple[Any, list[Payload]] | None = None

    def take(self, message: Any, payloads: list[Payload]) -> None:
        """See :class:`Sink`."""
        self.said = self.said or (message, payloads)


class FutureSink:
    """Waits, on a loop, for one message."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[tuple[Any, list[Payload]]] = loop.create_future()

    def take(self, message: Any, payloads: list[Payload]) -> None:
        """See :class:`Sink`."""
        if self.future.done():
            return
        if isinstance(message, Exception):
            self.future.set_exception(message)
        else:
            self.future.set_result((message, payloads))


class Arrivals:
    """Waits, on a loop, for many messages; None is one that says nothing."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[Any, list[Payload]]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def look(self) -> None:
        """Wake the consumer, from any thread."""
        self._loop.call_soon_threadsafe(self.take, None, [])

    def take(self, message: Any, payloads: list[Payload]) -> None:
        """See :class:`Sink`."""
        self.queue.put_nowait((message, payloads))


def raise_failed(message: Failed) -> None:
    """Raise what the server said."""
    kind = getattr(errors, message.error, Error)
    raise kind(message.text)


def _server_changed() -> None:
    """Every thread's connection ends: a server that ends with its last client must not wait for an idle thread."""
    global _generation
    with _lock:
        _generation += 1
        channels = list(_channels)
    for channel in channels:
        channel.shut_down()
    own: ThreadChannel | None = getattr(_local, "channel", None)
    if own is not None:
        own.close()
        _local.channel = None
    _drop_closed_loops()


def _forget_after_fork() -> None:
    """A forked child opens its own: what is said on a shared socket would be read by either."""
    global _local, _lock, _channels, _generation
    for channel in list(_channels):
        channel.abandon()
    _loops.clear()
    _lock, _channels, _local = threading.Lock(), WeakSet(), threading.local()
    _generation += 1


on_change.append(_server_changed)
os.register_at_fork(after_in_child=_forget_after_fork)
