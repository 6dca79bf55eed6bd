"""Deployed versions of apps, as the database keeps them: each function over a connection is one change or one query.

An app that goes on without its program has no versions, and shares its name with whatever is called so: it is kept as the one
version of an app that is called by its id, and what it is called itself lies beside that.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from greenroom.model.errors import NotFoundError
from greenroom.model.versions import StrEnum
from greenroom.server.store.payloads import keep, load
from greenroom.wire.payload import Payload

SCALING = "scaling"
"""The field of a function's spec, as it is kept, that has what its autoscaler was told while its version serves."""


class VersionState(StrEnum):
    """What has become of a version."""

    PENDING = "PENDING"
    """It is being deployed, and serves nothing yet."""
    CURRENT = "CURRENT"
    """It serves: at most one of an app does."""
    REPLACED = "REPLACED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"
    """It never served."""
    DETACHED = "DETACHED"
    """It is an app that goes on without its program."""


class VersionRow(NamedTuple):
    """One version of an app. The fields are the columns, in their order."""

    app: str
    number: int
    """From 1 on."""
    app_id: str
    deployed_at: float
    """Seconds since 1970."""
    state: VersionState
    strategy: str = "rolling"
    """How it was to take the place of the one before."""


class FunctionRow(NamedTuple):
    """A function or class of a version."""

    id: str
    spec: dict[str, Any]
    definition: Payload


class ImageRow(NamedTuple):
    """An image that functions of a version have; versions may share it."""

    id: str
    name: str
    """Who first asked for it: ``app.function``."""
    spec: dict[str, Any]
    payloads: list[Payload]


# ---- changes ----


def add_version(
    connection: sqlite3.Connection,
    app: str,
    app_id: str,
    deployed_at: float,
    functions: Sequence[FunctionRow],
    images: Sequence[ImageRow],
    state: VersionState = VersionState.PENDING,
    strategy: str = "rolling",
) -> int:
    """Add the next version of an app; its number. An ``app_id`` that is there already keeps what it has."""
    found = connection.execute("SELECT number FROM versions WHERE app_id = ?", (app_id,)).fetchone()
    if found:
        return int(found[0])
    (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM versions WHERE app = ?", (app,)).fetchone()
    connection.execute(
        "INSERT INTO versions (app, number, app_id, deployed_at, state, strategy) VALUES (?, ?, ?, ?, ?, ?)",
        (app, number, app_id, deployed_at, VersionState.PENDING, strategy),
    )
    for place, function in enumerate(functions):
        row = (app_id, place, function.id, json.dumps(function.spec), *keep(connection, function.definition))
        connection.execute(
            "INSERT INTO functions (app_id, place, id, spec, small, large) VALUES (?, ?, ?, ?, ?, ?)", row
        )
    for image in images:
        _add_image(connection, image)
        connection.execute(
            "INSERT INTO version_images (app_id, image_id) VALUES (?, ?) ON CONFLICT DO NOTHING", (app_id, image.id)
        )
    if state is not VersionState.PENDING:
        set_state(connection, app_id, state)
    return int(number)


def set_state(connection: sqlite3.Connection, app_id: str, state: VersionState) -> None:
    """What has become of a version; where it is the current one from now on, the one that was is replaced.

    Raises:
        NotFoundError: there is no such version.
    """
    if state is VersionState.CURRENT:
        connection.execute(
            "UPDATE versions SET state = ?1 WHERE state = 'CURRENT' AND app_id != ?2"
            " AND app = (SELECT app FROM versions WHERE app_id = ?2)",
            (VersionState.REPLACED, app_id),
        )
    if not connection.execute("UPDATE versions SET state = ? WHERE app_id = ?", (state, app_id)).rowcount:
        raise NotFoundError(f"no version {app_id[:40]} is kept")


def take_back(connection: sqlite3.Connection, app_id: str, before: str) -> None:
    """A version is not to serve after all, though it may have been kept as the one that does: the one that it replaced does."""
    set_state(connection, app_id, VersionState.FAILED)
    connection.execute(
        "UPDATE versions SET state = ? WHERE app_id = ? AND state = ?",
        (VersionState.CURRENT, before, VersionState.REPLACED),
    )


def fail_pending(connection: sqlite3.Connection) -> None:
    """Whoever was deploying died on the way: what was to serve never will."""
    connection.execute("UPDATE versions SET state = 'FAILED' WHERE state = 'PENDING'")


def set_scaling(connection: sqlite3.Connection, function_id: str, fields: dict[str, Any]) -> None:
    """A function's autoscaler has other numbers than its version says."""
    row = connection.execute("SELECT spec FROM functions WHERE id = ?", (function_id,)).fetchone()
    if row is not None:  # else it is one with a caller's options, which are kept by nobody
        spec = json.loads(row[0])
        spec[SCALING] = {**spec.get(SCALING, {}), **fields}
        connection.execute("UPDATE functions SET spec = ? WHERE id = ?", (json.dumps(spec), function_id))


def forget_beyond(connection: sqlite3.Connection, app: str, most: int) -> int:
    """Remove an app's oldest versions but for ``most``, and the images that only they had; how many. One that serves, or is
    about to, stays."""
    old = connection.execute(
        "SELECT app_id FROM versions WHERE app = ? AND number <= (SELECT max(number) FROM versions WHERE app = ?) - ?"
        " AND state NOT IN ('CURRENT', 'PENDING')",
        (app, app, most),
    ).fetchall()
    for row in old:
        _remove(connection, row)
    return len(old)


def add_detached(
    connection: sqlite3.Connection,
    name: str,
    app_id: str,
    created_at: float,
    functions: Sequence[FunctionRow],
    images: Sequence[ImageRow],
) -> None:
    """An app goes on without its program; one that is there already keeps what it has."""
    add_version(connection, app_id, app_id, created_at, functions, images, VersionState.DETACHED)
    connection.execute("INSERT INTO detached (app_id, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (app_id, name))


def forget_detached(connection: sqlite3.Connection, app_id: str) -> None:
    """It has ended."""
    connection.execute("DELETE FROM detached WHERE app_id = ?", (app_id,))
    _remove(connection, (app_id,))


# ---- queries ----


def current(connection: sqlite3.Connection, app: str) -> VersionRow | None:
    """The version of an app that serves, if one does."""
    row = connection.execute("SELECT * FROM versions WHERE app = ? AND state = 'CURRENT'", (app,)).fetchone()
    return _version(row) if row else None


def all_current(connection: sqlite3.Connection) -> list[VersionRow]:
    """The version that serves of every app, by the apps' names."""
    return [_version(row) for row in connection.execute("SELECT * FROM versions WHERE state = 'CURRENT' ORDER BY app")]


def by_ids(connection: sqlite3.Connection, app_ids: Iterable[str]) -> list[VersionRow]:
    """Those versions that are kept, the oldest first."""
    found = [connection.execute("SELECT * FROM versions WHERE app_id = ?", (each,)).fetchone() for each in app_ids]
    return sorted((_version(row) for row in found if row), key=lambda version: (version.app, version.number))


def history(connection: sqlite3.Connection, app: str, limit: int = 100) -> list[VersionRow]:
    """An app's versions, the newest first."""
    rows = connection.execute(
        "SELECT * FROM versions WHERE app = ? AND state != 'DETACHED' ORDER BY number DESC LIMIT ?", (app, limit)
    )
    return [_version(row) for row in rows]


def all_detached(connection: sqlite3.Connection) -> list[VersionRow]:
    """Every app that goes on without its program, the oldest first; ``app`` is what it is called."""
    rows = connection.execute(
        "SELECT name, number, app_id, deployed_at, state, strategy FROM detached JOIN versions USING (app_id)"
        " ORDER BY deployed_at, app_id"
    )
    return [_version(row) for row in rows]


def functions_of(connection: sqlite3.Connection, app_id: str) -> list[FunctionRow]:
    """A version's functions and classes, in the order in which they were defined."""
    rows = connection.execute("SELECT id, spec, small, large FROM functions WHERE app_id = ? ORDER BY place", (app_id,))
    return [FunctionRow(id, json.loads(spec), load(connection, *kept)) for id, spec, *kept in rows]


def images_of(connection: sqlite3.Connection, app_id: str) -> list[ImageRow]:
    """A version's images, by their ids."""
    rows = connection.execute(
        "SELECT id, name, spec FROM images JOIN version_images ON image_id = id WHERE app_id = ? ORDER BY id", (app_id,)
    )
    return [ImageRow(id, name, json.loads(spec), _payloads_of(connection, id)) for id, name, spec in rows]


def _version(row: Iterable[Any]) -> VersionRow:
    app, number, app_id, deployed_at, state, strategy = row
    return VersionRow(app, number, app_id, deployed_at, VersionState(state), strategy)


def _payloads_of(connection: sqlite3.Connection, image_id: str) -> list[Payload]:
    rows = connection.execute("SELECT small, large FROM image_payloads WHERE image_id = ? ORDER BY place", (image_id,))
    return [load(connection, *row) for row in rows]


def _add_image(connection: sqlite3.Connection, image: ImageRow) -> None:
    """One that is there is the same, but for what its values are sealed with: the key of now, which an older one's may not be."""
    spec = json.dumps(image.spec)
    if connection.execute("UPDATE images SET spec = ? WHERE id = ?", (spec, image.id)).rowcount:
        return
    connection.execute("INSERT INTO images (id, name, spec) VALUES (?, ?, ?)", (image.id, image.name, spec))
    for place, payload in enumerate(image.payloads):
        row = (image.id, place, *keep(connection, payload))
        connection.execute("INSERT INTO image_payloads (image_id, place, small, large) VALUES (?, ?, ?, ?)", row)


def _remove(connection: sqlite3.Connection, row: tuple[str]) -> None:
    """A version by its app's id, and the images that only it had."""
    images = connection.execute("SELECT image_id FROM version_images WHERE app_id = ?", row).fetchall()
    connection.execute("DELETE FROM version_images WHERE app_id = ?", row)
    connection.execute("DELETE FROM functions WHERE app_id = ?", row)
    connection.execute("DELETE FROM versions WHERE app_id = ?", row)
    _drop_unused(connection, images)


def _drop_unused(connection: sqlite3.Connection, images: Iterable[tuple[str]]) -> None:
    for row in images:
        if connection.execute("SELECT 1 FROM version_images WHERE image_id = ? LIMIT 1", row).fetchone() is None:
            connection.execute("DELETE FROM image_payloads WHERE image_id = ?", row)
            connection.execute("DELETE FROM images WHERE id = ?", row)
