"""A directory as a value: everything in it that a container could tell, walked in one order and measured.

No path is ever put together to open something: each name is looked up in the directory that is open, and no link is
followed. So neither the depth nor the bytes of a name matter, nor what a link points to.
"""

import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

BLOCK = 1 << 20
"""Bytes that are read at a time."""
_ZEROS = bytes(BLOCK)
OVERLAY = (b"trusted.overlay.", b"user.overlay.")
"""Where overlayfs keeps what it knows of a file: the second, where the mount says ``userxattr``."""
_PASSING = {prefix + name for prefix in OVERLAY for name in (b"origin", b"impure", b"nlink", b"upper", b"uuid")}
"""By these overlayfs finds its way on this very file system: inode numbers in other words."""
_HOSTS_OWN = {b"security.selinux", b"security.ima", b"security.evm", b"security.apparmor"}
"""Labels that a host gives to all of its files, by its own policy and with its own keys."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LARGE = 1 << 18
"""Bytes from which on a file is worth a thread of its own: below, handing it over takes longer than hashing it."""
_AHEAD = 64
"""Files that may be open at once, waiting for a thread."""


class Tree(NamedTuple):
    """What a directory holds."""

    digest: str
    """SHA-256, in hexadecimal digits."""
    size: int
    """Bytes of its files' content; a file with several names counts once."""
    entries: int
    """Names below it, all levels together."""


class Entry(NamedTuple):
    """One name of a tree. It is good until the walk goes on."""

    parents: list[bytes]
    """Names of the directories above it, from below the root on; the walk's own list."""
    name: bytes
    """The root's own is ``.``."""
    status: os.stat_result
    directory: int
    """A descriptor of the directory that holds the name; the walk closes it."""

    @property
    def path(self) -> bytes:
        """From the root on; longer than a system call would take, where directories lie deep."""
        return b"/".join([*self.parents, self.name])

    @property
    def is_whiteout(self) -> bool:
        """Whether it only says that the layers below have no such name."""
        return stat.S_ISCHR(self.status.st_mode) and self.status.st_rdev == 0

    @property
    def inode(self) -> tuple[int, int]:
        return self.status.st_dev, self.status.st_ino

    def open(self) -> int:
        """A descriptor of a regular file, to read it by; the caller closes it."""
        return os.open(self.name, _FILE, dir_fd=self.directory)

    def target(self) -> bytes:
        """What a symbolic link says."""
        return os.readlink(self.name, dir_fd=self.directory)

    def attributes(self) -> list[tuple[bytes, bytes]]:
        """Its extended attributes, in the order of their names; not the host's own labels and overlayfs's passing notes.

        There is no system call for them that takes a directory's descriptor before Linux 6.13, so the way leads through /proc.
        """
        path = b"/proc/self/fd/%d/%s" % (self.directory, self.name)
        try:
            names = sorted(map(os.fsencode, os.listxattr(path, follow_symlinks=False)))
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            return []
        wanted = [name for name in names if name not in _PASSING and name not in _HOSTS_OWN]
        return [(name, os.getxattr(path, name, follow_symlinks=False)) for name in wanted]


def walk(root: Path) -> Iterator[Entry]:
    """The directory itself, then all below it: a directory before what it holds, its names in the order of their bytes.

    One directory is open at a time, however deep they lie: ``..`` leads back, and must lead where the walk came from.

    Raises:
        OSError: something can't be read, or is moved meanwhile.
    """
    here = os.open(root, _DIRECTORY)
    try:
        parents: list[bytes] = []
        above: list[tuple[Iterator[bytes], tuple[int, int]]] = []
        entry = Entry(parents, b".", os.fstat(here), here)
        yield entry
        names, inode = _names(here), entry.inode
        while True:
            for name in names:
                entry = Entry(parents, name, os.stat(name, dir_fd=here, follow_symlinks=False), here)
                yield entry
                if stat.S_ISDIR(entry.status.st_mode):
                    here = _step(here, name, entry.inode)
                    above.append((names, inode))
                    names, inode = _names(here), entry.inode
                    parents.append(name)
                    break
            else:
                if not above:
                    return
                names, inode = above.pop()
                here = _step(here, b"..", inode)
                parents.pop()
    finally:
        os.close(here)


def measure(root: Path) -> Tree:
    """Digest, size and number of everything in a layer's directory that a container could tell.

    That is, of each name in the order of :func:`walk`: type, permissions, owner and group as the host numbers them,
    content, what a link says, which names are one file, a device's numbers, and extended attributes. Of a whiteout,
    that it is one: its inode is shared with others and its owner is whoever mounted. Not the times: they say when a step
    ran rather than what it made, and by them no layer that is built anew would ever be found equal to the one before.

    Besides the names of the directories that it is in, and a number for each file with several names, it keeps nothing.

    Raises:
        OSError: something can't be read.
    """
    digest, size, entries = hashlib.sha256(), 0, -1
    firsts: dict[tuple[int, int], int] = {}
    waiting: deque[tuple[bytes, Future[bytes] | None]] = deque()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for entry in walk(root):
            entries += 1
            status = entry.status
            several = status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode) and not entry.is_whiteout
            first = firsts.setdefault(entry.inode, entries) if several else entries
            record, content = _record(entry, first if first < entries else None), None
            if first == entries and stat.S_ISREG(status.st_mode):
                size += status.st_size
                if status.st_size < _LARGE:
                    record += _hash(entry.open(), status.st_size)
                else:
                    content = pool.submit(_hash, entry.open(), status.st_size)
            waiting.append((record, content))
            while waiting and (waiting[0][1] is None or waiting[0][1].done() or len(waiting) > _AHEAD):
                record, content = waiting.popleft()
                digest.update(record if content is None else record + content.result())
        for record, content in waiting:
            digest.update(record if content is None else record + content.result())
    return Tree(digest.hexdigest(), size, entries)


def room(root: Path) -> int:
    """Bytes of disk that a directory takes, holes and names apart from content: what is free once it is removed."""
    inodes = {entry.inode: entry.status.st_blocks * 512 for entry in walk(root)}
    return sum(inodes.values())


def _record(entry: Entry, first: int | None) -> bytes:
    """What is hashed of it, but for a file's content; depths and names in the order of the walk make the paths.

    ``first`` is the number of the name under which the same file came before.
    """
    mode, status = entry.status.st_mode, entry.status
    fields: list[bytes | int] = [len(entry.parents), entry.name, stat.S_IFMT(mode)]
    if entry.is_whiteout:
        return _joined([*fields, b"whiteout"])
    fields += [stat.S_IMODE(mode), status.st_uid, status.st_gid]
    if first is not None:
        return _joined([*fields, b"link", first])
    if stat.S_ISLNK(mode):
        fields.append(entry.target())
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        fields += [os.major(status.st_rdev), os.minor(status.st_rdev)]
    for name, value in entry.attributes():
        fields += [name, value]
    return _joined(fields)


def _joined(fields: list[bytes | int]) -> bytes:
    """No two lists give the same bytes: each field says how long it is, and the first how many there are."""
    texts = [b"%d" % field if isinstance(field, int) else field for field in fields]
    return b"%d:" % len(texts) + b"".join(b"%d:%b" % (len(text), text) for text in texts)


def _hash(descriptor: int, size: int) -> bytes:
    """Of a file's content. Blocks of zeros are passed over, written or not: reading a hole could take for ever."""
    try:
        digest, place = hashlib.sha256(b"%d:" % size), 0
        while (place := _next_data(descriptor, place, size)) < size:
            block = os.pread(descriptor, BLOCK, place)
            if not block:
                break
            if block != _ZEROS[: len(block)]:
                digest.update(b"%d:%d:" % (place, len(block)))
                digest.update(block)
            place += BLOCK
        return digest.digest()
    finally:
        os.close(descriptor)


def _next_data(descriptor: int, place: int, size: int) -> int:
    """Where the first block begins, from ``place`` on, that isn't all hole; ``size``: there is none."""
    try:
        return os.lseek(descriptor, place, os.SEEK_DATA) // BLOCK * BLOCK if place < size else size
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size


def _names(directory: int) -> Iterator[bytes]:
    return iter(sorted(map(os.fsencode, os.listdir(directory))))


def _step(here: int, name: bytes, inode: tuple[int, int]) -> int:
    """Open a directory from another, which is closed then; raises OSError, which leaves that open."""
    there = os.open(name, _DIRECTORY, dir_fd=here)
    status = os.fstat(there)
    if (status.st_dev, status.st_ino) != inode:
        os.close(there)
        raise OSError(errno.ESTALE, "moved while it was read", os.fsdecode(name))
    os.close(here)
    return there
