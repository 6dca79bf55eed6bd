"""Errors of our own: whatever a callback raises that nobody has foreseen costs one container, and is told.

The loop would print it and go on, and nobody would wait for the container any more.
"""

import functools
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Guarded(Protocol):
    """Has callbacks."""

    def broke(self, error: Exception) -> None:
        """One of them raised."""


S = TypeVar("S", bound=Guarded)
P = ParamSpec("P")


def guarded(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """For a method that the loop, the server or a sandbox calls: what it raises is told its object, and nobody else."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not leave a container hanging
            self.broke(error)

    return call


def own_error(what: str, error: Exception) -> str:
    """The line for the server; the rest goes to this process's stderr. ``what``: whose it is."""
    with suppress(OSError):  # a log that is full, or that nobody reads
        print(f"greenroom worker: {what}: an error of greenroom's own", file=sys.stderr)
        traceback.print_exception(error, file=sys.stderr)
        sys.stderr.flush()
    said = " ".join(str(error).split())[:300]
    return f"greenroom's own error: {type(error).__name__}" + (f": {said}" if said else "")
