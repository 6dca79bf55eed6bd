import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.server.gathering import seconds_until_batch


@pytest.mark.parametrize(
    ("waiting", "waited", "left"),
    [
        (1, 0.0, 2.0),
        (3, 0.5, 1.5),
        (4, 0.0, 0.0),  # full
        (5, 0.0, 0.0),
        (1, 2.0, 0.0),
        (1, 3.0, 0.0),
        (1, 2.0 - 1e-9, 0.0),  # a timer that came early
    ],
)
def test_table(waiting, waited, left):
    assert seconds_until_batch(waiting, waited, most=4, wait=2.0) == left


def test_without_a_wait_nothing_waits():
    assert seconds_until_batch(1, 0.0, most=1000, wait=0.0) == 0


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 500), st.integers(0, 300)
)
def test_whatever_comes_when(gaps, most, wait, takes):
    """One container, time in ms: no batch is too large, none begins too early or, the container being free, too late."""
    arrivals = [sum(gaps[:index]) for index in range(len(gaps))]
    queue, batches, now, free_at = [], [], 0, 0
    coming = list(arrivals)
    while coming or queue:
        while coming and coming[0] <= now:
            queue.append(coming.pop(0))
        if queue and now >= free_at:
            left = seconds_until_batch(len(queue), (now - queue[0]) / 1000, most=most, wait=wait / 1000)
            if not left:
                batches.append((now, free_at, queue[:most]))
                queue, free_at = queue[most:], now + takes
                continue
            due = now + round(left * 1000)
        else:
            due = free_at
        now = min(due, coming[0]) if coming and queue else coming[0] if coming and not queue else due
    assert [arrival for _, _, batch in batches for arrival in batch] == arrivals
    for began, free, batch in batches:
        assert 1 <= len(batch) <= most
        full_at = batch[-1] if len(batch) == most else float("inf")
        assert began == max(free, min(batch[0] + wait, full_at))
