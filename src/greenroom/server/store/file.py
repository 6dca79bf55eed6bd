"""The database's file: who may use it, how it is opened, whether it is sound."""

import fcntl
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from greenroom.model.errors import StoreError
from greenroom.server.store.migrations import check_version, migrate

NAME = "greenroom.db"
"""Its name within the state directory."""
BUSY = 5.0
"""Seconds to wait for another process that has the file locked, such as one that takes a backup."""
_PRAGMAS = (
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = FAST",
    "cache_size = -16384",
    "temp_store = MEMORY",
    "journal_size_limit = 67108864",
)


def hold(path: Path) -> int:
    """Lock the database at ``path`` for this process: a descriptor, to be closed once nothing of it is open any more.

    The lock is on a file beside it: to close a descriptor of the database itself would drop the locks that SQLite has.

    Raises:
        StoreError: another process has it, or the directory can't be written.
    """
    fd = -1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        if isinstance(error, BlockingIOError):
            raise StoreError(f"{path} is in use by a running server: stop that one first") from None
        raise StoreError(f"can't use {path}: {error.strerror or error}") from None
    return fd


def release(fd: int) -> None:
    """Undo :func:`hold`."""
    os.close(fd)


def open_database(path: Path) -> sqlite3.Connection:
    """The database at ``path``, made if it isn't there, with every migration applied. The caller holds its lock.

    Raises:
        StoreError: it is none of ours, of a newer version, or can't be written.
    """
    connection: sqlite3.Connection | None = None
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = connect(path)
        check_version(connection, path)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(f"{path} can't have a write-ahead log there: put GREENROOM_HOME on a local disk")
        migrate(connection)
        sync_directory(path.parent)
    except (OSError, sqlite3.Error, StoreError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, StoreError):
            raise
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise StoreError(f"{path} is no database ({error}): restore a backup of it, or move it away") from None
        raise StoreError(f"can't use {path}: {words(error)}") from None
    return connection


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to a database that is there, for whichever thread uses it; transactions are the caller's."""
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def flush(connection: sqlite3.Connection) -> None:
    """Move all that is committed from the log into the database proper, synced, and empty the log.

    Raises:
        sqlite3.Error: not all of it could be.
    """
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("its log is in use")


def probe(connection: sqlite3.Connection) -> None:
    """Commit something that changes nothing; raises ``sqlite3.Error`` where that fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version:d}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        roll_back(connection)
        raise


def check(connection: sqlite3.Connection) -> None:
    """Read the whole file; raises ``sqlite3.DatabaseError`` where it is damaged."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"it is damaged: {found}")


def identity(path: Path) -> tuple[int, int] | None:
    """Which file is there; None: none is."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction, if there is one still."""
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        pass  # it is gone all the same, or the connection is about to be closed


def sync_directory(path: Path) -> None:
    """What was made or renamed in a directory is so after a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def words(error: Exception) -> str:
    """Why, without numbers and names of files."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
