"""What happens to many calls at once, in few statements: each costs as much again as its rows do, in the thread that writes
and in the one that it takes turns with."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from greenroom.server.store.calls import (
    PAGE_BYTES,
    CallRow,
    OutputRow,
    add_call,
    add_inputs,
    end_inputs,
    finish,
    keep_binding,
    put_outputs,
)
from greenroom.server.store.payloads import keep, load
from greenroom.wire.payload import Payload

T = TypeVar("T")
ROWS = 64
"""Of one statement at the most."""


class Whole(NamedTuple):
    """A call with all of its inputs."""

    row: CallRow
    """``inputs`` is how many it has."""
    binding: Payload
    """Constructor arguments, if the row names some."""
    payloads: Sequence[Payload]


class Finished(NamedTuple):
    """A call all of whose inputs have ended.

    ``at``: seconds since 1970, of those that are kept at once the last of their times.
    """

    call_id: str
    at: float


def keep_all(connection: sqlite3.Connection, things: Iterable[Whole | OutputRow | Finished]) -> None:
    """Add calls; then put outputs in the place of inputs; then finish calls. What each means is said in ``calls.py``.

    Raises:
        NotFoundError: a call that is there by its idempotency key has another id.
    """
    wholes: list[Whole] = []
    outputs: list[OutputRow] = []
    finished: dict[str, float] = {}
    for thing in things:
        if isinstance(thing, Whole):
            wholes.append(thing)
        elif isinstance(thing, OutputRow):
            outputs.append(thing)
        else:
            finished.setdefault(*thing)
    connection.execute("SAVEPOINT many")
    try:
        _keep_new(connection, wholes, outputs, finished)
    except _ThereError:
        connection.execute("ROLLBACK TO many")
        _keep_one_by_one(connection, wholes, outputs, finished)
    connection.execute("RELEASE many")


class _ThereError(Exception):
    """Some of it is there already."""


def _keep_one_by_one(
    connection: sqlite3.Connection, wholes: list[Whole], outputs: list[OutputRow], finished: dict[str, float]
) -> None:
    for row, binding, payloads in wholes:
        add_call(connection, row._replace(inputs=None), binding)
        add_inputs(connection, row.id, 0, payloads)
        end_inputs(connection, row.id, len(payloads))
    put_outputs(connection, outputs)
    for call_id, at in finished.items():
        finish(connection, call_id, at)


def _keep_new(
    connection: sqlite3.Connection, wholes: list[Whole], outputs: list[OutputRow], finished: dict[str, float]
) -> None:
    """All of it, where none of it is there; raises :class:`_ThereError` else."""
    numbers: dict[str, int] = {}
    if wholes:
        (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM calls").fetchone()
        numbers = {whole.row.id: number + place for place, whole in enumerate(wholes, 1)}
        if len(numbers) < len(wholes):
            raise _ThereError
        ended = {(output.call_id, output.idx) for output in outputs}
        _insert(
            connection,
            "INSERT INTO calls (id, app_id, function_id, method, binding, shape, inputs, created_at, finished_at, cancelled,"
            " idempotency, number)",
            12,
            [(*row[:8], finished.get(row.id), *row[9:11], numbers[row.id]) for row, _, _ in wholes],
        )
        for row, binding, _ in wholes:
            keep_binding(connection, row, binding)
        # An input that has ended by now needs no row of its own.
        _insert(
            connection,
            "INSERT INTO inputs (call, idx, attempt, losses, container, small, large)",
            7,
            [
                (numbers[row.id], index, 0, 0, "", *keep(connection, payload))
                for row, _, payloads in wholes
                for index, payload in enumerate(payloads)
                if (row.id, index) not in ended
            ],
        )
    new = frozenset(numbers)
    for ids in _pieces(list({output.call_id for output in outputs} - new)):
        marks = _marks(1, len(ids), "")
        there = connection.execute(f"SELECT id, number FROM calls WHERE id IN ({marks})", ids)  # noqa: S608 - marks
        numbers.update(there.fetchall())
    put = [output for output in outputs if output.call_id in numbers]
    _insert(
        connection,
        "INSERT INTO outputs (call, idx, status, detail, small, large)",
        6,
        [
            (numbers[output.call_id], output.idx, output.status, output.detail, *keep(connection, output.payload))
            for output in put
        ],
    )
    _remove_inputs(connection, [(numbers[output.call_id], output.idx) for output in put if output.call_id not in new])
    for calls in _pieces([call_id for call_id in finished if call_id not in new]):
        statement = (
            f"UPDATE calls SET finished_at = ? WHERE finished_at IS NULL AND id IN ({_marks(1, len(calls), '')})"  # noqa: S608 - marks
        )
        connection.execute(statement, (max(finished[call_id] for call_id in calls), *calls))


def _remove_inputs(connection: sqlite3.Connection, inputs: list[tuple[int, int]]) -> None:
    """By call and index: one input of each of many calls in one statement, or many of one call."""
    calls, indexes = {call for call, _ in inputs}, {index for _, index in inputs}
    one, many = (0, 1) if len(calls) < len(indexes) else (1, 0)
    groups: dict[int, list[int]] = {}
    for pair in inputs:
        groups.setdefault(pair[one], []).append(pair[many])
    names = ("call", "idx")
    for key, others in groups.items():
        for piece in _pieces(others):
            marks = _marks(1, len(piece), "")
            statement = f"DELETE FROM inputs WHERE {names[one]} = ? AND {names[many]} IN ({marks})"  # noqa: S608 - marks
            connection.execute(statement, (key, *piece))


def _insert(connection: sqlite3.Connection, into: str, columns: int, rows: list[tuple[Any, ...]]) -> None:
    """Rows none of which is there; raises :class:`_ThereError` else."""
    for piece in _pieces(rows):
        statement = f"{into} VALUES {_marks(columns, len(piece))} ON CONFLICT DO NOTHING"
        if connection.execute(statement, _flat(piece)).rowcount < len(piece):
            raise _ThereError


def _pieces(things: list[T]) -> Iterator[list[T]]:
    """Of few sizes, so that each statement has been prepared before."""
    start, size = 0, ROWS
    while start < len(things):
        while size > len(things) - start:
            size //= 2
        yield things[start : start + size]
        start += size


@lru_cache(256)
def _marks(columns: int, rows: int, bracket: str = "()") -> str:
    row = ", ".join("?" * columns)
    return ", ".join([f"({row})" if bracket else row] * rows)


def _flat(rows: list[tuple[Any, ...]]) -> list[Any]:
    return list(chain.from_iterable(rows))


def collected(
    connection: sqlite3.Connection, call_id: str, after_index: int, limit: int
) -> tuple[int | None, list[OutputRow], bool] | None:
    """How many inputs a call has (None: more may come), its next outputs past ``after_index``, by index, and whether there may
    be further ones; None: there is no such call."""
    rows = connection.execute(
        "SELECT inputs, idx, status, detail, small, large FROM calls LEFT JOIN outputs ON call = number AND idx > ?"
        " WHERE id = ? ORDER BY idx LIMIT ?",
        (after_index, call_id, limit),
    )
    first = rows.fetchone()
    if first is None:
        return None
    page: list[OutputRow] = []
    size = 0
    if first[1] is None:
        return first[0], page, False
    for _, idx, status, detail, small, large in chain([first], rows):
        page.append(OutputRow(call_id, idx, status, detail, load(connection, small, large)))
        size += len(page[-1].payload)
        if size >= PAGE_BYTES:
            return first[0], page, True
    return first[0], page, len(page) == limit


def small_outputs(connection: sqlite3.Connection, call_ids: Sequence[str]) -> dict[str, tuple[OutputRow | None]]:
    """Of those calls that have one input, all told, its output, unless that is large; None in its place: it hasn't ended."""
    found: dict[str, tuple[OutputRow | None]] = {}
    for ids in _pieces(list(call_ids)):
        rows = connection.execute(
            "SELECT id, idx, status, detail, small, large FROM calls LEFT JOIN outputs ON call = number"  # noqa: S608 - marks
            f" WHERE inputs = 1 AND id IN ({_marks(1, len(ids), '')})",
            ids,
        )
        for call_id, idx, status, detail, small, large in rows.fetchall():
            if large is None:
                found[call_id] = (OutputRow(call_id, idx, status, detail, small or b"") if idx is not None else None,)
    return found
