"""Spawned calls, from the collector's side: their outputs, for any number of ``get`` in any threads and loops."""

from __future__ import annotations

import time
from sys import intern
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import ConnectionError, NotFoundError, TimeoutError
from greenroom.sdk import codec
from greenroom.sdk.channel import LoopChannel, ThreadChannel, loop_channel, next_rid, raise_failed, thread_channel
from greenroom.sdk.lazy import Lazy
from greenroom.sdk.resuming import next_channel, next_loop_channel, server_returns
from greenroom.wire.messages import Collect, Done, Failed, Outputs
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = Lazy("asyncio")

Output = tuple[str, str, Payload]

ANSWER = 2.0
"""Seconds that a server may take to say what is ready, however little a caller wants to wait for what isn't."""


class Collection:
    """A spawned call's outputs, as far as they have come on one channel. All who wait for them there share it."""

    def __init__(self, channel: ThreadChannel | LoopChannel, call_id: str) -> None:
        self.channel = channel
        self.outputs: dict[int, Output] = {}
        self.count: int | None = None
        """Inputs that the call has; None while some may yet end."""
        self._told = False
        """Whether all has come that was ready when it began."""
        self._begun = time.monotonic()
        self._call_id = call_id
        self._rid = next_rid()
        self._failed: Failed | None = None
        self._lost = False
        self._waiters: dict[int | None, list[asyncio.Future[None]]] = {}
        channel.sinks[call_id] = channel.sinks[self._rid] = self
        channel.connection.send(Collect(self._rid, call_id))

    def take(self, message: Any, payloads: list[Payload]) -> None:
        """See ``channel.Sink``."""
        if isinstance(message, Outputs):
            for (index, status, detail), payload in zip(message.items, payloads, strict=True):
                self.outputs[max(index, 0)] = (intern(status), detail, payload)  # there may be a million of them
                self._wake(max(index, 0))
            if not message.items:
                self._told = True
                self._wake_all()
            return
        if isinstance(message, Done):
            self.count = message.data["count"]
        elif isinstance(message, Failed):
            self._failed = message
        else:
            self._lost = True
        self.channel.sinks.pop(self._call_id, None)
        self.channel.sinks.pop(self._rid, None)
        self._wake_all()

    def _wake_all(self) -> None:
        for index in list(self._waiters):
            self._wake(index)

    def left(self, deadline: float | None) -> float | None:
        """Seconds to wait; what is ready is waited for even where none are: ``get(timeout=0)`` asks whether there is a result."""
        if deadline is None:
            return None
        return max(0.0, (deadline if self._told else max(deadline, self._begun + ANSWER)) - time.monotonic())

    def _wake(self, index: int | None) -> None:
        for waiter in self._waiters.pop(index, ()):
            if not waiter.done():
                waiter.set_result(None)

    def ready(self, index: int | None) -> bool:
        """Whether that output (None: every one) is here; raises what keeps it from coming."""
        if index in self.outputs or (index is None and self.count is not None):
            return True
        if self._lost:
            raise codec.lost()
        if self._failed is not None:
            raise_failed(self._failed)
        if self.count is not None:
            raise NotFoundError(f"the call {self._call_id} has {self.count} inputs; there is no number {index}")
        return False

    async def arrival(self, index: int | None, timeout: float | None) -> bool:
        """Until that output has come, or will not come; on the channel's loop. False: not within ``timeout`` seconds."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(index, []).append(waiter)
        try:
            return bool((await asyncio.wait([waiter], timeout=timeout))[0])
        finally:
            waiter.cancel()


class Collector:
    """Collects one spawned call."""

    def __init__(self, call_id: str) -> None:
        self._call_id = call_id
        self._latest: Collection | None = None

    def ask(self, channel: ThreadChannel | LoopChannel) -> Collection:
        """The collection on ``channel``, which begins if there is none; or one elsewhere that is complete."""
        latest = self._latest
        if latest is not None and (latest.count is not None or latest.channel is channel):
            return latest
        found = channel.sinks.get(self._call_id)
        self._latest = found if isinstance(found, Collection) else Collection(channel, self._call_id)
        return self._latest

    def wait(self, index: int | None, timeout: float | None) -> Collection:
        """Until that output (None: every one) is here; raises :class:`TimeoutError`."""
        if (latest := self._latest) is not None and index in latest.outputs:
            return latest
        deadline = None if timeout is None else time.monotonic() + timeout
        channel = thread_channel()
        while True:
            try:
                collection = self.ask(channel)
                while not collection.ready(index):
                    channel.pump(collection.left(deadline))
                return collection
            except ConnectionError:
                if not server_returns():
                    raise codec.lost() from None
            except OSError:  # the builtin TimeoutError
                raise self._late(timeout) from None
            try:
                channel = next_channel(channel, thread_channel, deadline)
            except OSError:  # the builtin TimeoutError
                raise self._late(timeout) from None

    async def wait_async(self, index: int | None, timeout: float | None) -> Collection:
        """The same, on a loop."""
        if (latest := self._latest) is not None and index in latest.outputs:
            return latest
        deadline = None if timeout is None else time.monotonic() + timeout
        channel = loop_channel()
        while True:
            try:
                collection = self.ask(channel)
                while not collection.ready(index):
                    if not await collection.arrival(index, collection.left(deadline)):
                        raise self._late(timeout)
                return collection
            except ConnectionError:
                if not server_returns():
                    raise
            try:
                channel = await next_loop_channel(channel, deadline=deadline)
            except OSError:  # the builtin TimeoutError
                raise self._late(timeout) from None

    def _late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"the call {self._call_id} has no result after {timeout:g} s; it goes on")
