"""What a container printed: from its file while it lives, from the one that is kept after."""

import os
import sys
import time
from pathlib import Path

from greenroom.cli.servers import runs
from greenroom.model.settings import home_directory

BLOCK = 256 * 1024
LOOK = 0.05
"""Seconds between two looks at a file that may grow."""


def find_output(container_id: str) -> list[Path]:
    """The files of the containers whose id begins so."""
    kept = {file.stem: file for file in (home_directory() / "logs").glob(f"{container_id}*.log")}
    live = {file.parent.name: file for run in runs() for file in run.glob(f"containers/{container_id}*/output")}
    return list({**kept, **live}.values())


def show(file: Path, follow: bool) -> None:
    """Write it to stdout; with ``follow``, what comes until the container has ended."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            os.lseek(fd, 0, os.SEEK_DATA)  # what was printed long ago takes no room any more
        except OSError:
            return  # it is empty
        while True:
            # Before the read, lest something is printed between the read and the end.
            over = not follow or not file.exists()
            while data := os.read(fd, BLOCK):
                sys.stdout.buffer.write(data)
            sys.stdout.flush()
            if over:
                return
            time.sleep(LOOK)
    finally:
        os.close(fd)
