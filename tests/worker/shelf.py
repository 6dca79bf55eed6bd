"""Layers that a test makes without running anything, and other processes that are at work on the same ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from greenroom.worker.images.store import Draft, Layer, Layers
from greenroom.worker.images.tree import Tree


def key(number: int) -> str:
    return f"{number:064x}"


def record(number: int, below: Iterable[int] = (), forced: bool = False) -> Layer:
    return Layer(key(number), [key(n) for n in below], f"step {number}", "", time.time(), 1.0, Tree("", 0, 0), forced)


def begun(layers: Layers, text: str = "content") -> Draft:
    draft = layers.draft()
    (draft.path / "fs").mkdir()
    (draft.path / "work").mkdir()
    (draft.path / "fs" / "file").write_text(text)
    return draft


def put(layers: Layers, number: int, below: Iterable[int] = (), text: str = "content", forced: bool = False) -> Layer:
    """A layer as its maker leaves it."""
    return begun(layers, text).keep(layers, record(number, below, forced))


def aged(layers: Layers, number: int, seconds: float) -> None:
    """It was last used so long ago."""
    then = time.time() - seconds
    os.utime(layers.directory / key(number) / "layer.json", (then, then))


class Other:
    """A process of its own that says a line once it is where its program brings it, and stays there."""

    def __init__(self, directory: Path, program: str) -> None:
        beginning = (
            "import sys, os\nfrom pathlib import Path\nfrom greenroom.worker.images.store import Layers\n"
            "from tests.worker.shelf import *\nlayers = Layers(Path(sys.argv[1]))\n"
        )
        ending = "\nprint('there', flush=True)\nsys.stdin.read()\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", beginning + program + ending, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "there\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def __enter__(self) -> "Other":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate()
