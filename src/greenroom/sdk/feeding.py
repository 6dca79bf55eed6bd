"""How the inputs of a ``.map()`` or ``.spawn_map()`` leave.

An iterator may block, and what it waits for may be an output of its own map. So a thread pulls it, and never sends;
what has been pulled leaves at once, in a frame with whatever else has been pulled by then.
"""

from __future__ import annotations

import contextvars
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING

from greenroom.model.errors import ConnectionError
from greenroom.sdk.channel import ThreadChannel
from greenroom.sdk.inputs import Arguments, Inputs
from greenroom.sdk.lazy import Lazy
from greenroom.sdk.map_state import BATCH, BATCH_BYTES, Current, Item, Line, MapState

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = Lazy("asyncio")


class Puller:
    """A thread that pulls an iterator as far as there is room, and hands on what it pulled; None is the end.

    ``state.error`` then says what the iterator raised, if it did.
    """

    def __init__(self, state: MapState, inputs: Iterator[Arguments], deliver: Callable[[Item | None], None]) -> None:
        self._state = state
        self._inputs = inputs
        self._deliver = deliver
        self._stopped = False
        self._room = threading.Condition()
        # As if the consumer itself iterated: with its context variables.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._pull,), name="greenroom-map-inputs", daemon=True).start()

    def stop(self) -> None:
        """Nobody wants the rest."""
        with self._room:
            self._stopped = True
            self._room.notify()

    def _pull(self) -> None:
        state = self._state
        try:
            while not state.exhausted and (room := self._wait_for_room()):
                for item in state.admit(self._inputs, room):
                    if self._stopped:
                        return
                    self._deliver(item)
        except BaseException as error:  # noqa: BLE001 - the user's iterator raised; the consumer raises it
            state.error = error
        finally:
            if not self._stopped:
                self._deliver(None)

    def _wait_for_room(self) -> int:
        """Inputs that may be pulled; 0 once it is stopped."""
        with self._room:
            self._state.starved = self._tell
            while not (room := self._state.window.room()) and not self._stopped:
                self._room.wait()
            self._state.starved = None
            return 0 if self._stopped else room

    def _tell(self) -> None:
        with self._room:
            self._room.notify()


class ThreadFeeder:
    """Sends an iterator's inputs on a blocking connection, which the consumer reads meanwhile."""

    def __init__(self, state: MapState, line: Current, channel: ThreadChannel, inputs: Iterator[Arguments]) -> None:
        self._state = state
        self._line = line
        self._channel = channel
        self._pulled: SimpleQueue[Item | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._event: int | None = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(channel.connection.sock, select.POLLIN)
        self._poll.register(self._event, select.POLLIN)
        state.changed = self._wake
        self._puller = Puller(state, inputs, self._pulled.put)
        threading.Thread(target=self._run, name="greenroom-map-send", daemon=True).start()

    def wait(self) -> bool:
        """Until there is something to read: True; or something else to look after: False."""
        if self._channel.connection.pending():
            return True
        assert self._event is not None
        if any(fd == self._event for fd, _ in self._poll.poll()):
            os.eventfd_read(self._event)
            return False
        return True

    def turn_to(self, channel: ThreadChannel) -> None:
        """What is to be read comes there from now on."""
        self._poll.unregister(self._channel.connection.sock)
        self._channel = channel
        self._poll.register(channel.connection.sock, select.POLLIN)

    def stop(self) -> None:
        """Nobody wants the rest."""
        if os.getpid() != self._pid:
            return  # a forked child, which has the locks of these threads and not the threads
        self._puller.stop()
        self._pulled.put(None)
        self._channel.shut_down()
        with self._lock:
            event, self._event = self._event, None
            assert event is not None
            os.close(event)

    def _run(self) -> None:
        try:
            send_pulled(self._state, self._line, self._pulled)
        except ConnectionError:
            return  # the consumer sees the same
        except BaseException as error:  # noqa: BLE001 - the consumer raises it
            self._state.error = error
        self._wake()

    def _wake(self) -> None:
        """Make the consumer look: it waits for its socket, which may stay silent."""
        with self._lock:
            if self._event is not None:
                os.eventfd_write(self._event, 1)


def send_pulled(state: MapState, line: Line, pulled: SimpleQueue[Item | None]) -> None:
    """Send what is pulled, until its end."""
    item = pulled.get()
    while item is not None:
        items, size = [item], len(item[1])
        while len(items) < BATCH and size < BATCH_BYTES and not pulled.empty():
            item = pulled.get()
            if item is None:
                break
            items.append(item)
            size += len(item[1])
        state.send(line, items)
        if item is not None:
            item = pulled.get()
    if state.error is None and state.exhausted:
        state.send_end(line)


async def feed(state: MapState, line: Line, inputs: Inputs) -> None:
    """Send all inputs from an event loop, which goes on meanwhile.

    Raises:
        Whatever their iterator raises; or that is in ``state.error``, where a thread pulled it.
    """
    if inputs.asynchronous:
        await _feed_asynchronous(state, line, inputs)
    elif inputs.plain:
        iterator = iter(inputs)
        while not state.exhausted:
            state.send(line, list(state.admit(iterator, await _room(state))))
            await asyncio.sleep(0)
    else:
        await _feed_from_thread(state, line, iter(inputs))
    if state.error is None:
        state.send_end(line)


async def _feed_asynchronous(state: MapState, line: Line, inputs: Inputs) -> None:
    unbroken = 0
    async for arguments in inputs:
        await _room(state)
        index = state.window.sent
        payload = state.encode(arguments)
        if payload is not None:
            state.send(line, [(index, payload)])
        unbroken += 1
        if unbroken % BATCH == 0:
            await asyncio.sleep(0)  # an iterator that never waits must not hold the loop


async def _room(state: MapState) -> int:
    """Inputs that may be sent, at least one."""
    while not (room := state.window.room()):
        there_is = asyncio.Event()
        state.starved = there_is.set
        await there_is.wait()
        state.starved = None
    return room


async def _feed_from_thread(state: MapState, line: Line, inputs: Iterator[Arguments]) -> None:
    loop, there_is = asyncio.get_running_loop(), asyncio.Event()
    pulled: deque[Item | None] = deque()

    def deliver(item: Item | None) -> None:
        pulled.append(item)
        if len(pulled) == 1:
            try:
                loop.call_soon_threadsafe(there_is.set)
            except RuntimeError:
                puller.stop()  # the loop was closed and its tasks forgotten

    puller = Puller(state, inputs, deliver)
    try:
        while True:
            await there_is.wait()
            there_is.clear()
            while pulled:
                items: list[Item] = []
                size = 0
                while pulled and len(items) < BATCH and size < BATCH_BYTES:
                    item = pulled.popleft()
                    if item is None:
                        state.send(line, items)
                        return
                    items.append(item)
                    size += len(item[1])
                state.send(line, items)
    finally:
        puller.stop()
