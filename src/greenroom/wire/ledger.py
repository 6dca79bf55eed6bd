"""What an agent has begun, and finished without having said so yet: in memory that outlives its process.

Results of quick inputs leave many at a time. Should the process die in between (a signal, ``os._exit``, out of memory),
the worker reads here which input it was that died with it, and the results of those before it: none of them is lost,
run again, or blamed for the crash.
"""

import mmap
import os
import struct
from typing import Literal, NamedTuple

from greenroom.wire.payload import Payload
from greenroom.wire.status import Status

SIZE = 256 * 1024
_HEAD = struct.Struct("=qI")  # the sequence number begun last (-1: none), bytes of records
_BEGUN, _USED = 0, 8
_RECORD = struct.Struct("=qI")  # sequence number, length of the payload


class Entries(NamedTuple):
    """A ledger's content."""

    begun: int
    """The input that began last; -1: none has."""
    results: list[tuple[int, bytes]]
    """Sequence number and payload of each result that was kept."""


def make_ledger() -> int:
    """A memfd for one; the caller closes it."""
    fd = os.memfd_create("greenroom-ledger", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    os.pwrite(fd, _HEAD.pack(-1, 0), 0)
    return fd


def read_ledger(fd: int) -> Entries:
    """What stands in it, by whoever wrote it last."""
    data = os.pread(fd, SIZE, 0)
    if len(data) < SIZE:
        return Entries(-1, [])
    begun, used = _HEAD.unpack_from(data)
    results: list[tuple[int, bytes]] = []
    at, end = _HEAD.size, min(SIZE, _HEAD.size + used)
    while at + _RECORD.size <= end:
        seq, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + length > end:
            break  # user code wrote over it: what is whole still counts
        results.append((seq, data[at : at + length]))
        at += length
    return Entries(begun, results)


def number_at(memory: mmap.mmap, at: int, format: Literal["q", "I"]) -> "memoryview[int]":
    """The number there: setting its only item is one store.

    ``struct.pack_into`` makes the place zero first, and a process that is killed in between leaves that.
    """
    return memoryview(memory)[at : at + struct.calcsize(format)].cast(format)


class Ledger:
    """The agent's side; closes ``fd``, and keeps the memory. Not for several threads at once.

    Without one (``fd`` -1: nobody outside shares memory with this process) nothing is kept.
    """

    lasting = False
    """Results are to be kept beyond :meth:`clear`, whatever their status."""

    def __init__(self, fd: int) -> None:
        self._shared = fd >= 0
        self._memory = mmap.mmap(fd, SIZE)  # of -1: memory of this process alone
        if self._shared:
            os.close(fd)
        self._begun = number_at(self._memory, _BEGUN, "q")
        self._end = number_at(self._memory, _USED, "I")
        self._memory.seek(_HEAD.size)
        self._used = 0

    def begin(self, seq: int) -> None:
        """That input runs from now on."""
        self._begun[0] = seq

    def keep(self, seq: int, payload: Payload, status: str = Status.OK) -> bool:
        """Keep the result of an input that returned, until :meth:`clear`; False when there is no room for it here."""
        if type(payload) is not bytes or not self._shared:
            return False
        used = self._used + _RECORD.size + len(payload)
        if _HEAD.size + used > SIZE:
            return False
        self._memory.write(_RECORD.pack(seq, len(payload)) + payload)
        self._used = used
        # Last of all, so that no half of a record ever counts.
        self._end[0] = used
        return True

    def clear(self) -> None:
        """The results are on their way."""
        if self._used:
            self._used = 0
            self._end[0] = 0
            self._memory.seek(_HEAD.size)
