"""A ledger that outlives server and worker: what it says of a container that has died, whenever that was."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.wire import lasting
from greenroom.wire.lasting import (
    LOG,
    MOST,
    RESULTS,
    SIZE,
    STEPS,
    End,
    Lasting,
    Left,
    make_lasting,
    note_end,
    noted_end,
    read_lasting,
)
from greenroom.wire.payload import Descriptor
from greenroom.wire.status import Status


class Container:
    """Its ledger, and what it has been given: as an agent uses it."""

    def __init__(self, path: Path) -> None:
        self.fd = make_lasting(str(path))
        self.ledger = Lasting(os.dup(self.fd))
        self.live: dict[int, list] = {}
        self.ended: dict[int, tuple[str, bytes]] = {}
        self.begun = self.last = -1

    def give(self, *calls: tuple[str, int], method="call", shape="unary"):
        """Inputs, by call and index."""
        items = []
        for call_id, index in calls:
            self.last += 1
            items.append([self.last, call_id, index, method, shape])
        self.live.update((item[0], item) for item in items)
        self.ledger.given(items, self.live, self.ended)

    def begin(self, seq):
        self.begun = seq
        self.ledger.begin(seq)

    def end(self, seq, payload=b"result", status=Status.OK):
        self.ended[seq] = status, payload
        return self.ledger.keep(seq, payload, status)

    def safe(self, *seqs):
        for seq in seqs:
            self.live.pop(seq, None)
            self.ended.pop(seq, None)
        self.ledger.safe(seqs, self.live, self.ended)

    def left(self):
        return read_lasting(self.fd)


@pytest.fixture
def container(tmp_path):
    made = Container(tmp_path / "ledger")
    yield made
    os.close(made.fd)


def test_new(container, tmp_path):
    assert container.left() == Left(-1, [], [])
    stat = (tmp_path / "ledger").stat()
    assert (stat.st_size, stat.st_mode & 0o777) == (SIZE, 0o600)
    assert stat.st_blocks * 512 >= SIZE, "a disk that fills up later takes none of it"


def test_what_runs_and_what_has_ended_is_told_and_what_waits_is_not(container):
    container.give(("fc-1", 4), ("fc-1", 5), ("fc-2", 0), method="work", shape="map")
    container.begin(0)
    container.end(0, b"four")
    container.begin(1)
    assert container.left() == Left(
        1, [[0, "fc-1", 4, "work", "map"], [1, "fc-1", 5, "work", "map"]], [(0, Status.OK, b"four")]
    )
    container.safe(0)
    assert container.left() == Left(1, [[1, "fc-1", 5, "work", "map"]], [])


def test_what_was_given_back_has_not_begun(container):
    container.give(("fc-1", 0), ("fc-1", 1), ("fc-1", 2), ("fc-1", 3))
    container.begin(0)
    container.safe(1, 3)
    container.begin(2)
    container.give(("fc-1", 1))
    container.begin(4)
    assert [item[0] for item in container.left().items] == [0, 2, 4]


def test_several_that_run_at_once(container):
    for number in range(40):
        container.give((f"fc-{number}", 0))
        container.begin(number)
    for number in range(0, 40, 3):
        container.end(number)
        container.safe(number)
    assert [item[1] for item in container.left().items] == [f"fc-{n}" for n in range(40) if n % 3]


@pytest.mark.parametrize("status", [Status.OK, Status.ERROR, Status.CANCELLED, Status.END])
def test_how_an_input_ended(container, status):
    container.give(("fc-1", 0))
    container.begin(0)
    container.end(0, b"payload", status)
    container.ledger.clear()
    assert container.left().results == [(0, status, b"payload")]


@settings(max_examples=12)
@given(st.integers(0, 2**32))
def test_whatever_happens_it_says_what_is_so(tmp_path_factory, seed):
    chance = random.Random(seed)
    container = Container(tmp_path_factory.mktemp("ledger") / "ledger")
    unsent: set[int] = set()
    waiting: list[int] = []
    running: list[int] = []
    for _ in range(300):
        step = chance.random()
        if step < 0.3:
            call = f"fc-{chance.randrange(3) if chance.random() < 0.7 else chance.random()}"
            first = chance.randrange(100)
            before = container.last
            container.give(*((call, first + number) for number in range(chance.randrange(1, 80))))
            waiting += range(before + 1, container.last + 1)
        elif step < 0.5 and waiting:
            container.begin(waiting[0])
            running.append(waiting.pop(0))
        elif step < 0.8 and running:
            seq = running.pop(chance.randrange(len(running)))
            if container.end(seq, bytes([seq % 256]) * chance.randrange(20_000)):
                unsent.add(seq)
            else:
                container.ledger.clear()
                unsent.clear()
        elif step < 0.85:
            container.ledger.clear()
            unsent.clear()
        elif step < 0.95 and container.ended:
            container.safe(*chance.sample(sorted(container.ended), chance.randrange(1, 1 + len(container.ended))))
            unsent &= set(container.ended)
        elif waiting:
            back = chance.sample(waiting, chance.randrange(len(waiting)))
            container.safe(*back)
            waiting = [seq for seq in waiting if seq not in back]
        if chance.random() < 0.8:
            continue
        left = container.left()
        assert left.begun == container.begun
        assert left.items == [item for seq, item in sorted(container.live.items()) if seq <= container.begun]
        told = {seq: (status, payload) for seq, status, payload in left.results}
        assert told.items() <= container.ended.items()
        assert unsent <= set(told)
    os.close(container.fd)


def test_the_log_begins_anew_with_what_still_counts(container):
    container.give(("fc-slow", 0))
    container.begin(0)
    for number in range(3 * LOG // 60):
        container.give((f"fc-{number}", 0))
        container.begin(container.last)
        container.safe(container.last)
    assert container.left().items == [[0, "fc-slow", 0, "call", "unary"]]


def test_a_log_of_long_stretches_begins_anew_before_it_takes_long_to_read(container):
    container.give(("fc-slow", 0))
    for first in range(0, 5 * STEPS, 1000):
        container.give(*(("fc-1", first + number) for number in range(1000)))
        container.begin(container.last)
        container.safe(*range(container.last - 999, container.last + 1))
    assert container.left().items == [[0, "fc-slow", 0, "call", "unary"]]


def test_of_more_than_there_is_room_for_those_that_run_are_told(container):
    count = 2 * LOG // 40
    for number in range(count):
        container.give((f"fc-{number}", 0))
        container.begin(container.last)
        if number % 100:
            container.end(container.last)
    told = [item[0] for item in container.left().items]
    assert set(range(0, count, 100)) <= set(told)
    assert len(told) < count


def test_no_more_is_told_than_a_message_should_have(container):
    for _ in range(20):
        container.give(*(("fc-1", container.last + 1 + number) for number in range(1000)))
    container.begin(container.last)
    assert len(container.left().items) == MOST


def test_results_give_way_to_later_ones_but_not_before_they_have_left(container):
    payload = b"x" * (RESULTS // 10)
    for number in range(40):
        container.give((f"fc-{number}", 0))
        container.begin(number)
    kept = 0
    while container.end(kept, payload):
        kept += 1
    assert [seq for seq, _, _ in container.left().results] == list(range(kept))
    assert kept >= 16
    container.ledger.clear()
    assert container.end(kept, payload)
    told = [seq for seq, _, _ in container.left().results]
    assert told == list(range(kept - len(told) + 1, kept + 1))
    assert len(told) > 8
    assert len(container.left().items) == 40, "of the others it is known that they had begun"


def test_what_has_no_room_or_is_no_bytes_is_not_kept(container):
    container.give(("fc-1", 0))
    assert not container.end(0, b"x" * RESULTS)
    assert not container.end(0, Descriptor(os.dup(container.fd), 10))
    assert container.left().results == []


def test_nothing_is_shared_where_there_is_no_descriptor():
    ledger = Lasting(-1)
    ledger.begin(1)
    ledger.given([[0, "fc-1", 0, "call", "unary"]], {}, {})
    ledger.safe([0], {}, {})
    assert not ledger.keep(0, b"result")
    ledger.clear()


def test_where_no_file_can_be_it_is_memory(tmp_path):
    container = Container(tmp_path / "missing" / "ledger")
    container.give(("fc-1", 0))
    container.begin(0)
    assert container.left().items == [[0, "fc-1", 0, "call", "unary"]]
    os.close(container.fd)


def test_results_of_before_the_machine_stopped_are_not_trusted(container):
    container.give(("fc-1", 0), ("fc-1", 1))
    container.begin(1)
    container.end(0)
    os.pwrite(container.fd, b"another", lasting._BOOT.start)
    assert container.left() == Left(1, [[0, "fc-1", 0, "call", "unary"], [1, "fc-1", 1, "call", "unary"]], [])


def test_how_the_container_ended_is_noted(container):
    assert noted_end(container.fd) is None
    for end in (End("", False), End("out of memory: limit 16 MiB", True), End("é" * 5000, True)):
        note_end(container.fd, *end)
        found = noted_end(container.fd)
        assert found is not None
        assert found.started == end.started
        assert found.reason[:1000] == end.reason[:1000]


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, SIZE)), max_size=8))
def test_what_user_code_scribbles_over_it_harms_nobody(tmp_path_factory, scribbled):
    container = Container(tmp_path_factory.mktemp("ledger") / "ledger")
    container.give(("fc-1", 0), ("fc-1", 1))
    container.begin(1)
    container.end(0)
    for garbage, at in [*scribbled, (scribbled[0][0] if scribbled else b"", lasting.PAGE)]:
        os.pwrite(container.fd, garbage, at)
    left = container.left()
    assert len(left.items) <= MOST
    assert {seq for seq, _, _ in left.results} <= {item[0] for item in left.items}
    assert all([type(part) for part in item] == [int, str, int, str, str] for item in left.items)
    os.ftruncate(container.fd, 10)
    assert container.left() == Left(-1, [], [])
    os.close(container.fd)


def test_a_record_of_inputs_without_end_takes_no_time(container):
    for at in range(0, LOG, lasting._RECORD.size):
        record = lasting._RECORD.pack(lasting._GIVEN, at, 2**32 - 1, 0, 0)
        os.pwrite(container.fd, record, lasting.PAGE + at)
    os.pwrite(container.fd, lasting._NUMBER.pack(LOG), lasting._LOG_USED[0])
    assert container.left().items == []


def test_killed_at_any_moment_it_holds_together(tmp_path):
    for attempt in range(30):
        path = tmp_path / str(attempt)
        fd = make_lasting(str(path))
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            container = Container.__new__(Container)
            container.fd, container.ledger = fd, Lasting(os.dup(fd))
            container.live, container.ended, container.begun, container.last = {}, {}, -1, -1
            os.write(write, b"begun")
            while True:
                seq = container.last + 1
                container.give((f"fc-{seq}", seq))
                container.begin(seq)
                container.end(seq, str(seq).encode() * (seq % 50))
                container.ledger.clear()
                if seq % 7 == 6:
                    container.safe(*range(seq - 6, seq + 1))
        os.close(write)
        os.read(read, 5)
        os.close(read)
        time.sleep(random.random() / 50)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        left = read_lasting(fd)
        assert (
            [item[0] for item in left.items] == list(range(left.begun + 1))[-len(left.items) :] if left.items else True
        )
        assert len(left.items) <= 14
        assert all(item[1:3] == [f"fc-{item[0]}", item[0]] for item in left.items)
        assert all(payload == str(seq).encode() * (seq % 50) for seq, _, payload in left.results)
        assert left.items or (left.begun + 1) % 7 == 0
        os.close(fd)
