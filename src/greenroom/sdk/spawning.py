"""Spawned calls, from the caller's side: started, and left to run (see ``collecting.py`` for their results).

A call has been spawned once the server says that it has all of it. From then on anybody finds it by its id, and no death
of the caller's takes it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import ConnectionError
from greenroom.model.ids import new_call_id
from greenroom.sdk import codec
from greenroom.sdk.channel import (
    FutureSink,
    LoopChannel,
    ThreadChannel,
    Word,
    loop_channel,
    next_rid,
    raise_failed,
    thread_channel,
)
from greenroom.sdk.feeding import Puller, feed, send_pulled
from greenroom.sdk.inputs import Inputs
from greenroom.sdk.lazy import Lazy
from greenroom.sdk.map_state import BATCH, Item, SpawnState
from greenroom.sdk.resuming import first_channel, next_channel, next_loop_channel, outlives, server_returns
from greenroom.sdk.target import Target
from greenroom.wire.messages import CancelCall, Done, EndInputs, Failed, Outputs
from greenroom.wire.payload import Payload
from greenroom.wire.returning_messages import WasKept
from greenroom.wire.spawn_messages import Spawn

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = Lazy("asyncio")


@contextmanager
def _spawning(
    channel: ThreadChannel | LoopChannel, call_id: str, rid: int, word: Word | FutureSink, delivered: Callable[[], int]
) -> Iterator[None]:
    """Meanwhile ``word`` gets what the server says of a call; one that ends without its yes is taken back, unless the server
    has gone: what became of it there, the next one is asked.

    Args:
        delivered: how many inputs have been sent.
    """
    channel.sinks[call_id] = channel.sinks[rid] = word
    try:
        yield
    except ConnectionError:
        raise
    except BaseException:
        _take_back(channel, call_id, delivered())
        raise
    finally:
        channel.sinks.pop(call_id, None)
        channel.sinks.pop(rid, None)


def spawn(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """``.spawn()``: the call's id."""
    call_id, rid = new_call_id(), next_rid()
    call = Spawn(rid, call_id, target.function_id, target.method, target.binding, [])
    payload = codec.encode_arguments(args, kwargs, target.by_value)
    function_id = call.function_id
    channel = first_channel(function_id, thread_channel) or next_channel(None, thread_channel)
    while True:
        word = Word()
        try:
            if call.again >= 0 and _was_kept(channel, call_id):
                return call_id
            with _spawning(channel, call_id, rid, word, lambda: 1):
                channel.bind(target)
                channel.connection.send(call, [payload])
                _wait(channel, word)
        except ConnectionError:
            if not outlives(function_id):
                raise codec.lost() from None
            channel = next_channel(channel, thread_channel)
            call = call._replace(again=0)
        else:
            return call_id


def _was_kept(channel: ThreadChannel, call_id: str) -> bool:
    """Whether a server that died had kept the call, though it could not say so."""
    rid, word = next_rid(), Word()
    channel.sinks[rid] = word
    try:
        channel.connection.send(WasKept(rid, call_id))
        while word.said is None:
            channel.pump()
    finally:
        channel.sinks.pop(rid, None)
    return bool(isinstance(word.said[0], Done) and word.said[0].data["kept"])


async def _was_kept_async(channel: LoopChannel, call_id: str) -> bool:
    rid, word = next_rid(), FutureSink(asyncio.get_running_loop())
    channel.sinks[rid] = word
    try:
        channel.connection.send(WasKept(rid, call_id))
        message, _ = await word.future
    finally:
        channel.sinks.pop(rid, None)
    return bool(isinstance(message, Done) and message.data["kept"])


async def spawn_async(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """``.spawn.aio()``."""
    call_id, rid = new_call_id(), next_rid()
    call = Spawn(rid, call_id, target.function_id, target.method, target.binding, [])
    payload = codec.encode_arguments(args, kwargs, target.by_value)
    function_id = call.function_id
    channel = first_channel(function_id, loop_channel) or await next_loop_channel(None)
    while True:
        word = FutureSink(asyncio.get_running_loop())
        try:
            if call.again >= 0 and await _was_kept_async(channel, call_id):
                return call_id
            with _spawning(channel, call_id, rid, word, lambda: 1):
                channel.bind(target)
                channel.connection.send(call, [payload])
                _check(*await word.future)
        except ConnectionError:
            if not outlives(function_id):
                raise
            channel = await next_loop_channel(channel)
            call = call._replace(again=0)
        else:
            return call_id


def spawn_map(target: Target, inputs: Inputs) -> str:
    """``.spawn_map()``: the call's id."""
    state = SpawnState(target, inputs)
    iterator = iter(inputs)
    channel, word = thread_channel(), Word()
    try:
        with _spawning(channel, state.call_id, state.rid, word, lambda: state.delivered):
            state.begin(channel)
            if inputs.plain:
                while not state.exhausted:
                    state.send(channel, list(state.admit(iterator, BATCH)))
                state.send_end(channel)
            else:
                pulled: SimpleQueue[Item | None] = SimpleQueue()
                puller = Puller(state, iterator, pulled.put)
                try:
                    send_pulled(state, channel, pulled)
                finally:
                    puller.stop()
            if state.error is not None:
                raise state.error
            _wait(channel, word)
    except ConnectionError:
        # Half of it is of no use to anybody; but all of it may have been kept.
        if not state.ended or not outlives(target.function_id):
            raise codec.lost() from None
        if not _was_kept(next_channel(channel, thread_channel), state.call_id):
            raise codec.lost() from None
    return state.call_id


async def spawn_map_async(target: Target, inputs: Inputs) -> str:
    """``.spawn_map.aio()``."""
    state = SpawnState(target, inputs)
    channel, word = loop_channel(), FutureSink(asyncio.get_running_loop())
    try:
        with _spawning(channel, state.call_id, state.rid, word, lambda: state.delivered):
            state.begin(channel)
            await feed(state, channel, inputs)
            if state.error is not None:
                raise state.error
            _check(*await word.future)
    except ConnectionError:
        if not state.ended or not outlives(target.function_id):
            raise
        if not await _was_kept_async(await next_loop_channel(channel), state.call_id):
            raise codec.lost() from None
    return state.call_id


def _wait(channel: ThreadChannel, word: Word) -> None:
    while word.said is None:
        channel.pump()
    _check(*word.said)


def _check(message: Any, payloads: list[Payload]) -> None:
    """Raise why the server won't have the call, if that is what it said."""
    if isinstance(message, Failed):
        raise_failed(message)
    if isinstance(message, Outputs):
        raise codec.failure(message.items[0][1], message.items[0][2], payloads[0])


def _take_back(channel: ThreadChannel | LoopChannel, call_id: str, delivered: int) -> None:
    """What has been sent is cancelled, and nothing more will come: half a spawned call is of no use to anybody."""
    try:
        if isinstance(channel, ThreadChannel):
            channel = thread_channel()  # a new one, where an interrupt broke the old
        channel.connection.send(CancelCall(call_id))
        channel.connection.send(EndInputs(call_id, delivered))
    except ConnectionError:
        pass  # its server has gone, and the call with it


def cancel(call_id: str) -> None:
    """Cancel a spawned call; returns once that stands, whatever becomes of the server.

    Raises:
        NotFoundError: there is no such call.
        ExecutionError: the server can't keep it.
    """
    channel = thread_channel()
    while True:
        word, rid = Word(), next_rid()
        channel.sinks[rid] = word
        try:
            channel.connection.send(CancelCall(call_id, rid))
            _wait(channel, word)
            return
        except ConnectionError:
            if not server_returns():
                raise codec.lost() from None
            channel = next_channel(channel, thread_channel)
        finally:
            channel.sinks.pop(rid, None)


async def cancel_async(call_id: str) -> None:
    """The same, on a loop."""
    channel = loop_channel()
    while True:
        word, rid = FutureSink(asyncio.get_running_loop()), next_rid()
        channel.sinks[rid] = word
        try:
            channel.connection.send(CancelCall(call_id, rid))
            _check(*await word.future)
            return
        except ConnectionError:
            if not server_returns():
                raise
            channel = await next_loop_channel(channel)
        finally:
            channel.sinks.pop(rid, None)
