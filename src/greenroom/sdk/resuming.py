"""Calls to functions of deployed and detached apps that outlive their server: the next one is waited for, and they are said again.

Their containers go on meanwhile, and tell it what they run: nothing that has begun is run again (see the server's
``returning.py``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from greenroom.model.errors import AuthError, ConnectionError
from greenroom.sdk import codec
from greenroom.sdk.address import may_return
from greenroom.sdk.channel import LoopChannel, ThreadChannel, has_spoken, loop_channel
from greenroom.sdk.lazy import Lazy
from greenroom.sdk.output import say
from greenroom.usercode.context import inside
from greenroom.wire.deploy_messages import DEPLOYED

if TYPE_CHECKING:
    import asyncio
else:
    asyncio = Lazy("asyncio")

C = TypeVar("C", ThreadChannel, LoopChannel)

PATIENCE = 30.0
"""Seconds that the next server is waited for."""
QUIET = 1.0
"""Seconds of that in which nothing is said."""
AGAIN = 0.05
"""Seconds between two looks for it."""


going_on: set[str] = set()
"""Ids of this program's own apps that go on without it, and so with the server after this one."""


class _Wait:
    """For the next server."""

    def __init__(self, before: ThreadChannel | LoopChannel | None, deadline: float | None) -> None:
        self._deadline = deadline
        self._before = before.server_id if before is not None else ""
        self._begun = time.monotonic()
        self._told = False

    def check(self, channel: ThreadChannel | LoopChannel) -> None:
        """Raise where it is the same server: what became of the call there nobody can tell."""
        if self._before and channel.server_id == self._before:
            raise codec.lost()

    def go_on(self) -> None:
        """Raise where it has lasted long enough."""
        now = time.monotonic()
        if self._deadline is not None and now > self._deadline:
            raise TimeoutError
        waited = now - self._begun
        if waited > PATIENCE:
            raise codec.lost()
        if waited > QUIET and not self._told:
            self._told = True
            say(f"the server went away; waiting for the next one for up to {PATIENCE:g} s")


def outlives(function_id: str) -> bool:
    """Whether a call of that function outlives its server."""
    if (here := inside()) is not None:
        return here.outlives
    return (function_id.startswith(DEPLOYED) or function_id.partition("/")[0] in going_on) and may_return()


def server_returns() -> bool:
    """Whether there may be another server after this one, that has what was kept."""
    here = inside()
    return here.outlives if here is not None else may_return()


def first_channel(function_id: str, make: Callable[[], C]) -> C | None:
    """A connection; None: there is no server now, but there was one, and the next may come. Raises ``ConnectionError``."""
    try:
        return make()
    except ConnectionError:
        if not has_spoken() or not outlives(function_id):
            raise
        return None


def next_channel(
    before: ThreadChannel | None, make: Callable[[], ThreadChannel], deadline: float | None = None
) -> ThreadChannel:
    """A connection to the server after the one that ``before`` spoke to.

    Raises:
        ConnectionError: there is none, or that server has not died.
        TimeoutError: (the builtin) there is none by ``deadline``, in monotonic seconds.
    """
    wait, pause = _Wait(before, deadline), threading.Event()
    while True:
        try:
            channel = make()
            while not channel.server_id:
                channel.pump(PATIENCE if deadline is None else max(0.0, deadline - time.monotonic()))
        except (ConnectionError, AuthError, TimeoutError):
            wait.go_on()
            pause.wait(AGAIN)
        else:
            wait.check(channel)
            return channel


async def next_loop_channel(
    before: LoopChannel | None, make: Callable[[], LoopChannel] = loop_channel, deadline: float | None = None
) -> LoopChannel:
    """The same, on an event loop."""
    wait = _Wait(before, deadline)
    while True:
        try:
            channel = make()
            await _welcomed(channel)
        except (ConnectionError, AuthError):
            wait.go_on()
            await asyncio.sleep(AGAIN)
        else:
            wait.check(channel)
            return channel


async def _welcomed(channel: LoopChannel) -> None:
    while not channel.server_id:
        if channel.connection.closed:
            raise ConnectionError("the server closed the connection")
        await asyncio.sleep(0.005)
