"""Calls, from the caller's side: one value, or a generator's values."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import ConnectionError
from greenroom.model.ids import new_call_id
from greenroom.sdk import codec
from greenroom.sdk.channel import (
    Arrivals,
    FutureSink,
    LoopChannel,
    ThreadChannel,
    Word,
    loop_channel,
    thread_channel,
)
from greenroom.sdk.lazy import Lazy
from greenroom.sdk.resuming import first_channel, next_channel, next_loop_channel, outlives
from greenroom.sdk.target import Target
from greenroom.wire.messages import (
    Call,
    CancelCall,
    Credit,
    Outputs,
    Status,
    Values,
)
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = Lazy("asyncio")

CREDIT_STEP = 64
"""Values after which a generator's caller says that it has taken them."""


def call(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``.remote()``: the value, or the exception raised."""
    __tracebackhide__ = True
    function_id = target.function_id
    payload = codec.encode_arguments(args, kwargs, target.by_value)
    channel = first_channel(function_id, thread_channel) or next_channel(None, thread_channel)
    message = Call(new_call_id(), function_id, target.method, target.binding, "unary", [])
    while True:
        try:
            output, payloads = _ask(channel, target, message, payload)
        except ConnectionError:
            if not outlives(function_id):
                raise codec.lost() from None
            channel = next_channel(channel, thread_channel)
            message = message._replace(again=0)
        else:
            return codec.outcome(output.items[0][1], output.items[0][2], payloads[0])


def _ask(channel: ThreadChannel, target: Target, call: Call, payload: Payload) -> tuple[Any, list[Payload]]:
    sink = channel.sinks[call.call_id] = Word()
    finished = False
    try:
        channel.bind(target)
        channel.connection.send(call, [payload])
        while sink.said is None:
            channel.pump_answer()
        finished = True
        return sink.said
    finally:
        del channel.sinks[call.call_id]
        if not finished:
            # Interrupted: to close the connection is to cancel the call.
            channel.close()


async def call_async(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``.remote.aio()``: the value, or the exception raised; cancelling the task cancels the call."""
    __tracebackhide__ = True
    function_id = target.function_id
    payload = codec.encode_arguments(args, kwargs, target.by_value)
    channel = first_channel(function_id, loop_channel) or await next_loop_channel(None)
    message = Call(new_call_id(), function_id, target.method, target.binding, "unary", [])
    while True:
        try:
            output, payloads = await _ask_async(channel, target, message, payload)
        except ConnectionError:
            if not outlives(function_id):
                raise
            channel = await next_loop_channel(channel)
            message = message._replace(again=0)
        else:
            return codec.outcome(output.items[0][1], output.items[0][2], payloads[0])


async def _ask_async(channel: LoopChannel, target: Target, call: Call, payload: Payload) -> tuple[Any, list[Payload]]:
    sink = channel.sinks[call.call_id] = FutureSink(asyncio.get_running_loop())
    try:
        channel.bind(target)
        channel.connection.send(call, [payload])
        return await sink.future
    except asyncio.CancelledError:
        channel.connection.send(CancelCall(call.call_id))
        raise
    finally:
        channel.sinks.pop(call.call_id, None)


# ---- generators ----


def generate(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, None, None]:
    """``.remote_gen()``: the values as they come."""
    __tracebackhide__ = True
    function_id = target.function_id
    payload = codec.encode_arguments(args, kwargs, target.by_value)
    channel = ThreadChannel()
    call_id = new_call_id()
    taken = 0
    try:
        channel.bind(target)
        channel.connection.send(Call(call_id, function_id, target.method, target.binding, "generator", []), [payload])
        while True:
            try:
                message, payloads = channel.connection.receive()
            except ConnectionError:
                raise codec.lost() from None
            if isinstance(message, Values):
                for value in payloads:
                    yield codec.decode(value)
                    taken += 1
                    if taken % CREDIT_STEP == 0:
                        channel.connection.send(Credit(call_id, CREDIT_STEP))
            elif isinstance(message, Outputs):
                _, status, detail = message.items[0]
                if status == Status.END:
                    return
                raise codec.failure(status, detail, payloads[0])
            else:
                channel.route(message, payloads)
    finally:
        channel.close()


async def generate_async(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any, None]:
    """``.remote_gen.aio()``."""
    function_id = target.function_id
    payload = codec.encode_arguments(args, kwargs, target.by_value)
    channel = LoopChannel()
    call_id = new_call_id()
    sink = channel.sinks[call_id] = Arrivals()
    taken = 0
    try:
        channel.bind(target)
        channel.connection.send(Call(call_id, function_id, target.method, target.binding, "generator", []), [payload])
        while True:
            message, payloads = await sink.queue.get()
            if isinstance(message, ConnectionError):
                raise codec.lost()
            if isinstance(message, Values):
                for value in payloads:
                    yield codec.decode(value)
                    taken += 1
                    if taken % CREDIT_STEP == 0:
                        channel.connection.send(Credit(call_id, CREDIT_STEP))
                continue
            _, status, detail = message.items[0]
            if status == Status.END:
                return
            raise codec.failure(status, detail, payloads[0])
    finally:
        channel.sinks.clear()
        channel.connection.abort()
