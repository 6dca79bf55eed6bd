"""Copies of the database: taken while it is used, and put back while it isn't."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from greenroom.model.errors import StoreError
from greenroom.server.store.file import NAME, check, connect, hold, release, sync_directory, words
from greenroom.server.store.migrations import check_version

OWN = ("client-tokens.json", "id-range", "server.json", "server.lock", "server.log", "tls.pem", "web-tokens.json")
"""What else lies beside the database."""
REPLACED = ".before-restore"
"""Ending of the name that a database has once a backup took its place."""


def back_up(home: Path, target: Path) -> None:
    """Copy the database of a state directory, as it is at one moment, into the file ``target``, for this user alone.

    Whoever uses it goes on meanwhile: another process may ask for the copy, or any thread but the loop's. ``target``, or what it
    is a link to, is replaced once the copy is whole, checked and synced.

    Raises:
        StoreError: there is no database, the copy can't be made, or ``target`` is no file that may be replaced.
    """
    path, target = home / NAME, _followed(target)
    if target.parent == _followed(home) and (target.name.startswith(NAME) or target.name in OWN):
        raise StoreError(f"{target} is a file of the server's own, which a backup must not replace: name another")
    if target.exists() and not target.is_file() and not target.is_dir():
        raise StoreError(f"{target} is no regular file, and would be replaced by one: name another")
    try:
        with _new_file(target) as temporary:
            _copy(path, temporary)
            os.replace(temporary, target)
        sync_directory(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"can't back {path} up to {target}: {words(error)}") from None


def restore(backup: Path, home: Path) -> None:
    """Put a backup in the place of a state directory's database; that one stays beside it, as ``greenroom.db.before-restore``.

    At every moment there is the whole database of before, or the whole backup.

    Raises:
        StoreError: a server uses the database; or the backup is that database, damaged, of a newer version, or can't be copied.
    """
    path = home / NAME
    if _followed(backup) == _followed(path):
        raise StoreError(f"{backup} is the database that a backup would take the place of, and no backup")
    if backup.exists() and not backup.is_file():
        raise StoreError(f"{backup} is no regular file, and so no backup")
    lock = hold(path)
    try:
        with _new_file(path) as temporary:
            shutil.copyfile(backup, temporary)
            _check_backup(temporary, backup)
            _sync(temporary)
            _keep_old(path)
            os.replace(temporary, path)
        sync_directory(home)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"can't restore {backup}: {words(error)}") from None
    finally:
        release(lock)


def _followed(path: Path) -> Path:
    """Where links lead to; such as go round in circles lead nowhere."""
    return Path(os.path.realpath(path))


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """An empty file beside ``target``, gone afterwards unless it was renamed."""
    fd, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.new-")
    os.close(fd)
    try:
        yield Path(name)
    finally:
        for path in (name, f"{name}-journal", f"{name}-wal", f"{name}-shm"):
            Path(path).unlink(missing_ok=True)


def _copy(path: Path, target: Path) -> None:
    if not path.exists():
        raise StoreError(f"there is no {path}: `greenroom server` makes it, once it has run with this state directory")
    source = connect(path, read_only=True)
    try:
        check_version(source, path)
        copy = connect(target)
        try:
            copy.execute("PRAGMA synchronous = OFF")  # it is synced as a whole
            source.backup(copy)  # in one step: in several it would begin anew after each commit
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            check(copy)
        finally:
            copy.close()
    finally:
        source.close()
    _sync(target)


def _check_backup(path: Path, backup: Path) -> None:
    copy = connect(path)
    try:
        if check_version(copy, backup) == 0:
            raise StoreError(f"{backup} is empty")
        copy.execute("PRAGMA journal_mode = DELETE")
        check(copy)
    finally:
        copy.close()


def _keep_old(path: Path) -> None:
    """Give the database a second name, with all that its log has."""
    if not path.exists():
        return
    kept = path.with_name(path.name + REPLACED)
    try:
        old = connect(path)
        try:
            old.execute("PRAGMA journal_mode = DELETE")
        finally:
            old.close()
    except sqlite3.Error:  # it is damaged, which may be why a backup is wanted: its log must not become the backup's
        with suppress(FileNotFoundError):
            os.replace(f"{path}-wal", f"{kept}-wal")
        Path(f"{path}-shm").unlink(missing_ok=True)
    kept.unlink(missing_ok=True)
    os.link(path, kept)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
