"""File work, in a thread of its own and in order, so that a slow disk holds up nothing but what waits for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Disk:
    """One writer thread, started by the first piece of work."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="greenroom-disk")
        self.pending = 0
        """Pieces of work whose ``then`` hasn't been called."""

    def do(self, work: Callable[[], T], then: Callable[[Future[T]], None]) -> None:
        """Do ``work``; ``then`` is called on the loop with the finished future, whether it raised or not."""
        self.pending += 1
        self._thread.submit(work).add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._done, done, then)
        )

    def _done(self, done: Future[T], then: Callable[[Future[T]], None]) -> None:
        self.pending -= 1
        then(done)

    def close(self) -> None:
        """No more work comes; the thread ends."""
        self._thread.shutdown(wait=False)
