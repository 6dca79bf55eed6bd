"""An OCI image layout: files named by the digest of their content, in a directory or in one tar file.

Source: the Open Container Initiative's image-spec 1.1, image-layout.md.
"""

import contextlib
import hashlib
import os
import shutil
import struct
import tarfile
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from greenroom.worker.images.tree import BLOCK

_LEVEL = 1
"""Of compression: a virtual environment of 232 MB takes 3.6 s on two cores, and 8 s with zlib's usual 6 for a tenth less."""
_WINDOW = 1 << 15
"""Bytes that a block's compression may refer back to."""
_AHEAD = 8
"""Blocks that may be compressed, or wait for it, at once."""
_GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""Its header: no name, no time, no system. Source: RFC 1952."""


class Blob(NamedTuple):
    digest: str
    """SHA-256, in hexadecimal digits."""
    size: int
    """Bytes, as they are written."""


class Layout(Protocol):
    """Where an image is written. Everything but :meth:`discard` raises OSError."""

    def open(self) -> None:
        """Make it, under its first name."""

    def put(self, name: str, content: bytes) -> None:
        """A file that is no blob."""

    def begin(self) -> BinaryIO:
        """Where to write a blob whose digest is not known yet."""

    def end(self, blob: Blob) -> None:
        """It is written, and this is its digest."""

    def close(self) -> None:
        """Everything is written."""

    def discard(self) -> None:
        """Remove what there is under its first name: nothing, once it was renamed."""


class Directory:
    """A layout that is a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def open(self) -> None:
        self._path.mkdir()
        (self._path / "blobs" / "sha256").mkdir(parents=True)

    def put(self, name: str, content: bytes) -> None:
        (self._path / name).write_bytes(content)

    def begin(self) -> BinaryIO:
        self._file = open(self._path / "blob", "xb")
        return self._file

    def end(self, blob: Blob) -> None:
        assert self._file is not None
        self._file.close()
        (self._path / "blob").rename(self._path / "blobs" / "sha256" / blob.digest)

    def close(self) -> None:
        """Every file is."""

    def discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # there is no room for what it still held
                self._file.close()
        shutil.rmtree(self._path, ignore_errors=True)


class Archive:
    """The same in one tar file, without a copy: a blob's header is written once its size is known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._start = 0
        self._written: set[str] = set()

    def open(self) -> None:
        self._file = open(self._path, "xb")
        for name in ("blobs", "blobs/sha256"):
            self._file.write(self._head(name, 0, tarfile.DIRTYPE))

    def put(self, name: str, content: bytes) -> None:
        self._opened.write(self._head(name, len(content)) + content)
        self._pad(len(content))

    def begin(self) -> BinaryIO:
        self._start = self._opened.tell()
        self._opened.write(bytes(tarfile.BLOCKSIZE))
        return self._opened

    def end(self, blob: Blob) -> None:
        file = self._opened
        if blob.digest in self._written:
            file.seek(self._start)
            file.truncate()
            return
        self._written.add(blob.digest)
        self._pad(blob.size)
        file.seek(self._start)
        file.write(self._head(f"blobs/sha256/{blob.digest}", blob.size))
        file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._opened.write(bytes(2 * tarfile.BLOCKSIZE))
        self._opened.close()

    def discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # there is no room for what it still held
                self._file.close()
        with contextlib.suppress(OSError):  # it was never made, or was renamed
            self._path.unlink()

    @property
    def _opened(self) -> BinaryIO:
        assert self._file is not None
        return self._file

    def _pad(self, size: int) -> None:
        self._opened.write(bytes(-size % tarfile.BLOCKSIZE))

    @staticmethod
    def _head(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
        """In GNU's format, whose header is one block for every size."""
        member = tarfile.TarInfo(name)
        member.type, member.size, member.mode = kind, size, 0o755 if kind == tarfile.DIRTYPE else 0o644
        return member.tobuf(tarfile.GNU_FORMAT)


class Gzip:
    """A file of one gzip member, compressed by all cores; the same bytes however many there are.

    As pigz does: blocks of one size, each with the end of the one before as its dictionary, joined at whole bytes.
    """

    def __init__(self, file: BinaryIO, pool: ThreadPoolExecutor) -> None:
        self.content = hashlib.sha256()
        """Of what was written, not compressed."""
        self._file = file
        self._pool = pool
        self._digest = hashlib.sha256()
        self._size = self._length = self._crc = 0
        self._buffer = bytearray()
        self._before = b""
        self._waiting: deque[Future[bytes]] = deque()
        self._out(_GZIP)

    def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= BLOCK:
            self._compress(bytes(self._buffer[:BLOCK]), zlib.Z_SYNC_FLUSH)
            del self._buffer[:BLOCK]

    def close(self) -> Blob:
        """Write the end; the file is its owner's to close."""
        self._compress(bytes(self._buffer), zlib.Z_FINISH)
        while self._waiting:
            self._out(self._waiting.popleft().result())
        self._out(struct.pack("<2I", self._crc, self._length & 0xFFFFFFFF))
        return Blob(self._digest.hexdigest(), self._size)

    def _compress(self, block: bytes, flush: int) -> None:
        self._waiting.append(self._pool.submit(_deflate, block, self._before, flush))
        self.content.update(block)
        self._crc = zlib.crc32(block, self._crc)
        self._length += len(block)
        self._before = block[-_WINDOW:]
        while len(self._waiting) > _AHEAD:
            self._out(self._waiting.popleft().result())

    def _out(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        self._file.write(data)


def _deflate(block: bytes, before: bytes, flush: int) -> bytes:
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15, zdict=before)
    return squeeze.compress(block) + squeeze.flush(flush)
