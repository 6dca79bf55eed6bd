import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.sdk.window import BYTES, DESCRIPTOR, FEWEST, INPUTS, Unlimited, Window

SMALL, LARGE = 100, 2 * 1024**2


def fill(window, size=0):
    """Send until there is no room; how many."""
    sent = 0
    while room := window.room():
        for _ in range(room):
            window.send(bytes(size))
        sent += room
    return sent


def settle(window, result, rounds=40):
    """Many results of one size have come and been taken."""
    for _ in range(rounds):
        fill(window)
        count = window.sent - window.taken
        for start in range(window.taken, window.taken + count):
            window.end(start)
            window.take()
        window.arrive([result] * count)


def test_before_any_result_some_hundreds():
    assert FEWEST < fill(Window()) < INPUTS


def test_small_results_open_it_wide():
    window = Window()
    settle(window, SMALL)
    assert fill(window) > INPUTS * 15 // 16


@pytest.mark.parametrize("size", [LARGE, -LARGE])
def test_large_results_hold_it_by_their_bytes(size):
    window = Window()
    settle(window, size)
    assert BYTES * 3 // 4 < fill(window) * (LARGE + (DESCRIPTOR if size < 0 else 0)) <= BYTES


def test_small_files_hold_it_by_their_number():
    window = Window()
    settle(window, -SMALL)
    assert fill(window) <= BYTES // DESCRIPTOR


def test_huge_results_leave_enough_for_every_container():
    window = Window()
    settle(window, -(10**9))
    assert fill(window) == FEWEST


def test_inputs_count_until_they_end():
    window = Window()
    settle(window, SMALL)
    sent = 0
    while window.room():
        window.send(bytes(LARGE))
        sent += 1
    assert BYTES // LARGE - 1 <= sent <= BYTES // LARGE + 1
    for index in range(window.sent):
        window.end(index)
    assert window.room()


def test_results_that_wait_count_by_their_size():
    window = Window()
    settle(window, SMALL)
    window.send(b"")
    results = [bytes(LARGE)] * (BYTES // LARGE + 1)
    for result in results:
        window.send(b"")
        window.keep(result)
    assert fill(window) == 0
    for result in results:
        window.release(result)
        window.take()
    assert window.room()


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(-(10**10), 10**10)), max_size=60))
def test_never_shut_while_nothing_is_ahead_and_never_past_its_limits(steps):
    window = Window()
    for take, size in steps:
        fill(window)
        assert FEWEST <= window.sent - window.taken <= INPUTS
        count = min(take, window.sent - window.taken)
        window.arrive([size] * count)
        for _ in range(count):
            window.end(window.taken)
            window.take()
        if window.sent == window.taken:
            assert window.room() >= FEWEST


def test_spawned_calls_have_no_window():
    window = Unlimited()
    for _ in range(2 * INPUTS):
        window.send(b"")
    assert window.room()
