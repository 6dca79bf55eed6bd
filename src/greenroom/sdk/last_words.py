"""What containers print once their server has gone: their exit hooks run without it, and nobody else would show it.

Their worker waits for them, and clears up after the last; until then what they print stands in their output files.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from greenroom.model.ids import BUILD
from greenroom.sdk.server_process import ServerProcess

POLL = 0.02
"""Seconds between two looks."""
BLOCK = 256 * 1024
"""Bytes that are read at once."""


def relay(process: ServerProcess, heard: dict[str, int], show: Callable[[str, bytes], None]) -> None:
    """Show what the containers of a server that died still print; returns once they have ended.

    Args:
        process: the server.
        heard: bytes of each container's output that it had sent before.
        show: takes a container's id and what it printed.
    """
    limit = time.monotonic() + process.backstop
    outputs: dict[str, _Output] = {}
    over = False
    while not over:
        # Asked before the files are read: what was printed until then is in them.
        over = not process.in_use() or time.monotonic() > limit
        for path in (process.run / "containers").glob("*/output"):
            container_id = path.parent.name
            if container_id.startswith(f"{BUILD}-"):
                continue  # what a build prints is none of the program's output
            if container_id not in outputs and (output := _open(path, heard.get(container_id, 0))) is not None:
                outputs[container_id] = output
        for container_id, output in outputs.items():
            output.read(lambda data, container_id=container_id: show(container_id, data))  # type: ignore[misc]
        if not over:
            time.sleep(POLL)
    for output in outputs.values():
        output.close()


class _Output:
    """A container's output file. It can still be read once the worker has removed it."""

    def __init__(self, fd: int, heard: int) -> None:
        self._fd = fd
        # A program that opens /dev/stdout anew cuts the file: then what was heard says nothing of where to go on.
        self._offset = min(heard, os.fstat(fd).st_size)

    def read(self, show: Callable[[bytes], None]) -> None:
        """Show what has come."""
        while data := os.pread(self._fd, BLOCK, self._offset):
            self._offset += len(data)
            show(data)

    def close(self) -> None:
        os.close(self._fd)


def _open(path: Path, heard: int) -> _Output | None:
    try:
        return _Output(os.open(path, os.O_RDONLY | os.O_CLOEXEC), heard)
    except OSError:
        return None  # its worker was faster
