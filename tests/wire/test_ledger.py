"""A ledger: what was written is read, whenever the writer dies."""

import mmap
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.wire.lasting import Lasting, make_lasting
from greenroom.wire.ledger import SIZE, Ledger, make_ledger, number_at, read_ledger
from greenroom.wire.payload import Descriptor

RECORD = st.tuples(st.integers(0, 2**60), st.binary(max_size=50))


@given(st.lists(st.lists(RECORD, max_size=6), min_size=1, max_size=4))
def test_what_was_kept_since_the_last_clear_is_read(batches):
    fd = make_ledger()
    ledger = Ledger(os.dup(fd))
    for batch in batches:
        ledger.clear()
        for seq, payload in batch:
            ledger.begin(seq)
            assert ledger.keep(seq, payload)
        entries = read_ledger(fd)
        assert entries.results == batch
        if batch:
            assert entries.begun == batch[-1][0]
    os.close(fd)


def test_new():
    fd = make_ledger()
    assert read_ledger(fd) == (-1, [])
    os.close(fd)


def test_what_has_no_room_is_not_kept():
    fd = make_ledger()
    ledger = Ledger(os.dup(fd))
    assert not ledger.keep(0, b"x" * SIZE)
    assert not ledger.keep(0, Descriptor(os.dup(fd), 10))
    kept = 0
    while ledger.keep(kept, b"y" * 1000):
        kept += 1
    assert [seq for seq, _ in read_ledger(fd).results] == list(range(kept))
    os.close(fd)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_what_user_code_scribbles_over_it_harms_nobody(garbage, at):
    fd = make_ledger()
    Ledger(os.dup(fd)).keep(1, b"payload")
    os.pwrite(fd, garbage, at)
    begun, results = read_ledger(fd)
    assert isinstance(begun, int)
    assert len(results) <= SIZE
    os.ftruncate(fd, 10)
    assert read_ledger(fd) == (-1, [])
    os.close(fd)


def test_it_outlives_its_writer():
    fd = make_ledger()
    pid = os.fork()
    if pid == 0:
        ledger = Ledger(os.dup(fd))
        ledger.begin(7)
        ledger.keep(7, b"seven")
        ledger.begin(8)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert read_ledger(fd) == (8, [(7, b"seven")])
    os.close(fd)


@pytest.mark.parametrize("lasting", [False, True])
def test_a_number_is_never_seen_half_written(tmp_path, lasting):
    """A process that is killed in the middle of a call leaves what another one would see at that moment."""
    fd = make_lasting(str(tmp_path / "ledger")) if lasting else make_ledger()
    pid = os.fork()
    if pid == 0:
        ledger = Lasting(os.dup(fd)) if lasting else Ledger(os.dup(fd))
        while True:
            ledger.begin(0x1111111111111111)
            ledger.begin(0x2222222222222222)
    try:
        begun = number_at(mmap.mmap(fd, SIZE), 0, "q")
        while begun[0] < 0:
            pass
        seen = {begun[0] for _ in range(3_000_000)}
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)
    assert seen <= {0x1111111111111111, 0x2222222222222222}
