"""A container's output: a file that its processes append to, and the tail that carries it to the server.

A file, since it outlives every reader: a ``print`` in an exit hook works when the worker has died.
"""

import os
from collections.abc import Callable
from pathlib import Path

BLOCK = 256 * 1024


class Output:
    """The file; what was appended since the last look is handed on by :meth:`forward`."""

    def __init__(self, path: Path, send: Callable[[bytes], None], offset: int = 0) -> None:
        self._path = path
        self._send = send
        self._offset = offset
        self._fd = -1

    def acquire(self) -> None:
        """Make the file and open it for reading; raises OSError."""
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def release(self) -> None:
        """Close."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def forward(self, limit: int) -> bool:
        """Hand on what has been appended, up to about ``limit`` bytes; whether that was all."""
        while limit > 0:
            data = os.pread(self._fd, BLOCK, self._offset)
            if not data:
                return True
            self._offset += len(data)
            limit -= len(data)
            self._send(data)
        return False
