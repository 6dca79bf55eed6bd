"""An event loop whose time passes only while nothing is to be done: an hour of timers is over at once."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from greenroom.server.clock import LoopClock

T = TypeVar("T")

LEAST = 1e-9
"""Seconds that pass at least: less may be lost in rounding, and whoever waits for it would wait for ever."""


class _Skipping(selectors.DefaultSelector):
    """Waits for what other threads do for the loop; else it lets the time pass that the loop would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.busy: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See ``selectors``; ``timeout`` in simulated seconds."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.busy():
            return super().select(0.1)
        if timeout is None:
            raise RuntimeError("nothing is left to be done, and no time is set for anything: this would wait for ever")
        self.now += max(timeout, LEAST)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """See the module. Its time begins at 0 and is in seconds."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Simulated seconds since the loop was made."""
        return self._skipping.now

    def while_busy(self, busy: Callable[[], bool]) -> None:
        """No time passes while ``busy()`` is true: another thread has work of the loop's in hand."""
        self._skipping.busy = busy


def run_simulated(main: Callable[[SimulatedLoop], Coroutine[Any, Any, T]]) -> T:
    """Run ``main`` on a loop of its own; its result, or what it raised, or else the first that a callback did."""
    loop = SimulatedLoop()
    raised: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    try:
        result = loop.run_until_complete(main(loop))
        for context in raised:
            raise context.get("exception") or RuntimeError(context["message"])
        return result
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class SimulatedClock(LoopClock):
    """A server's clock on such a loop: its date goes on with the loop's time."""

    BEGIN = 1_700_000_000.0
    """Seconds since 1970, when the loop's time was 0."""

    def wall(self) -> float:
        """See :class:`greenroom.server.clock.Clock`."""
        return self.BEGIN + self.now()
