"""Tokens that let programs on other machines use this server as its own user does: made by a command, checked by the server.

A token is one word, ``ID.SECRET``. ``$GREENROOM_HOME/client-tokens.json`` keeps them, as ``token_file.py`` has it.
"""

from pathlib import Path

from greenroom.model import token_file
from greenroom.model.token_file import Token as Token  # noqa: PLC0414 - what these are

FILE = "client-tokens.json"
KIND = "gc"
"""How their ids begin."""


def create(home: Path, name: str) -> tuple[Token, str]:
    """A new token, and the word itself, which nobody can read again; raises OSError, ValueError."""
    secret = token_file.random_secret()
    made = token_file.create(home, FILE, token_file.random_id(KIND), name, secret)
    return made, f"{made.id}.{secret}"


def revoke(home: Path, token_id: str) -> bool:
    """Let a token be of no more use; False: there is none of that id. Raises OSError, ValueError."""
    return token_file.revoke(home, FILE, token_id)


def read(home: Path) -> list[Token]:
    """All of them, the oldest first; raises OSError, ValueError."""
    return token_file.read(home, FILE)


def find(tokens: list[Token], word: str) -> Token | None:
    """The one that a client shows; None: it is none of them."""
    token_id, _, secret = word.partition(".")
    if not token_file.fits(tokens, token_id, secret):
        return None
    return next(token for token in tokens if token.id == token_id)
