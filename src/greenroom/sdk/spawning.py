"""Spawned calls, from the caller's side: started, and left to run (see ``collecting.py`` for their results).

A call has been spawned once the server says that it has all of it. From then on anybody finds it by its id, and no death
of the caller's takes it back.
"""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import ConnectionError
from greenroom.model.ids import new_call_id
from greenroom.sdk import codec
from greenroom.sdk.channel import (
    FutureSink,
    LoopChannel,
    ThreadChannel,
    loop_channel,
    next_rid,
    raise_failed,
    thread_channel,
)
from greenroom.sdk.feeding import Puller, feed, send_pulled
from greenroom.sdk.inputs import Inputs
from greenroom.sdk.lazy import Lazy
from greenroom.sdk.map_state import BATCH, Item, SpawnState
from greenroom.sdk.target import Target
from greenroom.wire.messages import Call, CancelCall, EndInputs, Failed, Outputs
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = Lazy("asyncio")


class _Word:
    """Waits, in a thread, for the server's word on a spawned call."""

    def __init__(self) -> None:
        self.said: tuple[Any, list[Payload]] | None = None

    def take(self, message: Any, payloads: list[Payload]) -> None:
        """See ``channel.Sink``."""
        self.said = self.said or (message, payloads)


def _check(message: Any, payloads: list[Payload]) -> None:
    """Raise why the server won't have the call, if that is what it said."""
    if isinstance(message, Failed):
        raise_failed(message)
    if isinstance(message, Outputs):
        raise codec.failure(message.items[0][1], message.items[0][2], payloads[0])


def spawn(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """``.spawn()``: the call's id."""
    payload = codec.encode_arguments(args, kwargs, target.by_value)
    call_id, rid = new_call_id(), next_rid()
    channel = thread_channel()
    word = channel.sinks[call_id] = channel.sinks[rid] = _Word()
    accepted = False
    try:
        channel.bind(target)
        channel.connection.send(_call(target, call_id), [payload])
        channel.connection.send(EndInputs(call_id, 1, rid))
        _wait(channel, word)
        accepted = True
    finally:
        _forget(channel, call_id, rid)
        if not accepted:
            _take_back(call_id, 1)
    return call_id


async def spawn_async(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """``.spawn.aio()``."""
    payload = codec.encode_arguments(args, kwargs, target.by_value)
    call_id, rid = new_call_id(), next_rid()
    channel = loop_channel()
    word = channel.sinks[call_id] = channel.sinks[rid] = FutureSink(asyncio.get_running_loop())
    accepted = False
    try:
        channel.bind(target)
        channel.connection.send(_call(target, call_id), [payload])
        channel.connection.send(EndInputs(call_id, 1, rid))
        _check(*await word.future)
        accepted = True
    finally:
        _forget(channel, call_id, rid)
        if not accepted:
            _say_never_mind(channel, call_id, 1)
    return call_id


def _call(target: Target, call_id: str) -> Call:
    return Call(call_id, target.function_id, target.method, target.binding, "spawn", [])


def spawn_map(target: Target, inputs: Inputs) -> str:
    """``.spawn_map()``: the call's id."""
    state = SpawnState(target, inputs)
    iterator = iter(inputs)
    channel = thread_channel()
    word = channel.sinks[state.call_id] = channel.sinks[state.rid] = _Word()
    accepted = False
    try:
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
        accepted = True
    finally:
        _forget(channel, state.call_id, state.rid)
        if not accepted:
            _take_back(state.call_id, state.delivered)
    return state.call_id


async def spawn_map_async(target: Target, inputs: Inputs) -> str:
    """``.spawn_map.aio()``."""
    state = SpawnState(target, inputs)
    channel = loop_channel()
    word = channel.sinks[state.call_id] = channel.sinks[state.rid] = FutureSink(asyncio.get_running_loop())
    accepted = False
    try:
        state.begin(channel)
        await feed(state, channel, inputs)
        if state.error is not None:
            raise state.error
        _check(*await word.future)
        accepted = True
    finally:
        _forget(channel, state.call_id, state.rid)
        if not accepted:
            _say_never_mind(channel, state.call_id, state.delivered)
    return state.call_id


def _wait(channel: ThreadChannel, word: _Word) -> None:
    try:
        while word.said is None:
            channel.pump()
    except ConnectionError:
        raise codec.lost() from None
    _check(*word.said)


def _forget(channel: ThreadChannel | LoopChannel, *keys: str | int) -> None:
    for key in keys:
        channel.sinks.pop(key, None)


def _take_back(call_id: str, delivered: int) -> None:
    try:
        _say_never_mind(thread_channel(), call_id, delivered)  # a new one, where an interrupt broke the old
    except ConnectionError:
        pass  # its server has gone, and the call with it


def _say_never_mind(channel: ThreadChannel | LoopChannel, call_id: str, delivered: int) -> None:
    """What has been sent is cancelled, and nothing more will come: half a spawned call is of no use to anybody."""
    channel.connection.send(CancelCall(call_id))
    channel.connection.send(EndInputs(call_id, delivered))


def cancel(call_id: str) -> None:
    """Cancel a spawned call."""
    thread_channel().connection.send(CancelCall(call_id))


async def cancel_async(call_id: str) -> None:
    """Cancel a spawned call."""
    loop_channel().connection.send(CancelCall(call_id))
