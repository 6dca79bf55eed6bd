"""Noticing that files have grown: inotify, so that a ``print`` is on its way at once and quiet containers cost nothing."""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

_IN_MODIFY = 2
_IN_Q_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")
POLL = 0.05
"""Seconds between two looks where inotify can't be had."""


class FileWatch:
    """Calls back when a watched file was written to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._polled: dict[Path, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd >= 0:
            loop.add_reader(self._fd, self._read)

    def add(self, path: Path, callback: Callable[[], None]) -> Callable[[], None]:
        """Watch a file; what is returned ends it."""
        number: int = -1
        if self._fd >= 0:
            number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY)
        if number < 0:
            # The user's limit of watches is reached (fs.inotify.max_user_watches), or there is no inotify: look.
            self._polled[path] = callback
            self._look_soon()
            return lambda: self._polled.pop(path, None) and None
        self._callbacks[number] = callback

        def remove() -> None:
            if self._callbacks.pop(number, None) is not None:
                self._libc.inotify_rm_watch(self._fd, number)

        return remove

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        numbers: dict[int, None] = {}
        start = 0
        while start < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, start)
            if mask & _IN_Q_OVERFLOW:  # events were lost: it may have been any file
                numbers.update(dict.fromkeys(self._callbacks))
            numbers[number] = None
            start += _EVENT.size + length
        for number in numbers:
            if (callback := self._callbacks.get(number)) is not None:
                callback()

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(POLL, self._look)

    def _look(self) -> None:
        self._timer = None
        for callback in list(self._polled.values()):
            callback()
        if self._polled:
            self._look_soon()

    def close(self) -> None:
        """End every watch."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._timer is not None:
            self._timer.cancel()
