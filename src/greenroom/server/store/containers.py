"""Containers of deployed apps, so that the next server knows those that outlive this one."""

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple


class ContainerRow(NamedTuple):
    """One that has not ended, as far as is known. The fields are the columns, in their order."""

    id: str
    token: str
    """Of its token, the SHA-256."""
    app: str
    """The app's name."""
    app_id: str
    function_id: str
    binding: str
    """Key of its constructor arguments; ``""``: it has none."""
    arguments: bytes
    """Those, pickled."""
    created_at: float
    """Seconds since 1970."""


def add_container(connection: sqlite3.Connection, row: ContainerRow) -> None:
    """It starts."""
    connection.execute("INSERT OR IGNORE INTO containers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def remove_containers(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """They have ended."""
    connection.executemany("DELETE FROM containers WHERE id = ?", [(each,) for each in ids])


def all_containers(connection: sqlite3.Connection) -> list[ContainerRow]:
    """Those that the last server had."""
    return [ContainerRow(*row) for row in connection.execute("SELECT * FROM containers ORDER BY created_at")]
