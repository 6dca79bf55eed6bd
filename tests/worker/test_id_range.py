"""The users that containers are."""

from hypothesis import given
from hypothesis import strategies as st

from greenroom.worker.id_range import FIRST, SIZE, free_range, id_range

ranges = st.tuples(st.integers(FIRST - 200_000, FIRST + 1_000_000), st.integers(1, 200_000))


@given(st.lists(ranges, max_size=8))
def test_the_lowest_free_range(taken):
    first = free_range(taken)
    assert first >= FIRST
    assert all(first + SIZE <= start or first >= start + count for start, count in taken)
    lower = [FIRST, *(start + count for start, count in taken if FIRST <= start + count < first)]
    for candidate in lower:
        if candidate < first:
            assert any(candidate + SIZE > start and candidate < start + count for start, count in taken)


def test_it_stays_what_it_was(tmp_path):
    first = id_range(tmp_path)
    assert id_range(tmp_path) == first
    (tmp_path / "id-range").write_text("1234567")
    assert id_range(tmp_path) == 1234567
