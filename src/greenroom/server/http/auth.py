"""Whether a request may pass: it carries one of the tokens that ``greenroom token create`` made."""

import asyncio
import base64
import binascii
import time
from collections.abc import Iterable
from pathlib import Path

from greenroom.model.web_tokens import Token, fits, read

FRESH = 1.0
"""Seconds in which what was read of the file counts."""


class Gate:
    """One server's."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._tokens: asyncio.Future[list[Token]] | None = None
        """What was read of it, or is being read."""
        self._read_at = 0.0

    async def opens(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether these are the headers of somebody who may pass."""
        given = _given(headers)
        if given is None:
            return False
        if self._tokens is None or time.monotonic() - self._read_at >= FRESH:
            self._read_at = time.monotonic()
            self._tokens = asyncio.ensure_future(asyncio.to_thread(_read, self._home))
        return fits(await asyncio.shield(self._tokens), *given)


def _read(home: Path) -> list[Token]:
    try:
        return read(home)
    except (OSError, ValueError):
        return []  # whom nobody can vouch for doesn't pass


def _given(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str] | None:
    found = {name: value.decode("latin-1") for name, value in headers}
    if b"modal-key" in found and b"modal-secret" in found:
        return found[b"modal-key"], found[b"modal-secret"]
    scheme, _, credentials = found.get(b"authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, colon, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return None
        return (name, secret) if colon else None
    return None
