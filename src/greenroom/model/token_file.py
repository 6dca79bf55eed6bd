"""Tokens in a file of the state directory: by id, a digest of each secret, and never a secret itself."""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple


class Token(NamedTuple):
    """One of them, as it is kept."""

    id: str
    name: str
    digest: str
    """SHA-256 of its secret, which is 32 random bytes: nothing that could be guessed."""
    created: float
    """Seconds since 1970."""


def create(home: Path, file: str, token_id: str, name: str, secret: str) -> Token:
    """Keep a new one; raises OSError, ValueError."""
    token = Token(token_id, name, _digest(secret), time.time())
    with _Locked(home, file) as kept:
        kept.write([*kept.tokens, token])
    return token


def random_id(kind: str) -> str:
    """An id that none has."""
    return f"{kind}-{secrets.token_hex(8)}"


def random_secret() -> str:
    """32 random bytes."""
    return secrets.token_urlsafe(32)


def revoke(home: Path, file: str, token_id: str) -> bool:
    """Let a token be of no more use; False: there is none of that id. Raises OSError, ValueError."""
    with _Locked(home, file) as kept:
        others = [token for token in kept.tokens if token.id != token_id]
        if len(others) == len(kept.tokens):
            return False
        kept.write(others)
    return True


def read(home: Path, file: str) -> list[Token]:
    """All of them, the oldest first; raises OSError, ValueError."""
    try:
        return [Token(**entry) for entry in json.loads((home / file).read_bytes())]
    except FileNotFoundError:
        return []
    except TypeError as error:
        raise ValueError(f"{home / file} is damaged: {error}") from None


def fits(tokens: list[Token], token_id: str, secret: str) -> bool:
    """Whether that is one of them; takes as long for a wrong secret as for a right one."""
    given = _digest(secret)
    return any(token.id == token_id and hmac.compare_digest(token.digest, given) for token in tokens)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class _Locked:
    """The file, for one who changes it."""

    def __init__(self, home: Path, file: str) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home = home
        self._file = file
        self._fd = -1
        self.tokens: list[Token] = []

    def __enter__(self) -> "_Locked":
        self._fd = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self.tokens = read(self._home, self._file)
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def write(self, tokens: list[Token]) -> None:
        """Whole, or not at all."""
        new = self._home / f".{self._file}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:
            data: list[dict[str, Any]] = [token._asdict() for token in tokens]
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._home / self._file)

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)
