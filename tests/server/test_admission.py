"""Who may start, by tables and by what must hold of every answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.server.admission import Need, Refusal, admit

HERE = Need(2.0, 1000)


@pytest.mark.parametrize(
    ("waiting", "held", "admitted", "refusals"),
    [
        ([], [], [], []),
        ([Need()] * 3, [Need(2, 1000)], [0, 1, 2], []),
        ([Need(1)] * 3, [], [0, 1], [Refusal(2, "cores", 0.0)]),
        ([Need(memory=600), Need(memory=600), Need(memory=100)], [], [0], [Refusal(1, "memory", 400.0), Refusal(2, "memory", 400.0)]),
        ([Need(memory=600), Need(cores=1)], [Need(memory=600)], [1], [Refusal(0, "memory", 400.0)]),
        ([Need(2, 600), Need(1)], [Need(memory=600)], [], [Refusal(0, "memory", 400.0), Refusal(1, "cores", 2.0)]),
    ],
)  # fmt: skip
def test_tables(waiting, held, admitted, refusals):
    assert admit(waiting, held, HERE) == (admitted, refusals)


needs = st.builds(Need, st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.sampled_from([0, 100, 400, 1000]))


@given(st.lists(needs, max_size=8), st.lists(needs, max_size=3))
def test_no_more_than_there_is_and_nobody_is_overtaken(waiting, held):
    admitted, refusals = admit(waiting, held, HERE)
    assert sorted([*admitted, *(refusal.place for refusal in refusals)]) == list(range(len(waiting)))
    for amount in ("cores", "memory"):
        new = sum(getattr(waiting[place], amount) for place in admitted)
        assert new == 0 or new + sum(getattr(need, amount) for need in held) <= getattr(HERE, amount)
    for refusal in refusals:
        behind = [place for place in admitted if place > refusal.place]
        assert all(getattr(waiting[place], refusal.resource) == 0 for place in behind)


@given(st.lists(needs, min_size=1, max_size=8))
def test_on_an_empty_machine_the_first_one_starts(waiting):
    assert 0 in admit(waiting, [], HERE)[0]
