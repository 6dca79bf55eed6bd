"""Calls, their inputs and their outputs, as the database keeps them.

Each function is one change or one query, over a connection. All of them can be said again: what is there already stays as
it is, so that whoever doesn't know whether he was heard may repeat himself.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from greenroom.model.errors import NotFoundError
from greenroom.server.store.payloads import drop, keep, load
from greenroom.wire.payload import Payload

PAGE_BYTES = 32 * 1024**2
"""Bytes of payloads from which on a page of inputs or outputs is full, however few they are."""


class CallRow(NamedTuple):
    """One call. The fields are the columns, in their order."""

    id: str
    app_id: str
    function_id: str
    method: str
    binding: str
    """Key of its constructor arguments; ``""``: it has none."""
    shape: str
    inputs: int | None
    """How many it has; None: more may come."""
    created_at: float
    """Seconds since 1970."""
    finished_at: float | None = None
    cancelled: str = ""
    """Why it was, if it was."""
    idempotency: str | None = None
    """What its caller says again when it doesn't know whether it came: there is one call of each."""
    number: int = 0
    """Given by the database: in the order in which calls were added."""


class InputRow(NamedTuple):
    """An input that has no output yet."""

    call_id: str
    idx: int
    attempt: int
    """Attempts that have failed."""
    losses: int
    """Times that its container was lost."""
    tried: str
    """The attempt that failed last: its container, and its number there; ``""``: none has."""
    payload: Payload


class OutputRow(NamedTuple):
    """How an input ended."""

    call_id: str
    idx: int
    status: str
    detail: str
    payload: Payload


class Attempt(NamedTuple):
    """How far an input is."""

    call_id: str
    idx: int
    attempt: int
    losses: int
    tried: str = ""
    """Which attempt failed last; the column is called ``container``."""


class Progress(NamedTuple):
    """How far a call is."""

    waiting: int
    """Inputs without an output."""
    ended: int
    next_index: int
    """The lowest index above all of them."""


# ---- changes ----


def add_call(connection: sqlite3.Connection, call: CallRow, binding: Payload = b"") -> CallRow | None:
    """Add a call; ``binding``: its constructor arguments, if ``call.binding`` names some.

    Returns:
        None: it is new. Else the call that is there already, by this id or this idempotency key.
    """
    added = connection.execute(
        "INSERT INTO calls (id, app_id, function_id, method, binding, shape, inputs, created_at, finished_at, cancelled,"
        " idempotency) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        call[:-1],
    )
    if not added.rowcount:
        found = connection.execute(
            "SELECT * FROM calls WHERE idempotency = ? UNION ALL SELECT * FROM calls WHERE id = ? LIMIT 1",
            (call.idempotency, call.id),
        )
        return CallRow(*found.fetchone())
    keep_binding(connection, call, binding)
    return None


def keep_binding(connection: sqlite3.Connection, call: CallRow, binding: Payload) -> None:
    """Keep a call's constructor arguments, if it names some and they aren't there."""
    if call.binding and not _has_binding(connection, call):
        row = (call.function_id, call.binding, *keep(connection, binding))
        connection.execute("INSERT INTO bindings (function_id, binding, small, large) VALUES (?, ?, ?, ?)", row)


def add_inputs(connection: sqlite3.Connection, call_id: str, first: int, payloads: Sequence[Payload]) -> int:
    """Add inputs, numbered from ``first`` on; those that are there, or have ended, stay as they are.

    Returns:
        How many are new.

    Raises:
        NotFoundError: there is no such call.
    """
    number = _number(connection, call_id)
    bounds = (number, first, first + len(payloads) - 1)
    there = connection.execute(
        "SELECT idx FROM inputs WHERE call = ?1 AND idx BETWEEN ?2 AND ?3"
        " UNION ALL SELECT idx FROM outputs WHERE call = ?1 AND idx BETWEEN ?2 AND ?3",
        bounds,
    )
    old = {index for (index,) in there}
    rows = [
        (number, index, *keep(connection, payload)) for index, payload in enumerate(payloads, first) if index not in old
    ]
    connection.executemany(
        "INSERT INTO inputs (call, idx, attempt, losses, container, small, large) VALUES (?, ?, 0, 0, '', ?, ?)", rows
    )
    return len(rows)


def end_inputs(connection: sqlite3.Connection, call_id: str, count: int) -> None:
    """No more than ``count`` inputs will come."""
    connection.execute("UPDATE calls SET inputs = ? WHERE id = ? AND inputs IS NULL", (count, call_id))


def put_outputs(connection: sqlite3.Connection, outputs: Iterable[OutputRow]) -> int:
    """Inputs have ended, of whichever calls: their outputs take their place. The first output of an input stands; those of
    calls that are forgotten are left out.

    Returns:
        How many are new.
    """
    new = 0
    for call_id, group in groupby(outputs, lambda output: output.call_id):
        found = connection.execute("SELECT number FROM calls WHERE id = ?", (call_id,)).fetchone()
        if found is None:
            continue
        for output in group:
            small, large = keep(connection, output.payload)
            row = (*found, output.idx, output.status, output.detail, small, large)
            put = connection.execute(
                "INSERT INTO outputs (call, idx, status, detail, small, large) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                row,
            )
            if not put.rowcount:
                drop(connection, large)
            new += put.rowcount
            connection.execute("DELETE FROM inputs WHERE call = ? AND idx = ?", row[:2])
    return new


def note_attempt(connection: sqlite3.Connection, attempts: Iterable[Attempt]) -> None:
    """How often these inputs were tried by now, and where they are; those that have ended are left out."""
    connection.executemany(
        "UPDATE inputs SET attempt = ?, losses = ?, container = ?"
        " WHERE call = (SELECT number FROM calls WHERE id = ?) AND idx = ?",
        ((a.attempt, a.losses, a.tried, a.call_id, a.idx) for a in attempts),
    )


def cancel(connection: sqlite3.Connection, call_id: str, reason: str) -> None:
    """A call is to be no more; its inputs end by outputs that say so (see :func:`end_waiting`). The first reason stands."""
    connection.execute("UPDATE calls SET cancelled = ? WHERE id = ? AND cancelled = ''", (reason, call_id))


def end_waiting(
    connection: sqlite3.Connection, call_id: str, after_index: int, limit: int, status: str, detail: str
) -> int:
    """End up to ``limit`` inputs past ``after_index`` without having read them; how many there were."""
    found = connection.execute(
        "SELECT call, idx FROM inputs WHERE call = (SELECT number FROM calls WHERE id = ?) AND idx > ?"
        " ORDER BY idx LIMIT ?",
        (call_id, after_index, limit),
    ).fetchall()
    if found:
        bounds = (found[0][0], found[0][1], found[-1][1])
        connection.execute(
            "INSERT INTO outputs (call, idx, status, detail, small) SELECT call, idx, ?4, ?5, x'' FROM inputs"
            " WHERE call = ?1 AND idx BETWEEN ?2 AND ?3",
            (*bounds, status, detail),
        )
        connection.execute("DELETE FROM inputs WHERE call = ? AND idx BETWEEN ? AND ?", bounds)
    return len(found)


def finish(connection: sqlite3.Connection, call_id: str, at: float) -> None:
    """Every input has its output, and no more will come; ``at``: seconds since 1970. The first time stands."""
    connection.execute("UPDATE calls SET finished_at = ? WHERE id = ? AND finished_at IS NULL", (at, call_id))


def forget(connection: sqlite3.Connection, call_ids: Iterable[str]) -> None:
    """These calls can't be found any more; :func:`forget_older_than` removes their rows."""
    connection.executemany(
        "UPDATE calls SET id = NULL, idempotency = NULL, finished_at = coalesce(finished_at, created_at) WHERE id = ?",
        ((call_id,) for call_id in call_ids),
    )


def forget_older_than(connection: sqlite3.Connection, time: float, limit: int) -> int:
    """Forget calls that finished before ``time``, oldest first, and remove rows of forgotten ones: up to ``limit`` of each.

    Returns:
        Rows removed; with fewer than ``limit`` nothing is left to remove.
    """
    connection.execute(
        "UPDATE calls SET id = NULL, idempotency = NULL WHERE number IN (SELECT number FROM calls"
        " WHERE finished_at < ? AND id IS NOT NULL ORDER BY finished_at LIMIT ?)",
        (time, limit),
    )
    left = limit
    for (number,) in connection.execute("SELECT number FROM calls WHERE id IS NULL LIMIT ?", (limit,)).fetchall():
        for statement in (
            "DELETE FROM outputs WHERE call = ?1 AND idx IN (SELECT idx FROM outputs WHERE call = ?1 LIMIT ?2)",
            "DELETE FROM inputs WHERE call = ?1 AND idx IN (SELECT idx FROM inputs WHERE call = ?1 LIMIT ?2)",
        ):
            left -= connection.execute(statement, (number, left)).rowcount
        if left <= 0:
            break
        left -= _remove(connection, number)
    return limit - left


# ---- queries ----


def find(connection: sqlite3.Connection, call_id: str) -> CallRow | None:
    """The call of that id, unless it is forgotten."""
    row = connection.execute("SELECT * FROM calls WHERE id = ?", (call_id,)).fetchone()
    return CallRow(*row) if row else None


def binding_of(connection: sqlite3.Connection, function_id: str, binding: str) -> Payload:
    """Constructor arguments by their key; raises :class:`NotFoundError`."""
    row = connection.execute(
        "SELECT small, large FROM bindings WHERE function_id = ? AND binding = ?", (function_id, binding)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"no parameter set {binding[:40]} of {function_id} is kept")
    return load(connection, *row)


def progress_of(connection: sqlite3.Connection, call_id: str) -> Progress:
    """How far a call is; raises :class:`NotFoundError`."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM inputs WHERE call = ?1), (SELECT count(*) FROM outputs WHERE call = ?1),"
        " 1 + max(coalesce((SELECT max(idx) FROM inputs WHERE call = ?1), -1),"
        " coalesce((SELECT max(idx) FROM outputs WHERE call = ?1), -1))",
        (_number(connection, call_id),),
    ).fetchone()
    return Progress(*row)


def unfinished(connection: sqlite3.Connection, after: int = 0, limit: int = 1000) -> list[CallRow]:
    """The next calls that aren't finished, past the one numbered ``after``, in the order in which they were added."""
    rows = connection.execute(
        "SELECT * FROM calls INDEXED BY unfinished_calls WHERE finished_at IS NULL AND number > ? ORDER BY number LIMIT ?",
        (after, limit),
    )
    return [CallRow(*row) for row in rows]


def inputs_of(connection: sqlite3.Connection, call_id: str, after_index: int = -1, limit: int = 1000) -> list[InputRow]:
    """The next inputs of a call that have no output, past ``after_index``; none of a forgotten call."""
    rows = connection.execute(
        "SELECT idx, attempt, losses, container, small, large FROM inputs"
        " WHERE call = (SELECT number FROM calls WHERE id = ?) AND idx > ? ORDER BY idx LIMIT ?",
        (call_id, after_index, limit),
    )
    page: list[InputRow] = []
    size = 0
    for idx, attempt, losses, container, small, large in rows:
        page.append(InputRow(call_id, idx, attempt, losses, container, load(connection, small, large)))
        size += len(page[-1].payload)
        if size >= PAGE_BYTES:
            break
    return page


def outputs_of(
    connection: sqlite3.Connection, call_id: str, after_index: int = -1, limit: int = 1000
) -> list[OutputRow]:
    """The next outputs of a call past ``after_index``, by index; none of a forgotten call."""
    rows = connection.execute(
        "SELECT idx, status, detail, small, large FROM outputs"
        " WHERE call = (SELECT number FROM calls WHERE id = ?) AND idx > ? ORDER BY idx LIMIT ?",
        (call_id, after_index, limit),
    )
    page: list[OutputRow] = []
    size = 0
    for idx, status, detail, small, large in rows:
        page.append(OutputRow(call_id, idx, status, detail, load(connection, small, large)))
        size += len(page[-1].payload)
        if size >= PAGE_BYTES:
            break
    return page


def _number(connection: sqlite3.Connection, call_id: str) -> int:
    found = connection.execute("SELECT number FROM calls WHERE id = ?", (call_id,)).fetchone()
    if found is None:
        raise NotFoundError(f"no call {call_id[:40]} is kept")
    return int(found[0])


def _has_binding(connection: sqlite3.Connection, call: CallRow) -> bool:
    found = connection.execute(
        "SELECT 1 FROM bindings WHERE function_id = ? AND binding = ?", (call.function_id, call.binding)
    )
    return found.fetchone() is not None


def _remove(connection: sqlite3.Connection, number: int) -> int:
    """A call without inputs and outputs; constructor arguments go with the last call that has them."""
    (bound,) = connection.execute("SELECT binding FROM calls WHERE number = ?", (number,)).fetchone()
    if bound:
        connection.execute(
            "DELETE FROM bindings WHERE (function_id, binding) = (SELECT function_id, binding FROM calls WHERE number = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM calls WHERE function_id = bindings.function_id"
            " AND binding = bindings.binding AND binding != '' AND number != ?1)",
            (number,),
        )
    return connection.execute("DELETE FROM calls WHERE number = ?", (number,)).rowcount
