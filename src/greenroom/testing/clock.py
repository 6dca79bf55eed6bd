"""A clock that stands still until it is told to go on."""

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class HeldClock:
    """See ``greenroom.server.clock.Clock``: seconds pass in :meth:`advance` alone."""

    def __init__(self) -> None:
        self._now = 1_000_000.0
        self._set = 0.0
        self._due: list[tuple[float, int, _Timer]] = []
        self._count = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Callbacks run on this loop."""
        self._loop = loop

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return self._now

    def wall(self) -> float:
        """Seconds since 1970, as far as a held clock knows."""
        return self._now + self._set

    def set_wall(self, seconds: float) -> None:
        """Set the date and time, as somebody or a long sleep may do: no other time passes."""
        self._set = seconds - self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Timer:
        """Call back once the clock has been advanced by ``delay`` seconds."""
        timer = _Timer(callback)
        heapq.heappush(self._due, (self._now + delay, next(self._count), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass; returns once everything that was due has been called, in order."""
        assert self._loop is not None, "the clock belongs to no cluster yet"
        done = threading.Event()

        def go() -> None:
            self.pass_time(seconds)
            done.set()

        self._loop.call_soon_threadsafe(go)
        done.wait()

    def pass_time(self, seconds: float) -> None:
        """As :meth:`advance`, on this thread: for a clock that belongs to no cluster."""
        end = self._now + seconds
        while self._due and self._due[0][0] <= end:
            self._now, _, timer = heapq.heappop(self._due)
            if timer.callback is not None:
                timer.callback()
        self._now = end
