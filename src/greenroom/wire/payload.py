"""Payloads: the pickles that messages carry and that the server never opens.

A small one lies in its frame's body. A large one travels between processes of one machine as a sealed memfd, so that
its bytes are written once, read once, and never pass through the server's memory.
"""

import fcntl
import io
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from greenroom.model.errors import ProtocolError, RequestSizeError

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Descriptor:
    """A payload in a file: an owned file descriptor and the number of bytes behind it. Closed with the object."""

    __slots__ = ("fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size

    def __len__(self) -> int:
        return self.size

    def open(self) -> BinaryIO:
        """A reader with a position of its own (a descriptor that was passed on shares its position)."""
        return open(f"/proc/self/fd/{self.fd}", "rb")

    def release(self) -> int:
        """The descriptor, which is the caller's to close from now on."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Give the descriptor back; may be called again."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


Payload = bytes | Descriptor

INLINE_ONLY = 48 * 1024**2
"""Bytes that a payload may have where no descriptor can be passed."""
_BLOCK = 1024**2


def in_memory(payload: Payload) -> bytes:
    """A payload's bytes, wherever they are."""
    if isinstance(payload, bytes):
        return payload
    with mmap.mmap(payload.fd, payload.size, prot=mmap.PROT_READ) as memory:  # it is memory, no file to wait for
        return memory[:]


def blocks(payload: Payload) -> Iterator[bytes]:
    """A payload's bytes a block at a time: it may be larger than what memory is left."""
    if isinstance(payload, bytes):
        yield payload
        return
    with payload.open() as file:
        while block := file.read(_BLOCK):
            yield block


def digest_of(payload: Payload) -> str:
    """What tells one payload from another: its SHA-256, in hexadecimal; ``""`` of none."""
    import hashlib

    found = hashlib.sha256()
    for block in blocks(payload):
        found.update(block)
    return found.hexdigest() if len(payload) else ""


class PayloadWriter:
    """A file to pickle into: bytes in memory while they are few, a memfd from ``inline_limit`` on.

    ``write`` raises :class:`RequestSizeError` once more than ``max_payload`` bytes have come.
    """

    def __init__(self, inline_limit: int, max_payload: int) -> None:
        self._inline_limit = inline_limit
        self._max_payload = max_payload
        self._memory = io.BytesIO()
        self._fd = -1
        self._size = 0

    def write(self, data: "bytes | memoryview") -> int:
        """Take ``data``."""
        length = data.nbytes if isinstance(data, memoryview) else len(data)
        self._size += length
        if self._size > self._max_payload:
            raise RequestSizeError(
                f"the value is larger than the limit of {self._max_payload} bytes (GREENROOM_MAX_PAYLOAD raises it)"
            )
        if self._fd < 0 and self._size > self._inline_limit:
            self._fd = os.memfd_create("greenroom-payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            _write_all(self._fd, self._memory.getbuffer())
        if self._fd < 0:
            self._memory.write(data)
        else:
            _write_all(self._fd, data)
        return length

    def payload(self) -> Payload:
        """What was written; the writer is spent."""
        if self._fd < 0:
            return self._memory.getvalue()
        fd, self._fd = self._fd, -1
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return Descriptor(fd, self._size)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _write_all(fd: int, data: "bytes | memoryview") -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def as_payload(data: bytes, inline_limit: int) -> Payload:
    """``data`` as it should travel: itself, or in a descriptor past ``inline_limit``."""
    if len(data) <= inline_limit:
        return data
    writer = PayloadWriter(inline_limit, len(data))
    writer.write(data)
    return writer.payload()


def join(payloads: Sequence[Payload]) -> tuple[list[int], bytes, list[int]]:
    """Sizes (negative: in a descriptor), body and descriptors of a frame that carries ``payloads``."""
    if len(payloads) == 1:
        (only,) = payloads
        if isinstance(only, Descriptor):
            return [-only.size], b"", [only.fd]
        return [len(only)], only, []
    sizes: list[int] = []
    inline: list[bytes] = []
    fds: list[int] = []
    for payload in payloads:
        if isinstance(payload, Descriptor):
            sizes.append(-payload.size)
            fds.append(payload.fd)
        else:
            sizes.append(len(payload))
            inline.append(payload)
    return sizes, b"".join(inline), fds


def _check_file(payload: Descriptor) -> None:
    """It is memory of that very size, which nobody can change any more.

    Raises:
        ProtocolError: it isn't.
    """
    try:
        sealed = fcntl.fcntl(payload.fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
    except OSError:
        sealed = False
    if not sealed:
        raise ProtocolError("a payload's file is no sealed memory")
    if os.fstat(payload.fd).st_size != payload.size:
        raise ProtocolError("a payload's file has another size than its message says")


def split(sizes: list[int], body: bytes, descriptors: list[int]) -> list[Payload]:
    """The inverse of :func:`join`; takes the descriptors it needs off the front of ``descriptors``.

    Raises:
        ProtocolError: sizes, body and descriptors don't fit each other.
    """
    if len(sizes) == 1 and sizes[0] == len(body):
        return [body]
    payloads: list[Payload] = []
    start = 0
    for size in sizes:
        if type(size) is not int:
            raise ProtocolError(f"a payload's size is {size!r}, not an integer")
        if size < 0:
            if not descriptors:
                raise ProtocolError("a message promises a file descriptor that did not come")
            payload = Descriptor(descriptors.pop(0), -size)
            _check_file(payload)
            payloads.append(payload)
        else:
            payloads.append(body[start : start + size])
            start += size
    if start != len(body):
        raise ProtocolError(f"a message's payloads have {start} bytes, its body {len(body)}")
    return payloads
