"""What a container printed: from its file while it lives, from the one that is kept after."""

import os
import sys
import time
from pathlib import Path

from greenroom.cli.servers import Answering, Conversation, runs
from greenroom.model.settings import home_directory
from greenroom.wire.far_messages import ReadContainerLog

BLOCK = 256 * 1024
LOOK = 0.05
"""Seconds between two looks at a file that may grow."""
FAR_LOOK = 0.25
"""The same, on another machine."""


def find_output(container_id: str) -> list[Path]:
    """The files of the containers whose id begins so."""
    kept = {file.stem: file for file in (home_directory() / "logs").glob(f"{container_id}*.log")}
    live = {file.parent.name: file for run in runs() for file in run.glob(f"containers/{container_id}*/output")}
    return list({**kept, **live}.values())


def show(file: Path, follow: bool) -> None:
    """Write it to stdout; with ``follow``, what comes until the container has ended."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    offset = 0
    try:
        while True:
            # Before the read, lest something is printed between the read and the end.
            over = not follow or not file.exists()
            while data := os.pread(fd, BLOCK, offset := _read_on(fd, offset)):
                sys.stdout.buffer.write(data)
                offset += len(data)
            sys.stdout.flush()
            if over:
                return
            time.sleep(LOOK)
    finally:
        os.close(fd)


def show_far(server: Answering, container_id: str, follow: bool) -> None:
    """The same, of a container on another machine."""
    offset = 0
    with Conversation(server.address) as conversation:
        while True:
            answer, data = conversation.ask(ReadContainerLog(1, container_id, offset))
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            offset = answer["offset"]
            if not data and (answer["over"] or not follow):
                return
            if not data:
                time.sleep(FAR_LOOK)


def _read_on(fd: int, offset: int) -> int:
    """Where there is more to read: what was printed long ago takes no room any more, and a program may cut its output."""
    size = os.fstat(fd).st_size  # before the search, lest what is printed during it is taken for part of a hole
    if size < offset:
        offset = 0
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) if offset < size else offset
    except OSError:
        return size  # nothing but a hole is left
