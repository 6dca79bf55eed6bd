"""Layers on disk: each is whole or not there, whoever is killed when.

``layers/<key>/`` holds ``fs``, what the step wrote; ``layer.json``, its record; ``log``, what it printed; and of a base
``packages``, what was downloaded for steps on it. It is made as ``layers/.new-…`` and renamed. Locks, all of which the kernel
gives back when their holder dies: ``layers/.locks/<key>`` is held by who makes that layer; the record itself, shared, by who
uses it; and the directory ``layers``, shared by who puts a layer in its place, alone by who decides which can go. A container
whose worker has died holds its layers by a note.
"""

import contextlib
import fcntl
import json
import math
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from greenroom.worker.images.holding import noted_layers
from greenroom.worker.images.tree import Tree, measure
from greenroom.worker.removal import remove_tree

AGENT = "agent"
"""The kind of the step that nobody has written: an image with a root of its own is given what Greenroom needs there."""
_KEY = re.compile(r"[0-9a-f]{64}")
_FRESH = 3600.0
"""Seconds in which a use needs no second note."""
NEW, OLD = ".new-", ".old-"
"""How names begin of what isn't a layer yet, and of what is none any more."""
FRESH = 60.0
"""Seconds that the lock of a layer stays after it was last taken, though the layer was not made."""


class Layer(NamedTuple):
    """One layer's record."""

    key: str
    below: list[str]
    """Keys of the layers that it was made on, the lowest first."""
    text: str
    where: str
    created: float
    """Seconds since 1970."""
    seconds: float
    """How long its step took."""
    tree: Tree
    forced: bool = False
    """It is made anew each time, so nobody comes back for it."""
    config: list[Any] = []
    """Of a base: the ``ImageConfig`` that an image on it begins with."""


class ImageRecord(NamedTuple):
    """An image that was made here, for those who ask what there is."""

    key: str
    """Of its last step."""
    name: str
    """Who first asked for it: ``app.function``."""
    sandbox: str
    base: str
    steps: list[dict[str, str]]
    """``text``, ``where``, and ``layer``: a key, or ``""``."""
    config: list[Any]
    """An ``ImageConfig``."""
    made: float
    """Seconds since 1970, of when it was last asked for."""

    @property
    def layers(self) -> list[str]:
        """Keys, the lowest first."""
        return [step["layer"] for step in self.steps if step["layer"]]


class Layers:
    """The ``layers`` directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._used: dict[str, tuple[int, int]] = {}
        """Descriptor and count of each layer that this process uses."""
        self._threads = threading.Lock()

    def find(self, key: str) -> Layer | None:
        """The record of a layer that is there."""
        return read_record(self.directory / key)

    def all(self) -> list[Layer]:
        """Every layer's record; raises OSError where they are another user's."""
        return [layer for path in self._paths() if (layer := read_record(path)) is not None]

    def damaged(self) -> list[str]:
        """Keys under which there is something, and no record that can be read. Nobody uses it, or counts on it."""
        return [path.name for path in self._paths() if path.exists() and read_record(path) is None]

    def _paths(self) -> list[Path]:
        try:
            return [self.directory / name for name in sorted(os.listdir(self.directory)) if _KEY.fullmatch(name)]
        except FileNotFoundError:
            return []  # nothing was ever built here

    def files(self, key: str) -> Path:
        """What a layer's step wrote."""
        return self.directory / key / "fs"

    def use(self, key: str) -> bool:
        """Keep a layer from being removed, until :meth:`leave`; False when it isn't there, whole."""
        with self._threads:
            fd, count = self._used.get(key, (-1, 0))
            if fd < 0:
                fd = self._hold(key)
            if fd >= 0:
                self._used[key] = (fd, count + 1)
            return fd >= 0

    def _hold(self, key: str) -> int:
        record = self.directory / key / "layer.json"
        while True:
            try:
                fd = os.open(record, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return -1
            fcntl.flock(fd, fcntl.LOCK_SH)
            if _is(fd, record):
                break
            os.close(fd)  # it was removed between the two, and perhaps made again
        if self.find(key) is None:
            os.close(fd)
            return -1
        self._note_use(record)
        return fd

    def _note_use(self, record: Path) -> None:
        with contextlib.suppress(OSError):  # a full or read-only disk keeps nobody from using it
            if time.time() - record.stat().st_mtime > _FRESH:
                os.utime(record)

    def leave(self, key: str) -> None:
        """One user less."""
        with self._threads:
            fd, count = self._used.pop(key)
            if count > 1:
                self._used[key] = (fd, count - 1)
            else:
                self._note_use(self.directory / key / "layer.json")
                os.close(fd)

    # ---- images ----

    def note_image(self, record: ImageRecord) -> None:
        """Keep what an image is made of. On a full or read-only disk it isn't kept, and the image is there all the same."""
        directory = self.directory / ".images"
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
            fd, temporary = tempfile.mkstemp(dir=directory, prefix=NEW)
            try:
                with os.fdopen(fd, "w") as file:
                    json.dump(record._asdict(), file)
                os.rename(temporary, directory / f"{record.key}.json")
            except OSError:
                os.unlink(temporary)

    def images(self) -> list[ImageRecord]:
        """Every image whose layers are all there, the latest first."""
        found = []
        for path in (self.directory / ".images").glob("[0-9a-f]*.json"):
            with contextlib.suppress(OSError):  # it has just gone, or is another user's to remove
                record = _read_image(path)
                if record is not None and all(self.find(key) is not None for key in record.layers):
                    found.append(record)
                else:
                    path.unlink()
        return sorted(found, key=lambda record: -record.made)

    def forget_images(self, made_until: float) -> None:
        """Those without layers of their own: nothing else would ever remove what was noted of them."""
        for record in self.images():
            if not record.layers and record.made <= made_until:
                (self.directory / ".images" / f"{record.key}.json").unlink(missing_ok=True)

    # ---- making one ----

    def lock(self, key: str) -> int | None:
        """The right to make that layer, as a descriptor to close; None while another has it."""
        locks = self.directory / ".locks"
        locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            fd = os.open(locks / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            if _is(fd, locks / key):
                os.utime(fd)
                return fd
            os.close(fd)  # it was swept away between the two

    def draft(self) -> "Draft":
        """A layer to be; raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = Path(tempfile.mkdtemp(prefix=NEW, dir=self.directory))
            with contextlib.suppress(FileNotFoundError):  # it was swept away between the two, or the three
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(lock, fcntl.LOCK_EX)
                if _is(lock, path):
                    return Draft(path, lock)
                os.close(lock)

    # ---- removing them ----

    def used_at(self, key: str) -> float:
        """When it was last used, to within an hour; seconds since 1970."""
        try:
            return (self.directory / key / "layer.json").stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return time.time()  # it goes just now

    def in_use(self, key: str) -> bool:
        """Whether somebody keeps it from being removed."""
        with _claim(self.directory / key / "layer.json") as mine:
            return not mine or key in noted_layers(self.directory.parent / "run")

    @contextlib.contextmanager
    def settled(self, how: Literal["alone", "shared"]) -> Iterator[None]:
        """Layers are put in their places only while ``shared``, so that ``alone`` there are no more than one has seen."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(FileNotFoundError):  # nothing was ever built here
                fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                fcntl.flock(fd, fcntl.LOCK_EX if how == "alone" else fcntl.LOCK_SH)
            yield

    def set_aside(self, key: str, unused_since: float = math.inf) -> Path | None:
        """Take a layer out of use; what to remove, or None: somebody uses it, or has since then, or it isn't there.

        It is out of sight at once, and needs no room: whoever is killed while removing it leaves no half layer.
        """
        path = self.directory / key
        with _claim(path / "layer.json") as mine:
            if not mine or self.used_at(key) > unused_since or key in noted_layers(self.directory.parent / "run"):
                return None
            gone = self.directory / f"{OLD}{key[:12]}-{os.urandom(6).hex()}"
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, gone)
                return gone
        return None

    def sweep(self) -> None:
        """Remove what makers and removers that were killed have left half-done, and what has no record. Never what another
        is at."""
        for path in [*self.directory.glob(f"{NEW}*"), *self.directory.glob(f"{OLD}*")]:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                continue  # its maker has just finished; or it is no work of ours
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is(fd, path):  # else it has just become a layer
                    remove_tree(path)
            except BlockingIOError:
                continue
            finally:
                os.close(fd)
        for key in self.damaged():
            if (gone := self.set_aside(key)) is not None:
                remove_tree(gone)
        for path in (self.directory / ".locks").glob("*"):
            if not _old(path):
                continue  # whoever has just made it would take this for another who makes the layer
            if not (self.directory / path.name).exists() and (mine := self.lock(path.name)) is not None:
                path.unlink(missing_ok=True)
                os.close(mine)


class Draft:
    """A directory that becomes a layer, or nothing. Held by a lock while its maker lives."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.files = path / "fs"
        self.work = path / "work"
        """Overlayfs's own."""
        self._lock = lock

    def keep(self, layers: Layers, record: Layer) -> Layer:
        """It is complete. Blocks while all of it is read and written through to the disk.

        Raises:
            OSError: the disk is full; it is no layer then.
        """
        remove_tree(self.work)
        record = record._replace(tree=measure(self.files))
        data = {**record._asdict(), "tree": list(record.tree)}
        (self.path / "layer.json").write_text(json.dumps(data))
        sync(self._lock)
        with layers.settled("shared"):
            if layers.find(record.key) is not None:
                self.drop()  # it has been made meanwhile, by whoever took the lock after a crash
                return record
            damaged = layers.set_aside(record.key)
            os.rename(self.path, layers.directory / record.key)
        self._close()
        if damaged is not None:
            remove_tree(damaged)
        return record

    def drop(self) -> None:
        """It is not to be."""
        if self._lock >= 0:
            remove_tree(self.path)
            self._close()

    def _close(self) -> None:
        os.close(self._lock)
        self._lock = -1


@contextlib.contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Whether this process alone has that file, and for as long. One that isn't there is nobody's."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield True
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield _is(fd, path)
    except BlockingIOError:
        yield False
    finally:
        os.close(fd)


def _is(fd: int, path: Path) -> bool:
    """Whether that path still leads to what is open."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _old(path: Path) -> bool:
    try:
        return path.stat().st_mtime < time.time() - FRESH
    except FileNotFoundError:
        return False  # it has just gone


def read_record(path: Path) -> Layer | None:
    """A layer's record, if its directory is one."""
    try:
        data = json.loads((path / "layer.json").read_bytes())
        layer = Layer(**{**data, "tree": Tree(*data["tree"])})
        whole = layer.key == path.name and isinstance(layer.below, list) and (path / "fs").is_dir()
        numbers = (layer.created, layer.seconds, layer.tree.size, layer.tree.entries)
        return layer if whole and all(isinstance(number, int | float) for number in numbers) else None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _read_image(path: Path) -> ImageRecord | None:
    """An image's record, unless it is damaged, or another version's."""
    try:
        record = ImageRecord(**json.loads(path.read_bytes()))
        texts = [step[name] for step in record.steps for name in ("text", "where", "layer")]
        texts += [record.key, record.name, record.sandbox, record.base]
        return record if all(isinstance(text, str) for text in texts) and record.made >= 0 else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def sync(fd: int) -> None:
    """Have the file system that ``fd`` is on write down all it has; raises OSError."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).syncfs(fd):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
