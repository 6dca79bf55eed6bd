"""Standard streams that may be closed: ``greenroom run app.py >&-``, a service without a terminal."""

import os
import sys
from typing import TextIO, cast


def open_standard_descriptors() -> None:
    """Lead those of 0, 1 and 2 that are closed to nowhere.

    Else the next file or socket that is opened gets the number, and what is printed goes there.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one


def open_standard_streams() -> None:
    """The same, and give Python a stream for each, so that no command has to ask whether it has one."""
    open_standard_descriptors()
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "w" if fd else "r", encoding="utf-8", closefd=False))


def writable(stream: TextIO | None) -> TextIO:
    """The stream, or one that leads nowhere in the place of one that is closed, or that isn't there."""
    if stream is not None and not getattr(stream, "closed", False):
        return stream
    return cast("TextIO", open(os.devnull, "w", encoding="utf-8"))


def is_terminal(stream: TextIO) -> bool:
    """Whether it is one; what a program has put in a stream's place may not know."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())


def warn(text: str) -> None:
    """A line on stderr, where somebody reads it."""
    try:
        if sys.stderr is not None:
            print(f"{text}\n", end="", file=sys.stderr, flush=True)  # in one piece, whatever other threads say
    except (OSError, ValueError):
        return
