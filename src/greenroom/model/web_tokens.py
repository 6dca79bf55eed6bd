"""Tokens that let clients request endpoints with ``requires_proxy_auth=True``: made by a command, checked by the server.

``$GREENROOM_HOME/web-tokens.json`` keeps, by id, a digest of each secret, and never a secret itself.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

FILE = "web-tokens.json"


class Token(NamedTuple):
    """One of them, as it is kept."""

    id: str
    name: str
    digest: str
    """SHA-256 of its secret, which is 32 random bytes: nothing that could be guessed."""
    created: float
    """Seconds since 1970."""


def create(home: Path, name: str) -> tuple[Token, str]:
    """A new token, and its secret, which nobody can read again; raises OSError."""
    secret = f"ws-{secrets.token_urlsafe(32)}"
    token = Token(f"wk-{secrets.token_hex(8)}", name, _digest(secret), time.time())
    with _Locked(home) as kept:
        kept.write([*kept.tokens, token])
    return token, secret


def revoke(home: Path, token_id: str) -> bool:
    """Let a token be of no more use; False: there is none of that id. Raises OSError."""
    with _Locked(home) as kept:
        others = [token for token in kept.tokens if token.id != token_id]
        if len(others) == len(kept.tokens):
            return False
        kept.write(others)
    return True


def read(home: Path) -> list[Token]:
    """All of them, the oldest first; raises OSError, ValueError."""
    try:
        return [Token(**entry) for entry in json.loads((home / FILE).read_bytes())]
    except FileNotFoundError:
        return []
    except TypeError as error:
        raise ValueError(f"{home / FILE} is damaged: {error}") from None


def fits(tokens: list[Token], token_id: str, secret: str) -> bool:
    """Whether that is one of them; takes as long for a wrong secret as for a right one."""
    given = _digest(secret)
    return any(token.id == token_id and hmac.compare_digest(token.digest, given) for token in tokens)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


class _Locked:
    """The file, for one who changes it."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home = home
        self._fd = -1
        self.tokens: list[Token] = []

    def __enter__(self) -> "_Locked":
        self._fd = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.tokens = read(self._home)
        return self

    def write(self, tokens: list[Token]) -> None:
        """Whole, or not at all."""
        new = self._home / f".{FILE}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:
            data: list[dict[str, Any]] = [token._asdict() for token in tokens]
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._home / FILE)

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)
