"""The tables, as numbered steps; ``user_version`` says how many of them a file has.

A step is one transaction: after a crash it is there as a whole, or not at all. One that was released is never edited.

Payloads: ``small`` has those of a few bytes; ``large`` is the number of one that lies in ``parts``, apart, so that a
row stays short however much it stands for (``payloads.py``). Triggers remove the parts with the row.

A call whose ``id`` is NULL is forgotten: nobody finds it, and its rows go a few at a time.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from greenroom.model.errors import StoreError

APPLICATION = 0x47524E52  # GRNR, in the file's header

_TABLES = """
CREATE TABLE parts (
    payload INTEGER NOT NULL, part INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (payload, part)
) WITHOUT ROWID;

CREATE TABLE versions (
    app TEXT NOT NULL, number INTEGER NOT NULL, app_id TEXT NOT NULL UNIQUE, deployed_at REAL NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (app, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX current_versions ON versions (app) WHERE state = 'CURRENT';
CREATE TABLE functions (
    app_id TEXT NOT NULL REFERENCES versions (app_id), place INTEGER NOT NULL, id TEXT NOT NULL, spec TEXT NOT NULL,
    small BLOB, large INTEGER,
    PRIMARY KEY (app_id, place)
) WITHOUT ROWID;
CREATE TABLE images (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, spec TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE image_payloads (
    image_id TEXT NOT NULL REFERENCES images (id), place INTEGER NOT NULL, small BLOB, large INTEGER,
    PRIMARY KEY (image_id, place)
) WITHOUT ROWID;
CREATE TABLE version_images (
    app_id TEXT NOT NULL REFERENCES versions (app_id), image_id TEXT NOT NULL REFERENCES images (id),
    PRIMARY KEY (app_id, image_id)
) WITHOUT ROWID;
CREATE INDEX images_in_use ON version_images (image_id);

CREATE TABLE bindings (
    function_id TEXT NOT NULL, binding TEXT NOT NULL, small BLOB, large INTEGER,
    PRIMARY KEY (function_id, binding)
) WITHOUT ROWID;
CREATE TABLE calls (
    id TEXT UNIQUE, app_id TEXT NOT NULL, function_id TEXT NOT NULL, method TEXT NOT NULL, binding TEXT NOT NULL,
    shape TEXT NOT NULL, inputs INTEGER, created_at REAL NOT NULL, finished_at REAL, cancelled TEXT NOT NULL,
    idempotency TEXT UNIQUE, number INTEGER PRIMARY KEY
);
CREATE INDEX unfinished_calls ON calls (number) WHERE finished_at IS NULL;
CREATE INDEX finished_calls ON calls (finished_at) WHERE finished_at IS NOT NULL AND id IS NOT NULL;
CREATE INDEX bound_calls ON calls (function_id, binding) WHERE binding != '';
CREATE TABLE inputs (
    call INTEGER NOT NULL REFERENCES calls (number), idx INTEGER NOT NULL, attempt INTEGER NOT NULL,
    losses INTEGER NOT NULL, container TEXT NOT NULL, small BLOB, large INTEGER,
    PRIMARY KEY (call, idx)
) WITHOUT ROWID;
CREATE TABLE outputs (
    call INTEGER NOT NULL REFERENCES calls (number), idx INTEGER NOT NULL, status TEXT NOT NULL, detail TEXT NOT NULL,
    small BLOB, large INTEGER,
    PRIMARY KEY (call, idx)
) WITHOUT ROWID;
CREATE TABLE schedules (function_id TEXT NOT NULL PRIMARY KEY, last_fired REAL NOT NULL) WITHOUT ROWID;

CREATE TRIGGER functions_gone AFTER DELETE ON functions WHEN old.large IS NOT NULL BEGIN
    DELETE FROM parts WHERE payload = old.large; END;
CREATE TRIGGER image_payloads_gone AFTER DELETE ON image_payloads WHEN old.large IS NOT NULL BEGIN
    DELETE FROM parts WHERE payload = old.large; END;
CREATE TRIGGER bindings_gone AFTER DELETE ON bindings WHEN old.large IS NOT NULL BEGIN
    DELETE FROM parts WHERE payload = old.large; END;
CREATE TRIGGER inputs_gone AFTER DELETE ON inputs WHEN old.large IS NOT NULL BEGIN
    DELETE FROM parts WHERE payload = old.large; END;
CREATE TRIGGER outputs_gone AFTER DELETE ON outputs WHEN old.large IS NOT NULL BEGIN
    DELETE FROM parts WHERE payload = old.large; END;
"""

_CONTAINERS = """
CREATE TABLE containers (
    id TEXT NOT NULL PRIMARY KEY, token TEXT NOT NULL, app TEXT NOT NULL, app_id TEXT NOT NULL, function_id TEXT NOT NULL,
    binding TEXT NOT NULL, arguments BLOB NOT NULL, created_at REAL NOT NULL
) WITHOUT ROWID;
"""

_DETACHED = """
CREATE TABLE detached (
    app_id TEXT NOT NULL PRIMARY KEY REFERENCES versions (app_id), name TEXT NOT NULL
) WITHOUT ROWID;
"""

_STRATEGY = "ALTER TABLE versions ADD COLUMN strategy TEXT NOT NULL DEFAULT 'rolling'"

MIGRATIONS: tuple[str, ...] = (
    f"PRAGMA application_id = {APPLICATION}; {_TABLES}", _CONTAINERS, _DETACHED, _STRATEGY
)  # fmt: skip
VERSION = len(MIGRATIONS)
"""Of the tables that this Greenroom works with."""


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the tables in the file at ``path``, which is only read; 0: it is empty.

    Raises:
        StoreError: it is some other program's, or a newer Greenroom has changed it.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION and (application or version or tables):
        raise StoreError(f"{path} is a database of some other program: move it away")
    if version > VERSION:
        raise StoreError(
            f"{path} has version {version}, and this Greenroom knows versions up to {VERSION}: "
            "install the newer Greenroom that wrote it, or restore a backup from before that"
        )
    return int(version)


def migrate(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Apply what the file hasn't had yet, step by step; raises ``sqlite3.Error``, and then that step left no trace."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
