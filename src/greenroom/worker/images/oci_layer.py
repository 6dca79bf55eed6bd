"""A layer as a tar file: what overlayfs means by devices and attributes, the specification says by names.

Source: the Open Container Initiative's image-spec 1.1, layer.md.
"""

import os
import stat
import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from greenroom.model.errors import ImageBuildError
from greenroom.worker.id_range import SIZE
from greenroom.worker.images.tree import BLOCK, Entry, walk

_END = bytes(2 * tarfile.BLOCKSIZE)
_OPAQUE = {b"trusted.overlay.opaque", b"user.overlay.opaque"}
"""On a directory: nothing of it in the layers below is seen. The second, where the mount says ``userxattr``."""
_BELOW = {b"trusted.overlay.redirect", b"trusted.overlay.metacopy", b"trusted.overlay.whiteout"}
"""Where overlayfs was allowed to say with less what the layers below hold."""
_ACLS = {b"system.posix_acl_access", b"system.posix_acl_default"}
_ACL_NAMED = {0x02, 0x08}
"""Entries for a user and for a group, that carry an id. Source: linux/posix_acl.h."""


class Output(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Layer:
    """One upper directory of an overlay; on disk a container's ids are higher by ``first_id``."""

    def __init__(self, root: Path, stream: Output, first_id: int, progress: Callable[[int], None]) -> None:
        self._root = root
        self._stream = stream
        self._first_id = first_id
        self._progress = progress
        self._firsts: dict[tuple[int, int], bytes] = {}

    def write(self) -> None:
        """Write it whole.

        Raises:
            OSError: it can't be read; or what the stream's own ``write`` raises.
            ImageBuildError: it holds what no tar file can.
        """
        for entry in walk(self._root):
            self._add(entry)
        self._stream.write(_END)

    def _add(self, entry: Entry) -> None:
        mode, status = entry.status.st_mode, entry.status
        if entry.name.startswith(b".wh."):
            raise self._refusal(entry, "no layer can hold a name that starts with .wh.")
        if entry.is_whiteout or stat.S_ISSOCK(mode):
            # Nobody listens at a socket any more, and tar has no word for one; but it may hide what lies below.
            self._stream.write(header(b"/".join([*entry.parents, b".wh." + entry.name])))
            return
        found = entry.attributes()
        if not _BELOW.isdisjoint(name for name, _ in found):
            raise self._refusal(entry, "a part of it lies in a layer below: it was not made by an overlay of ours")
        member = tarfile.TarInfo()
        member.mode = stat.S_IMODE(mode)
        member.uid, member.gid = self._inside(entry, status.st_uid), self._inside(entry, status.st_gid)
        # A name for a file that was there gets its attributes once more: a chown by whoever applies this takes capabilities.
        records = {b"SCHILY.xattr." + name: value for name, value in self._attributes(entry, found)}
        path, link = entry.path, b""
        first = path if stat.S_ISDIR(mode) or status.st_nlink == 1 else self._firsts.setdefault(entry.inode, path)
        if first != path:
            member.type, link = tarfile.LNKTYPE, first
        elif stat.S_ISREG(mode):
            member.size = status.st_size
        elif stat.S_ISDIR(mode):
            member.type, path = tarfile.DIRTYPE, path + b"/"
        elif stat.S_ISLNK(mode):
            member.type, link = tarfile.SYMTYPE, entry.target()
        elif stat.S_ISFIFO(mode):
            member.type = tarfile.FIFOTYPE
        else:
            raise self._refusal(entry, "a device node is nothing for a layer: remove it in the step that makes it")
        self._stream.write(header(path, member, link, status.st_mtime_ns, records))
        if stat.S_ISREG(mode) and not link:
            self._content(entry)
        elif stat.S_ISDIR(mode) and any((name, b"y") in found for name in _OPAQUE):
            self._stream.write(header((b"" if path == b"./" else path) + b".wh..wh..opq"))

    def _content(self, entry: Entry) -> None:
        left = entry.status.st_size
        descriptor = entry.open()
        try:
            while left:
                block = os.read(descriptor, min(left, BLOCK))
                if not block:
                    raise self._refusal(entry, "it became shorter while it was read")
                self._stream.write(block)
                self._progress(len(block))
                left -= len(block)
        finally:
            os.close(descriptor)
        self._stream.write(bytes(-entry.status.st_size % tarfile.BLOCKSIZE))

    def _attributes(self, entry: Entry, found: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for name, value in found:
            if name.startswith(b"trusted.overlay."):
                continue
            if b"=" in name:
                raise self._refusal(entry, f"no tar file can hold its attribute {shown(name)}")
            if name == b"security.capability":
                value = self._capability(entry, value)
            elif name in _ACLS:
                value = self._acl(entry, value)
            yield name, value

    def _capability(self, entry: Entry, value: bytes) -> bytes:
        """As root of the container sees it: the third form says for whose root it is, the second is for one's own.

        Source: linux/capability.h, capabilities(7).
        """
        revision = value[3] if len(value) == 24 else 0
        if revision != 3:
            return value
        root = self._inside(entry, struct.unpack_from("<I", value, 20)[0])
        return value[:20] + struct.pack("<I", root) if root else value[:3] + b"\2" + value[4:20]

    def _acl(self, entry: Entry, value: bytes) -> bytes:
        """Its users and groups are ids of the host, like owners."""
        entries = []
        for tag, permissions, owner in struct.iter_unpack("<HHI", value[4:]):
            entries.append(
                struct.pack("<HHI", tag, permissions, self._inside(entry, owner) if tag in _ACL_NAMED else owner)
            )
        return value[:4] + b"".join(entries)

    def _inside(self, entry: Entry, owner: int) -> int:
        if not 0 <= owner - self._first_id < SIZE:
            last = self._first_id + SIZE - 1
            raise self._refusal(entry, f"it belongs to id {owner}, and a container's are {self._first_id} to {last}")
        return owner - self._first_id

    def _refusal(self, entry: Entry, why: str) -> ImageBuildError:
        return ImageBuildError(f"can't export {shown(os.fsencode(self._root) + b'/' + entry.path)}: {why}")


def shown(name: bytes) -> str:
    """A path in a message."""
    return name.decode(errors="backslashreplace")


def header(
    path: bytes,
    member: tarfile.TarInfo | None = None,
    link: bytes = b"",
    mtime: int = 0,
    records: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """What stands before a member's content: its block of 512 bytes, and before that what has no place in it; ``mtime`` in ns.

    Source: POSIX.1-2017, pax: "ustar Interchange Format", "pax Extended Header"; ``SCHILY.xattr`` is star's, as layer.md wants.
    """
    member = member or tarfile.TarInfo()
    records = dict(records or {})
    for name, value in ((b"path", path), (b"linkpath", link)):
        if len(value) > 100 or not value.isascii():
            records[name] = value
    if member.size >= 8**11:
        records[b"size"] = b"%d" % member.size
    seconds, rest = divmod(abs(mtime), 10**9)
    if rest or mtime < 0 or seconds >= 8**11:
        fraction = f".{rest:09}".rstrip("0") if rest else ""
        records[b"mtime"] = f"{'-' if mtime < 0 else ''}{seconds}{fraction}".encode()
    before = b""
    if records:
        names = (records.get(b"path", b""), records.get(b"linkpath", b""))
        # Names are UTF-8 unless this is said; an attribute's value is bytes in any case.
        binary = {} if all(map(_is_utf8, names)) else {b"hdrcharset": b"BINARY"}
        content = b"".join(_record(name, value) for name, value in {**binary, **records}.items())
        extended = tarfile.TarInfo("././@PaxHeader")
        extended.type, extended.size = tarfile.XHDTYPE, len(content)
        before = _block(extended) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    block = tarfile.TarInfo((path if len(path) <= 100 else path[:99]).decode("ascii", "replace").replace("\ufffd", "?"))
    block.type, block.mode, block.uid, block.gid = member.type, member.mode, member.uid, member.gid
    block.linkname = link[:100].decode("ascii", "replace").replace("\ufffd", "?")
    block.size = 0 if b"size" in records else member.size
    block.mtime = 0 if mtime < 0 or seconds >= 8**11 else seconds
    return before + _block(block)


def _record(name: bytes, value: bytes) -> bytes:
    """Its length stands first, and counts its own digits."""
    length = len(name) + len(value) + 3
    digits = len(str(length))
    digits = len(str(length + digits))
    return b"%d %b=%b\n" % (length + digits, name, value)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _block(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
