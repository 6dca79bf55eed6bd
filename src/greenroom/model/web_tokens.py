"""Tokens that let clients request endpoints with ``requires_proxy_auth=True``: made by a command, checked by the server.

``$GREENROOM_HOME/web-tokens.json`` keeps them, as ``token_file.py`` has it.
"""

from pathlib import Path

from greenroom.model import token_file
from greenroom.model.token_file import Token as Token  # noqa: PLC0414 - what these are
from greenroom.model.token_file import fits as fits  # noqa: PLC0414

FILE = "web-tokens.json"
KIND = "wk"
"""How their ids begin."""


def create(home: Path, name: str) -> tuple[Token, str]:
    """A new token, and its secret, which nobody can read again; raises OSError, ValueError."""
    secret = f"ws-{token_file.random_secret()}"
    return token_file.create(home, FILE, token_file.random_id(KIND), name, secret), secret


def revoke(home: Path, token_id: str) -> bool:
    """Let a token be of no more use; False: there is none of that id. Raises OSError, ValueError."""
    return token_file.revoke(home, FILE, token_id)


def read(home: Path) -> list[Token]:
    """All of them, the oldest first; raises OSError, ValueError."""
    return token_file.read(home, FILE)
