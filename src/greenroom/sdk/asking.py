"""One question to the server, on the connection that calls take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenroom.sdk.channel import FutureSink, Word, loop_channel, raise_failed, thread_channel
from greenroom.sdk.lazy import Lazy
from greenroom.wire.messages import Failed

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = Lazy("asyncio")


def ask(message: Any) -> dict[str, Any]:
    """The answer; raises what the server says, or ``ConnectionError``."""
    channel, word = thread_channel(), Word()
    channel.sinks[message.rid] = word
    try:
        channel.connection.send(message)
        while word.said is None:
            channel.pump()
    finally:
        channel.sinks.pop(message.rid, None)
    return _data(word.said[0])


async def ask_async(message: Any) -> dict[str, Any]:
    """The same, on a loop."""
    channel = loop_channel()
    sink = channel.sinks[message.rid] = FutureSink(asyncio.get_running_loop())
    try:
        channel.connection.send(message)
        answer, _ = await sink.future
    finally:
        channel.sinks.pop(message.rid, None)
    return _data(answer)


def _data(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Failed):
        raise_failed(answer)
    data: dict[str, Any] = answer.data
    return data
