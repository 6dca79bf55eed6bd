"""Payloads in the database: a small one in its row, a large one beside it, in parts.

So a row can be found, counted and changed without its payload, which may have gigabytes and is read a part at a time.
"""

import sqlite3
from collections.abc import Iterator

from greenroom.wire.payload import Payload, PayloadWriter, blocks

SMALL = 4096
"""Bytes that a payload in a row may have."""
PART = 1024**2
INLINE = 1024**2
"""Bytes up to which a payload that is read is bytes in memory; a larger one is a file in memory, as on the wire."""


def keep(connection: sqlite3.Connection, payload: Payload) -> tuple[bytes | None, int | None]:
    """Values for a row's columns ``small`` and ``large``."""
    if isinstance(payload, bytes) and len(payload) <= SMALL:
        return payload, None
    (number,) = connection.execute("SELECT coalesce(max(payload), 0) + 1 FROM parts").fetchone()
    rows = ((number, part, data) for part, data in enumerate(_parts(payload)))
    connection.executemany("INSERT INTO parts (payload, part, data) VALUES (?, ?, ?)", rows)
    return None, number


def drop(connection: sqlite3.Connection, large: int | None) -> None:
    """Take back what was kept, where no row got it."""
    if large is not None:
        connection.execute("DELETE FROM parts WHERE payload = ?", (large,))


def load(connection: sqlite3.Connection, small: bytes | None, large: int | None) -> Payload:
    """The payload of a row that has these."""
    if large is None:
        return small or b""
    writer = PayloadWriter(INLINE, 2**63)
    for (data,) in connection.execute("SELECT data FROM parts WHERE payload = ? ORDER BY part", (large,)):
        writer.write(data)
    return writer.payload()


def _parts(payload: Payload) -> Iterator[memoryview]:
    for block in blocks(payload):
        for start in range(0, len(block), PART):
            yield memoryview(block)[start : start + PART]
