"""The vault: stored secrets on disk, each a file that is encrypted with one key; and what else is sealed with that, and lies
elsewhere. All of it is for the disk's thread.

``$GREENROOM_HOME/secrets/`` has ``key`` and a ``NAME.secret`` for each, which only their owner can read. What a file
holds (its name, the variables and their names, when it was made) is sealed as a whole by Fernet, so that nothing of it can
be read or changed without the key, nor one be put in another's place. When it was last used is the file's time.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from greenroom.model.errors import Error, ExecutionError, InvalidError, NotFoundError
from greenroom.model.secrets import StoredSecret, check_name, check_sizes

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEY = "key"
SUFFIX = ".secret"


class _Key(NamedTuple):
    fernet: "Fernet"
    mark: str
    """Tells it from another key, and tells nobody what it is."""


class Vault:
    """One state directory's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def put(self, name: str, variables: Mapping[str, str], *, overwrite: bool) -> bool:
        """Keep a secret, whole or not at all; whether there was one of that name.

        Raises:
            InvalidError: the name or a variable can't be; or there is one, and it isn't to be overwritten.
            ExecutionError: it can't be written, or the key isn't what it should be.
        """
        path = self._path(name)
        check_sizes(name, variables)
        with self._locked():
            existed = os.path.lexists(path)
            if existed and not overwrite:
                raise InvalidError(f"there is a stored secret {name} already: --force overwrites it")
            key = self._key_to_write_with(path.stem)
            now = time.time()
            created = now
            if existed:
                with suppress(Error):  # what it was is of no more use
                    created = self._open(name)["created"]
            content = {"name": name, "created": created, "updated": now, "variables": dict(variables)}
            sealed = key.fernet.encrypt(json.dumps(content).encode()).decode()
            self._write(path, json.dumps({"key": key.mark, "sealed": sealed}).encode())
        return existed

    def delete(self, name: str) -> None:
        """Be without it, readable or not; raises NotFoundError, ExecutionError."""
        path = self._path(name)
        if not os.path.lexists(path):
            raise self._missing(name)
        with self._locked():
            try:
                path.unlink()
            except FileNotFoundError:
                raise self._missing(name) from None
            except OSError as error:
                raise ExecutionError(f"can't remove {path}: {error.strerror or error}") from None

    def records(self) -> list[dict[str, Any]]:
        """Of each, by name: ``name``, ``keys`` (of its variables), ``created``, ``updated``, ``used`` (seconds since 1970; 0:
        never, or not known) and ``problem``: why it can't be read, or ``""``. Raises ExecutionError."""
        return [self._record(name) for name in self._names()]

    def environment(self, before: Mapping[str, str], secrets: list[StoredSecret], *, used: bool) -> dict[str, str]:
        """The variables that ``secrets`` come to, upon those ``before`` them; a later one wins.

        Args:
            used: note that they have been.

        Raises:
            NotFoundError: there is no such secret, or it lacks what is required of it.
            ExecutionError: one can't be read.
        """
        found = dict(before)
        for secret in secrets:
            variables = self._open(check_name("a stored secret", secret.name), used=used)["variables"]
            if missing := [name for name in secret.required if name not in variables]:
                raise NotFoundError(
                    f"the stored secret {secret.name} lacks {', '.join(missing)}, which the program requires of it: "
                    f"`greenroom secret create {secret.name} --force …` with all of its variables"
                )
            found |= {name: variables[name] for name in secret.only or variables if name in variables}
            found |= secret.after
        return found

    # ---- what lies elsewhere ----

    def seal(self, content: Any) -> str:
        """Anything that JSON has, as a text that can't be read, or changed, without the key; raises ExecutionError."""
        with self._locked():
            key = self._key_to_write_with()
        return f"{key.mark}:{key.fernet.encrypt(json.dumps(content).encode()).decode()}"

    def unseal(self, sealed: str) -> Any:
        """The inverse of :meth:`seal`; raises ExecutionError: it was sealed with another key, or changed."""
        mark, _, token = sealed.partition(":")
        if (key := self._key()) is None or key.mark != mark:
            raise ExecutionError(self.lacks_key())
        from cryptography.fernet import InvalidToken

        try:
            return json.loads(key.fernet.decrypt(token.encode()))
        except InvalidToken:
            raise ExecutionError(
                "values given by env= or Secret.from_dict are damaged in the database: deploy anew"
            ) from None

    def opens(self, marks: Iterable[str]) -> set[str]:
        """Which of these marks is the key's; it is only looked at, and nothing that takes long is loaded."""
        try:
            there = _mark((self._directory / KEY).read_bytes().strip())
        except OSError:
            there = ""
        return {mark for mark in marks if mark == there}

    def lacks_key(self) -> str:
        """Why something can't be unsealed, and what to do."""
        return (
            "values given by env= or Secret.from_dict can't be read without the key that they were sealed with, which "
            f"{self._directory / KEY} isn't: copy secrets/ there from where the database was, or deploy anew"
        )

    # ---- the files ----

    def _path(self, name: str) -> Path:
        return self._directory / f"{check_name('a stored secret', name)}{SUFFIX}"

    def _names(self) -> list[str]:
        try:
            names = sorted(path.stem for path in self._directory.iterdir() if path.suffix == SUFFIX)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ExecutionError(f"can't read {self._directory}: {error.strerror or error}") from None
        return [name for name in names if not name.startswith(".")]

    def _record(self, name: str) -> dict[str, Any]:
        known: dict[str, Any] = {"name": name, "keys": [], "created": 0.0, "updated": 0.0, "used": 0.0, "problem": ""}
        try:
            content = self._open(name)
        except Error as error:
            return {**known, "problem": str(error)}
        with suppress(OSError):  # removed just now
            known["used"] = (self._directory / f"{name}{SUFFIX}").stat().st_mtime
        return {
            **known,
            "keys": sorted(content["variables"]),
            "created": content["created"],
            "updated": content["updated"],
        }

    def _open(self, name: str, *, used: bool = False) -> dict[str, Any]:
        """What was sealed; raises NotFoundError, ExecutionError."""
        path = self._directory / f"{name}{SUFFIX}"
        try:
            with path.open("rb") as file:
                data = file.read()
                if used:
                    with suppress(OSError):  # on a disk that is full, or can't be written
                        os.utime(file.fileno())
        except FileNotFoundError:
            raise self._missing(name) from None
        except OSError as error:
            raise ExecutionError(f"can't read the stored secret {path}: {error.strerror or error}") from None
        key = self._key()
        again = f"`greenroom secret create {name} --force …` makes it anew"
        if key is None:
            raise ExecutionError(self._lost())
        damaged = f"the stored secret {path} is damaged, or was changed by something else than greenroom: {again}"
        try:
            outer = json.loads(data)
            mark, sealed = outer["key"], outer["sealed"].encode()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ExecutionError(damaged) from None
        if mark != key.mark:
            raise ExecutionError(
                f"the stored secret {path} was encrypted with another key than {self._directory / KEY} has: "
                f"put that key back, or {again}"
            )
        from cryptography.fernet import InvalidToken

        try:
            content: dict[str, Any] = json.loads(key.fernet.decrypt(sealed))
        except InvalidToken:
            raise ExecutionError(damaged) from None
        if content["name"] != name:
            raise ExecutionError(f"{path} is the stored secret {content['name']} under another name: {again}")
        return content

    def _missing(self, name: str) -> NotFoundError:
        return NotFoundError(f"there is no stored secret {name}: `greenroom secret create {name} KEY=VALUE` makes it")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among those who write here, whichever server they are; raises ExecutionError."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ExecutionError(f"can't keep secrets in {self._directory}: {error.strerror or error}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _write(self, path: Path, data: bytes) -> None:
        new = self._directory / ".new"  # whoever has the lock is the only one to have it; what a killed one left goes
        try:
            new.unlink(missing_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.utime(fd, (0, 0))  # not used yet
                os.fsync(fd)
            new.replace(path)
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise ExecutionError(
                f"can't write {path}: {error.strerror or error}; free some space there, or set GREENROOM_HOME to another "
                "directory"
            ) from None

    # ---- the key ----

    def _key(self) -> _Key | None:
        """None: there is none. Raises ExecutionError."""
        path = self._directory / KEY
        try:
            data = path.read_bytes().strip()  # who puts it back by an editor adds a line's end
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ExecutionError(
                f"can't read the key of the stored secrets, {path}: {error.strerror or error}"
            ) from None
        try:
            return _Key(_fernet().Fernet(data), _mark(data))
        except ValueError:
            raise ExecutionError(
                f"{path} is not the key of the stored secrets, or is damaged: put the right one back; without it, remove it "
                "and all that is there by `greenroom secret delete`, and create the secrets anew"
            ) from None

    def _key_to_write_with(self, but_for: str = "") -> _Key:
        """Made with the first secret; never beside others, which it could not open."""
        if (key := self._key()) is not None:
            return key
        if any(name != but_for for name in self._names()):
            raise ExecutionError(self._lost())
        self._write(self._directory / KEY, _fernet().Fernet.generate_key())
        made = self._key()
        assert made is not None
        return made

    def _lost(self) -> str:
        return (
            f"the key of the stored secrets, {self._directory / KEY}, is lost, and they can't be read without it: put it back "
            "from a backup, or remove them by `greenroom secret delete` and create them anew"
        )


def mark_of(sealed: str) -> str:
    """The mark of the key that a text was sealed with."""
    return sealed.partition(":")[0]


def _mark(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]


def _fernet() -> Any:
    """Loaded with the first secret that is stored, or used: it takes as long as all of an ephemeral server's start."""
    try:
        from cryptography import fernet
    except ImportError as error:
        raise ExecutionError(
            f"stored secrets need the package cryptography, which can't be imported: {error}"
        ) from None
    return fernet
