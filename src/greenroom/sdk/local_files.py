"""Files of this machine that go into an image: found, and packed into a bundle that is named by its content."""

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from greenroom.model.errors import InvalidError
from greenroom.sdk.file_patterns import FilePatternMatcher, Ignore
from greenroom.wire.payload import Payload, PayloadWriter

_LARGEST = 1 << 40
PART = 64 * 1024**2
"""Bytes of a bundle that are in memory at once."""


class Entry(NamedTuple):
    """One of them."""

    path: str
    """Here; ``""``: an empty directory."""
    executable: bool


class LocalFiles:
    """Files by their path in the image, relative to where they go. Links are followed: what they lead to goes along."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries
        self.digest = self._digest()

    def _digest(self) -> str:
        """Of the bundle, without its bytes being kept."""
        found = hashlib.sha256()
        for block in self._blocks():
            found.update(block)
        return found.hexdigest()

    def parts(self, inline_limit: int, size: int = PART) -> Iterator[tuple[Payload, bool]]:
        """The tar file in parts of about ``size`` bytes, each with whether more of it come; raises ``InvalidError`` where it
        isn't any more what it was."""
        found, writer = hashlib.sha256(), PayloadWriter(inline_limit, _LARGEST)
        filled = 0
        for block in self._blocks():
            if filled >= size:
                yield writer.payload(), True
                writer, filled = PayloadWriter(inline_limit, _LARGEST), 0
            found.update(block)
            writer.write(block)
            filled += len(block)
        if found.hexdigest() != self.digest:
            where = os.path.commonpath([os.path.abspath(entry.path) for entry in self.entries.values() if entry.path])
            raise InvalidError(
                f"{where} is to go into an image, and changed while it was read: start again once nothing does"
            )
        yield writer.payload(), False

    def _blocks(self) -> Iterator[bytes]:
        """Owners and times are nobody's business: the same files give the same bytes."""
        for name, entry in sorted(self.entries.items()):
            if not entry.path:
                yield header(name, entry, 0)
                continue
            try:
                with open(entry.path, "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    yield header(name, entry, size)
                    yield from _content(file, size)
            except OSError as error:
                raise InvalidError(
                    f"{entry.path} is to go into an image, and can't be read: {error.strerror}"
                ) from None
        yield bytes(tarfile.BLOCKSIZE * 2)


def header(name: str, entry: Entry, size: int) -> bytes:
    """What a tar file says before a file's content, or of a directory."""
    info = tarfile.TarInfo(name)
    info.mode = 0o755 if entry.executable else 0o644
    info.size = size
    info.type = tarfile.REGTYPE if entry.path else tarfile.DIRTYPE
    return info.tobuf(tarfile.PAX_FORMAT)


def _content(file: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        block = file.read(min(left, 1 << 20))
        if not block:
            raise InvalidError(f"{file.name} is to go into an image, and became shorter while it was read")
        yield block
        left -= len(block)
    yield bytes(-size % tarfile.BLOCKSIZE)


def find_file(where: str, path: str, name: str) -> LocalFiles:
    """One file, under ``name``; raises ``InvalidError``."""
    if os.path.isdir(path):
        raise InvalidError(f"{where}: {os.path.abspath(path)} is a directory: write add_local_dir")
    if not os.path.isfile(path):
        raise InvalidError(f"{where}: there is no file {os.path.abspath(path)}")
    return LocalFiles({name: _file(path, os.stat(path))})


def find_directory(
    where: str, directory: str, ignore: Ignore, prefix: str = "", enters: Ignore | None = None
) -> LocalFiles:
    """All of a directory but what ``ignore`` fits, below ``prefix``; raises ``InvalidError``.

    ``enters``: which of the directories within it can hold something that doesn't; all of them, unless it is given.
    """
    if os.path.isfile(directory):
        raise InvalidError(f"{where}: {os.path.abspath(directory)} is a file: write add_local_file")
    if not os.path.isdir(directory):
        raise InvalidError(f"{where}: there is no directory {os.path.abspath(directory)}")
    entries: dict[str, Entry] = {}
    folders: list[str] = []
    for inside, entry in _walk(where, directory, ignore, enters or enters_of(ignore)):
        if entry.path:
            entries[inside] = entry
        else:
            folders.append(inside)
    filled = {parent for inside in entries for parent in _parents(inside)}
    for inside in reversed(folders):  # what is in a directory comes after it
        if inside not in filled:
            entries[inside] = Entry("", executable=True)
            filled.update(_parents(inside))
    return LocalFiles({os.path.join(prefix, inside): entry for inside, entry in entries.items()})


def enters_of(ignore: Ignore) -> Ignore:
    """Patterns that take nothing back in leave out all of a directory that fits: it may be large, or a link to anywhere."""
    if isinstance(ignore, FilePatternMatcher) and not ignore.takes_back:
        return lambda path: not ignore(path)
    return lambda path: True


def _walk(where: str, directory: str, ignore: Ignore, enters: Ignore) -> Iterator[tuple[str, Entry]]:
    """What of a directory goes along, by path within it, directories included. Sockets, FIFOs, devices and links that lead
    nowhere have no content to travel."""
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        inside, above = waiting.pop()
        folder = os.path.join(directory, inside)
        ignored = bool(inside) and ignore(Path(inside))
        if inside and not ignored:
            yield inside, Entry("", executable=True)
        try:
            found = os.stat(folder)
            names = sorted(os.listdir(folder))
        except OSError as error:
            if ignored:
                continue
            raise InvalidError(f"{where}: can't read the directory {folder[:200]}: {error.strerror}") from None
        this = (found.st_dev, found.st_ino)
        if this in above:
            if ignored:
                continue
            raise InvalidError(
                f"{where}: {folder} is a link that leads back to a directory above it; ignore=[{inside!r}] leaves it out"
            )
        for name in names:
            path = os.path.join(folder, name)
            try:
                found = os.stat(path)
            except OSError:
                continue
            if stat.S_ISDIR(found.st_mode):
                if enters(Path(inside, name)):
                    waiting.append((os.path.join(inside, name), above | {this}))
            elif stat.S_ISREG(found.st_mode) and not ignore(Path(inside, name)):
                yield os.path.join(inside, name), _file(path, found)


def _file(path: str, found: os.stat_result) -> Entry:
    return Entry(path, executable=bool(found.st_mode & 0o111))


def _parents(inside: str) -> Iterator[str]:
    while inside := os.path.dirname(inside):
        yield inside
