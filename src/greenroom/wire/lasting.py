"""The ledger of a container that may outlive its server: a file, which the next server's worker reads when the container has died.

It says more than :mod:`greenroom.wire.ledger`, since whoever reads it may have nothing else to go by: which inputs the
container was given, by call and index, which had begun, and the results that no server has said to be safe.

One page of heads, then two halves of a log (what was given, and what is safe or somebody else's since), then two halves of
results. A half of the log that is full is followed by the other one, which begins with what still counts; a half of the
results by the other one, whose results are forgotten: an input whose result is there no more has begun, and that is all.
Whatever counts is written before the number that says how much counts, and each number by one store
(:func:`number_at`), so that SIGKILL at any moment leaves a ledger that holds together.
"""

import mmap
import os
import struct
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from greenroom.wire.ledger import Ledger, number_at
from greenroom.wire.payload import Payload
from greenroom.wire.status import Status

PAGE = 4096
LOG = 128 * 1024
"""Bytes of each half of the log."""
RESULTS = 128 * 1024
"""Bytes of each half of the results."""
SIZE = PAGE + 2 * LOG + 2 * RESULTS
MOST = 10_000
"""Inputs of which a reader tells at the most: first of all those that have not ended."""
STEPS = 100_000
"""Inputs that the records of half a log speak of, until the other half begins with what still counts."""
_MOST_STEPS = 3 * STEPS
"""Those that a reader follows: user code may have written there that they are without end."""

_SEQ = struct.Struct("q")
_NUMBER = struct.Struct("I")
_BEGUN, _ACTIVE, _LOG_USED, _RESULTS_USED = 0, 8, (16, 20), (24, 28)
_BOOT = slice(64, 128)
_END = 128
_END_HEAD = struct.Struct("=BBH")  # it has ended, it had been started, bytes of the reason
_MOST_REASON = 2048

_RECORD = struct.Struct("=BqIqH")  # kind, first number, how many, first index, bytes of text
_GIVEN, _SAFE = 1, 2
_RESULT = struct.Struct("=qBI")  # number, status, bytes of the payload
_CODES = {Status.OK: 1, Status.ERROR: 2, Status.CANCELLED: 3, Status.END: 4}
_STATUSES = {code: status for status, code in _CODES.items()}


class Left(NamedTuple):
    """What a container that has ended had begun, and what of it is not known to be safe."""

    begun: int = -1
    """The number of the input that began last; -1: none has."""
    items: list[list[Any]] = []
    """``[[seq, call_id, index, method, shape], …]``: those that had begun or ended."""
    results: list[tuple[int, str, bytes]] = []
    """Number, status and payload of those that had ended, as far as they are kept."""


class End(NamedTuple):
    """How a container ended, as its worker noted it."""

    reason: str
    started: bool


# ---- the worker's side ----


def make_lasting(path: str) -> int:
    """A file for one; where it can't be, or couldn't be shared, memory that ends with its last holder. The caller closes it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except OSError:
        return _in_memory()
    try:
        # A disk that fills up later must not end the container: there is no other way to tell one that writes to memory.
        os.posix_fallocate(fd, 0, SIZE)
        mmap.mmap(fd, SIZE).close()
        _prepare(fd)
    except (OSError, ValueError):
        os.close(fd)
        os.unlink(path)
        return _in_memory()
    return fd


def _in_memory() -> int:
    fd = os.memfd_create("greenroom-ledger", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    _prepare(fd)
    return fd


def _prepare(fd: int) -> None:
    os.pwrite(fd, _SEQ.pack(-1), _BEGUN)
    os.pwrite(fd, _boot(), _BOOT.start)


def _boot() -> bytes:
    """Which start of the machine this is."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read(_BOOT.stop - _BOOT.start).strip().ljust(_BOOT.stop - _BOOT.start, b"\0")


def note_end(fd: int, reason: str, started: bool) -> None:
    """The container has ended: keep how, for a worker that comes after this one."""
    text = reason.encode(errors="replace")[:_MOST_REASON]
    os.pwrite(fd, _END_HEAD.pack(1, started, len(text)) + text, _END)


def noted_end(fd: int) -> End | None:
    """What was kept of that."""
    data = os.pread(fd, _END_HEAD.size + _MOST_REASON, _END)
    if len(data) < _END_HEAD.size:
        return None
    ended, started, length = _END_HEAD.unpack_from(data)
    text = data[_END_HEAD.size : _END_HEAD.size + min(length, _MOST_REASON)]
    return End(text.decode(errors="replace"), bool(started)) if ended else None


def read_lasting(fd: int) -> Left:
    """What stands in it, by whoever wrote it last: what can't be is left out."""
    data = os.pread(fd, SIZE, 0)
    if len(data) < SIZE:
        return Left()
    (begun,) = _SEQ.unpack_from(data, _BEGUN)
    given = _given(data)
    results: dict[int, tuple[str, bytes]] = {}
    if data[_BOOT] == _boot():  # else the machine has stopped, and nobody knows which pages the disk has
        for half in range(2):
            for seq, status, payload in _results(data, half):
                if seq in given:
                    results[seq] = status, payload
    told = [seq for seq in given if seq <= begun and seq not in results][:MOST]
    told += sorted(results, reverse=True)[: MOST - len(told)]
    items = [[seq, *given[seq]] for seq in sorted(told)]
    return Left(begun, items, [(seq, *results[seq]) for seq, *_ in items if seq in results])


def _given(data: bytes) -> dict[int, tuple[str, int, str, str]]:
    (active,) = _NUMBER.unpack_from(data, _ACTIVE)
    half = active & 1
    (used,) = _NUMBER.unpack_from(data, _LOG_USED[half])
    at = PAGE + half * LOG
    end = at + min(used, LOG)
    given: dict[int, tuple[str, int, str, str]] = {}
    steps = 0
    while at + _RECORD.size <= end:
        kind, first, count, index, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        text, at = data[at : at + length], at + length
        steps += count
        if at > end or steps > _MOST_STEPS:
            break  # user code wrote over it: what came before still counts
        if kind == _SAFE:
            for seq in range(first, first + count):
                given.pop(seq, None)
        elif kind == _GIVEN and text.count(b"\0") == 2:
            call_id, method, shape = text.decode(errors="replace").split("\0")
            for number in range(count):
                given[first + number] = call_id, index + number, method, shape
    return given


def _results(data: bytes, half: int) -> Iterable[tuple[int, str, bytes]]:
    (used,) = _NUMBER.unpack_from(data, _RESULTS_USED[half])
    at = PAGE + 2 * LOG + half * RESULTS
    end = at + min(used, RESULTS)
    while at + _RESULT.size <= end:
        seq, code, length = _RESULT.unpack_from(data, at)
        at += _RESULT.size
        if at + length > end:
            return
        if code in _STATUSES:
            yield seq, _STATUSES[code], data[at : at + length]
        at += length


# ---- the agent's side ----


class Lasting(Ledger):
    """See the module; closes ``fd``, and keeps the memory.

    :meth:`keep` and :meth:`clear` are not for several threads at once, nor are :meth:`given` and :meth:`safe`.

    Args:
        fd: of :func:`make_lasting`; -1: nobody outside shares memory with this process, and nothing is kept.
    """

    lasting = True

    def __init__(self, fd: int) -> None:
        self._shared = fd >= 0
        self._memory = mmap.mmap(fd, SIZE if self._shared else PAGE)
        if self._shared:
            os.close(fd)
        self._begun = number_at(self._memory, _BEGUN, "q")
        self._active = number_at(self._memory, _ACTIVE, "I")
        self._log_ends = [number_at(self._memory, at, "I") for at in _LOG_USED]
        self._result_ends = [number_at(self._memory, at, "I") for at in _RESULTS_USED]
        self._log_half, self._log_used = 0, 0
        self._steps = 0
        self._half, self._used = 0, 0
        self._unsent = [False, False]
        """Whether a half has results that have not left yet."""
        self._memory.seek(PAGE + 2 * LOG if self._shared else 0)

    def begin(self, seq: int) -> None:
        self._begun[0] = seq

    # ---- results ----

    def keep(self, seq: int, payload: Payload, status: str = Status.OK) -> bool:
        """Keep how an input ended, for as long as there is room, and at least until :meth:`clear`; False when there is none."""
        if type(payload) is not bytes or not self._shared:
            return False
        size = _RESULT.size + len(payload)
        if self._used + size > RESULTS and not self._turn(size):
            return False
        self._memory.write(_RESULT.pack(seq, _CODES[status], len(payload)) + payload)
        self._used += size
        self._unsent[self._half] = True
        self._result_ends[self._half][0] = self._used
        return True

    def _turn(self, size: int) -> bool:
        other = 1 - self._half
        if size > RESULTS // 2 or self._unsent[other]:
            return False
        self._half, self._used = other, 0
        self._result_ends[other][0] = 0
        self._memory.seek(PAGE + 2 * LOG + other * RESULTS)
        return True

    def clear(self) -> None:
        """The results are on their way. They stay for as long as there is room, since whoever gets them may die with them."""
        self._unsent[0] = self._unsent[1] = False

    # ---- what was given ----

    def given(self, items: Sequence[list[Any]], live: Mapping[int, list[Any]], ended: Container[int]) -> None:
        """These inputs have come.

        Args:
            items: ``[[seq, call_id, index, method, shape], …]``.
            live: all that were given and are not safe, ``items`` among them, by their number.
            ended: the numbers of those that have ended.
        """
        if self._shared:
            self._steps += len(items)
            self._append(b"".join(_records(items)), live, ended)

    def safe(self, seqs: Sequence[int], live: Mapping[int, list[Any]], ended: Container[int]) -> None:
        """The results of these are safe, or they are somebody else's; ``live`` and ``ended`` without them."""
        if not self._shared or not seqs:
            return
        self._steps += len(seqs)
        first, last = min(seqs), max(seqs)
        if last - first + 1 == len(seqs):
            self._append(_RECORD.pack(_SAFE, first, len(seqs), 0, 0), live, ended)
        else:
            self._append(b"".join(_RECORD.pack(_SAFE, seq, 1, 0, 0) for seq in seqs), live, ended)

    def _append(self, record: bytes, live: Mapping[int, list[Any]], ended: Container[int]) -> None:
        used = self._log_used + len(record)
        if used > LOG or self._steps > STEPS:
            self._begin_anew(live, ended)
            return
        at = PAGE + self._log_half * LOG
        self._memory[at + self._log_used : at + used] = record
        self._log_used = used
        self._log_ends[self._log_half][0] = used

    def _begin_anew(self, live: Mapping[int, list[Any]], ended: Container[int]) -> None:
        """The other half, with what counts: first what has not ended, then of what has as much as there is room for."""
        records = _records([item for seq, item in live.items() if seq not in ended])
        records += reversed(_records([item for seq, item in live.items() if seq in ended]))
        text = bytearray()
        for record in records:
            if len(text) + len(record) > LOG * 3 // 4:
                break
            text += record
        half = 1 - self._log_half
        at = PAGE + half * LOG
        self._memory[at : at + len(text)] = text
        self._log_ends[half][0] = len(text)
        self._active[0] = half
        self._log_half, self._log_used, self._steps = half, len(text), len(live)


def _records(items: Sequence[list[Any]]) -> list[bytes]:
    """One for each stretch of inputs of one call that follow one another."""
    records: list[bytes] = []
    if not items:
        return records
    begin = before = items[0]
    call_id, method, shape = begin[1], begin[3], begin[4]
    for item in items:
        if item is not begin:
            if (
                item[0] == before[0] + 1
                and item[2] == before[2] + 1
                and item[1] == call_id
                and item[3] == method
                and item[4] == shape
            ):
                before = item
                continue
            records.append(_record(begin, before))
            begin, call_id, method, shape = item, item[1], item[3], item[4]
        before = item
    records.append(_record(begin, before))
    return records


def _record(begin: list[Any], last: list[Any]) -> bytes:
    text = f"{begin[1]}\0{begin[3]}\0{begin[4]}".encode(errors="replace")
    if len(text) > LOG // 4:
        return b""  # of a name like that nobody is told
    return _RECORD.pack(_GIVEN, begin[0], last[0] - begin[0] + 1, begin[2], len(text)) + text
