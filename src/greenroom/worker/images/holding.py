"""What keeps the layers under a container from being removed: its worker's lock, and a note that outlives the worker."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from greenroom.worker.scratch import Scratch

NOTE = "layers"
"""File in a container's directory: keys, one a line."""


class Keeper(Protocol):
    """Has the layers."""

    def use(self, key: str) -> bool:
        """Keep a layer from being removed; False when it isn't there."""

    def leave(self, key: str) -> None:
        """One user less."""


class Holding:
    """The layers that one container stands on."""

    def __init__(self, layers: Keeper, keys: list[str], directory: Path) -> None:
        self._layers = layers
        self._keys = keys
        self._directory = directory
        self._held: list[str] = []

    def acquire(self) -> None:
        """Hold them all; raises OSError, and then none is held."""
        try:
            for key in self._keys:
                if not self._layers.use(key):
                    raise OSError(0, "a layer of its image has been removed since it was built: run the app again")
                self._held.append(key)
            if self._keys:
                (self._directory / NOTE).write_text("\n".join(self._keys))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let them go; the note goes with the container's directory."""
        while self._held:
            self._layers.leave(self._held.pop())


def noted_layers(runs: Path) -> set[str]:
    """Keys of the layers under containers that may live, whether or not their worker does."""
    return {key for note in runs.glob(f"*/containers/*/{NOTE}") for key in _keys(note)}


def _keys(note: Path) -> Iterator[str]:
    directory = note.parent
    try:
        keys = note.read_text().split()
        if (
            not _server_lives(directory.parent.parent)
            and Scratch(directory.parent, directory.name, directory).supervisor() is None
        ):
            return  # what is left of it is to be swept
    except FileNotFoundError:
        return  # it has ended just now
    yield from keys


def _server_lives(run: Path) -> bool:
    fd = os.open(run / "lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
