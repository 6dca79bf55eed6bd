"""A container's output: a file that its processes append to, and the tail that carries it to the server.

A file, since it outlives every reader: a ``print`` in an exit hook works when the worker has died.
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

BLOCK = 256 * 1024
KEPT = 8 * 1024**2
"""Bytes before the last one handed on that stay: the server may not have them, should this process die now."""
TAIL, LINE = 4096, 300
"""Bytes in which the last line is looked for, and how much of it is told."""
_PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


class Output:
    """The file; what was appended since the last look is handed on by :meth:`forward`."""

    def __init__(self, path: Path, send: Callable[[bytes], None], offset: int = 0) -> None:
        self._path = path
        self._send = send
        self._offset = offset
        self._freed = 0
        """Bytes at the file's start that take no room any more."""
        self._fd = -1

    def acquire(self) -> None:
        """Make the file and open it; raises OSError."""
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        os.fchmod(self._fd, 0o666)  # a program may open /dev/stdout; its directory is ours alone

    def release(self) -> None:
        """Close."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def forward(self, limit: int) -> bool:
        """Hand on what has been appended, up to about ``limit`` bytes; whether that was all."""
        while limit > 0:
            data = os.pread(self._fd, BLOCK, self._skip_hole())
            if not data:
                if os.fstat(self._fd).st_size >= self._offset:
                    return True
                self._offset = self._freed = 0  # a program opened /dev/stdout anew, and that cut it
                continue
            self._offset += len(data)
            limit -= len(data)
            self._send(data)
            if self._offset - self._freed >= 2 * KEPT:
                self._free(self._offset - KEPT)
        return False

    def last_line(self) -> str:
        """The last line of it that says something, ``""`` where none does."""
        size = os.fstat(self._fd).st_size
        text = os.pread(self._fd, TAIL, max(0, size - TAIL)).decode(errors="replace")
        # An interpreter that can't start ends with a list of its threads, which says less than what stands above.
        lines = text.partition("\nCurrent thread 0x")[0].replace("\0", "").split("\n")
        return next((line.strip()[-LINE:] for line in reversed(lines) if line.strip()), "")

    def _skip_hole(self) -> int:
        """Where to read on: a program that makes its output longer than what it printed is not to be read for days."""
        # Looked at before the search, lest what is printed during it is taken for part of the hole.
        size = os.fstat(self._fd).st_size
        if size > self._offset:
            try:
                self._offset = max(self._offset, os.lseek(self._fd, self._offset, os.SEEK_DATA))
            except OSError:
                self._offset = size  # nothing but a hole was left
        return self._offset

    def _free(self, until: int) -> None:
        """Give the disk back what has been handed on long ago; a container may print for weeks."""
        libc = ctypes.CDLL(None)
        length = ctypes.c_int64(until - self._freed)
        libc.fallocate(self._fd, _PUNCH_HOLE, ctypes.c_int64(self._freed), length)  # where that can't be, it stays
        self._freed = until
