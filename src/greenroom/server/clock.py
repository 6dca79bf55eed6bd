"""Time, as something that a test can hold.

Everything that the server decides by time (timeouts, start-up limits, idle windows, drain limits, retry delays) asks a
:class:`Clock`. What it merely measures (how fast inputs run) uses the real time.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that is due at some time."""

    def cancel(self) -> None:
        """It won't be called any more; may be called again, and after it was called."""


class Clock(Protocol):
    """Seconds that only go up, and callbacks when they have."""

    def now(self) -> float:
        """Seconds since some fixed moment."""

    def wall(self) -> float:
        """Seconds since 1970."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call back on the server's loop, ``delay`` seconds from now."""


class LoopClock:
    """The real time of an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """See :class:`Clock`."""
        return self._loop.time()

    def wall(self) -> float:
        """See :class:`Clock`."""
        return time.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """See :class:`Clock`."""
        return self._loop.call_later(delay, callback)
