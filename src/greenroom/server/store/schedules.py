"""When scheduled functions were last called, so that a restart neither repeats nor forgets one."""

import sqlite3


def note_fired(connection: sqlite3.Connection, function_id: str, at: float) -> None:
    """A function was called for the moment ``at``, seconds since 1970; an earlier one than is known changes nothing."""
    connection.execute(
        "INSERT INTO schedules (function_id, last_fired) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET last_fired = max(last_fired, excluded.last_fired)",
        (function_id, at),
    )


def last_fired(connection: sqlite3.Connection) -> dict[str, float]:
    """That moment, by function."""
    return dict(connection.execute("SELECT function_id, last_fired FROM schedules"))


def forget_schedule(connection: sqlite3.Connection, function_id: str) -> None:
    """A function is scheduled no longer."""
    connection.execute("DELETE FROM schedules WHERE function_id = ?", (function_id,))
