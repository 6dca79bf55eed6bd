"""``.map()`` and its kin, from the caller's side: inputs leave in batches, outputs come back as they are ready.

Inputs of a list or range are sent by whoever consumes the outputs; those of anything that may block as ``feeding.py``
says. No more than a window of them (``window.py``) is ahead of the consumer, so a map over a million inputs needs the
memory of some thousands.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import ConnectionError
from greenroom.sdk import codec
from greenroom.sdk.channel import Arrivals, LoopChannel, ThreadChannel
from greenroom.sdk.feeding import ThreadFeeder, feed
from greenroom.sdk.inputs import Arguments, Inputs
from greenroom.sdk.lazy import Lazy
from greenroom.sdk.map_state import Current, MapState
from greenroom.sdk.resuming import next_channel, next_loop_channel
from greenroom.sdk.target import Target
from greenroom.wire.messages import Outputs

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = Lazy("asyncio")


def run_map(target: Target, inputs: Inputs, *, ordered: bool, return_exceptions: bool) -> Generator[Any, None, None]:
    """The outputs of ``inputs``; closing the generator cancels what is left."""
    __tracebackhide__ = True
    state = MapState(target, inputs, ordered, return_exceptions)
    iterator = iter(inputs)
    channel = ThreadChannel()
    line = Current(channel)
    feeder: ThreadFeeder | None = None
    try:
        state.begin(channel)
        if not inputs.plain:
            feeder = ThreadFeeder(state, line, channel, iterator)
        while True:
            if feeder is None:
                _send_some(state, line, iterator)
            yield from state.failures()
            if state.over():
                break
            if feeder is not None and not feeder.wait():
                continue
            try:
                message, payloads = channel.connection.receive()
            except ConnectionError:
                lost, channel = channel, _go_on(state, line, channel)
                if feeder is not None:
                    feeder.turn_to(channel)
                lost.close()
                continue
            if isinstance(message, Outputs):
                yield from state.arrived(message, payloads)
            else:
                channel.route(message, payloads)
    finally:
        if feeder is not None:
            feeder.stop()
        channel.close()
        state.close()


def _send_some(state: MapState, line: Current, inputs: Iterator[Arguments]) -> None:
    """Send as many inputs as there is room for."""
    try:
        while not state.ended and (room := state.window.room()):
            state.send(line, list(state.admit(inputs, room)))
            if state.exhausted:
                state.send_end(line)
    except ConnectionError:
        raise codec.lost() from None


def _go_on(state: MapState, line: Current, channel: ThreadChannel) -> ThreadChannel:
    """The server has gone: with the next one, where it may be; raises ``ConnectionError``."""
    __tracebackhide__ = True
    if not state.outlives:
        raise codec.lost() from None
    while True:
        channel = next_channel(channel, ThreadChannel)
        try:
            state.say_again(line, channel)
        except ConnectionError:
            continue
        return channel


async def run_map_async(
    target: Target, inputs: Inputs, *, ordered: bool, return_exceptions: bool
) -> AsyncGenerator[Any, None]:
    """The same on an event loop."""
    state = MapState(target, inputs, ordered, return_exceptions)
    channel = LoopChannel()
    line = Current(channel)
    arrivals = channel.sinks[state.call_id] = Arrivals()
    state.changed = arrivals.look
    feeder: asyncio.Task[None] | None = None
    try:
        state.begin(channel)
        feeder = asyncio.create_task(_feed(state, line, inputs))
        while True:
            for value in state.failures():
                yield value
            if state.over():
                break
            message, payloads = await arrivals.queue.get()
            if isinstance(message, ConnectionError):
                if not state.outlives:
                    raise codec.lost()
                channel = await next_loop_channel(channel, LoopChannel)
                channel.sinks[state.call_id] = arrivals
                state.say_again(line, channel)
                continue
            if message is not None:
                for value in state.arrived(message, payloads):
                    yield value
    finally:
        if feeder is not None:
            feeder.cancel()
        channel.sinks.clear()
        channel.connection.abort()
        state.close()


async def _feed(state: MapState, line: Current, inputs: Inputs) -> None:
    try:
        await feed(state, line, inputs)
    except BaseException as error:  # noqa: BLE001 - the user's iterator raised, CancelledError maybe; the consumer raises it
        state.error = error
    finally:
        state.changed()
