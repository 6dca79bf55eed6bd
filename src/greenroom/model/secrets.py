"""Stored secrets: what one can be called and hold, and how a program says which it needs. The values are the server's."""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from greenroom.model.errors import InvalidError, ProtocolError

LONGEST_NAME = 64
LONGEST_VARIABLE = 128 * 1024
"""Bytes of ``NAME=value`` with its end, beyond which the kernel gives it to no process."""
MOST_BYTES = 1024**2
"""Of all the variables of one secret."""
_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{LONGEST_NAME - 1}}}")


class StoredSecret(NamedTuple):
    """One that a function, or a step of an image, needs. A list of them is in the order in which the program has them."""

    name: str
    required: list[str]
    """Variables that it must have."""
    after: dict[str, str] = {}
    """What the program gives after it: that wins over what it holds."""
    only: list[str] = []
    """Nothing of it but these; empty: all."""


def check_name(where: str, name: Any) -> str:
    """``name``, which is that of a file too; raises :class:`InvalidError`, which begins with ``where``."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidError(
            f"{where}: {name!r:.80} can't be a secret's name: that is up to {LONGEST_NAME} letters, digits, '.', '_' and "
            "'-', beginning with a letter, a digit or '_'"
        )
    return name


def check_sizes(where: str, variables: Mapping[str, str]) -> None:
    """Raise :class:`InvalidError` unless a process can be given all of them."""
    sizes = {name: len(os.fsencode(name)) + _bytes(value) + 2 for name, value in variables.items()}
    for name, size in sizes.items():
        if size > LONGEST_VARIABLE:
            raise InvalidError(
                f"{where}: {name} is too long: a variable can have {LONGEST_VARIABLE} bytes with its name"
            )
    if sum(sizes.values()) > MOST_BYTES:
        raise InvalidError(f"{where}: the variables of one secret can have {MOST_BYTES} bytes, and these have more")


def read_stored(data: Any) -> list[StoredSecret]:
    """As they travelled; raises :class:`ProtocolError`."""
    try:
        found = [StoredSecret(*fields) for fields in data]
        well = all(
            isinstance(secret.name, str)
            and isinstance(secret.required, list)
            and isinstance(secret.only, list)
            and isinstance(secret.after, dict)
            and all(isinstance(text, str) for text in [*secret.required, *secret.only, *secret.after.values()])
            for secret in found
        )
    except TypeError:
        well = False
    if not well:
        raise ProtocolError("stored secrets of another shape")  # without what came: that may hold values
    return found


def _bytes(value: str) -> int:
    return len(value.encode(errors="surrogatepass"))
