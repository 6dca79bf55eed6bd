"""Whose turn it is, by tables and by what must hold of every answer."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.server.admission import Need, admit
from greenroom.server.fairness import STARTS, TURN, Claim, Holding, in_turn, make_room, turn

HERE = Need(4.0, 1000)
ONE = Need(1.0)


def has(app, placed=0, kept=0, *, spare=0, left=0.0, need=ONE):
    return Holding(app, need, placed, kept, spare, left)


@pytest.mark.parametrize(
    ("pools", "waiting", "order"),
    [
        ({"f": has("a")}, "fff", [0, 1, 2]),
        # The flood was there first; whoever has nothing comes before it.
        ({"f": has("flood", 4), "g": has("one")}, "ffg", [2, 0, 1]),
        # From then on one by one, as shares grow.
        ({"f": has("a"), "g": has("b")}, "ffffgg", [0, 4, 1, 5, 2, 3]),
        # An app's two functions have one share between them.
        ({"f": has("a", 2), "g": has("a", 1), "h": has("b", 2)}, "fgh", [2, 1, 0]),
        # In an app the function that has none comes first.
        ({"f": has("a", 3), "g": has("a")}, "fg", [1, 0]),
        # What was promised counts in no share.
        ({"f": has("a", 2, kept=2), "g": has("b", 1)}, "gf", [1, 0]),
        # Two cores of four weigh more than a tenth of the memory.
        ({"f": has("a", 2), "g": has("b", 1, need=Need(1.0, 100))}, "fg", [1, 0]),
        # What asks for nothing is counted, and waits for starts alone.
        ({"f": has("a", 9, need=Need()), "g": has("b", 1, need=Need())}, "fg", [1, 0]),
        # Who asks for what others were promised holds nobody up.
        ({"f": has("a", 3, kept=3), "g": has("b", need=Need(2.0)), "h": has("c", 1)}, "gh", [1, 0]),
    ],
)
def test_order(pools, waiting, order):
    assert in_turn(waiting, pools, HERE) == order


@pytest.mark.parametrize(
    ("pools", "claims", "idle", "free", "gone", "owed", "look_again"),
    [
        # A flood has all: one of its containers goes after its input, at once.
        ({"f": has("flood", 4), "g": has("one")}, "g", "", 0, [], {"f": 1}, math.inf),
        # What is free, or goes already, is enough.
        ({"f": has("flood", 4), "g": has("one")}, "g", "", 1, [], {}, math.inf),
        # Idle ones go first, that which is idle longest before others; but none that its pool needs.
        ({"f": has("a", 2, spare=1), "h": has("b", 2), "g": has("one")}, "g", "hff", 0, [1], {}, math.inf),
        # The app with more gives, though another has some as well.
        ({"f": has("a", 1), "h": has("b", 3), "g": has("one")}, "g", "", 0, [], {"h": 1}, math.inf),
        # Nobody gives what the other then has more of.
        ({"f": has("a", 2), "g": has("b", 2)}, "g", "", 0, [], {}, math.inf),
        ({"f": has("a", 3), "g": has("b", 1)}, "g", "", 0, [], {"f": 1}, math.inf),
        # A last container stays for its turn; then it goes even so, since the other has nothing.
        ({"f": has("a", 1, left=1.5, need=Need(4)), "g": has("b", need=Need(4))}, "g", "", 0, [], {}, 1.5),
        ({"f": has("a", 1, need=Need(4)), "g": has("b", need=Need(4))}, "g", "", 0, [], {"f": 1}, math.inf),
        # Functions of one app take turns too, and leave other apps alone.
        ({"f": has("a", 2), "g": has("a"), "h": has("b", 2)}, "g", "", 0, [], {"f": 1}, math.inf),
        # What was promised gives way to nobody.
        ({"f": has("a", 4, kept=4), "g": has("b")}, "g", "", 0, [], {}, math.inf),
        ({"f": has("a", 4, kept=3), "g": has("b")}, "g", "", 0, [], {"f": 1}, math.inf),
        # Two containers for one that is twice as large; or none, where two can't be had.
        ({"f": has("a", 4), "g": has("b", need=Need(2))}, "g", "", 0, [], {"f": 2}, math.inf),
        ({"f": has("a", 4, kept=3), "g": has("b", need=Need(2))}, "g", "", 0, [], {}, math.inf),
        # Each that waits gets its own.
        ({"f": has("a", 4), "g": has("b"), "h": has("c")}, "gh", "", 0, [], {"f": 2}, math.inf),
    ],
)  # fmt: skip
def test_room(pools, claims, idle, free, gone, owed, look_again):
    room = make_room([Claim(pool, "cores") for pool in claims], pools, idle, {"cores": float(free)}, HERE)
    assert room == (gone, Counter(owed), look_again)


def test_a_turn_is_long_beside_the_start_that_it_costs():
    assert turn(0.1) == TURN
    assert turn(30) == STARTS * 30


needs = st.builds(Need, st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.sampled_from([0, 100, 500]))
holdings = st.builds(
    Holding,
    app=st.sampled_from("abc"),
    need=needs,
    placed=st.integers(0, 4),
    kept=st.integers(0, 2),
    spare=st.integers(0, 2),
    turn_left=st.sampled_from([0.0, 1.0]),
)
machines = st.dictionaries(st.integers(0, 7), holdings, min_size=1, max_size=8)


@given(machines, st.data())
def test_everybody_has_a_place_and_nobody_overtakes_his_own(pools, data):
    waiting = data.draw(st.lists(st.sampled_from(sorted(pools)), max_size=12))
    order = in_turn(waiting, pools, HERE)
    assert sorted(order) == list(range(len(waiting)))
    for pool in pools:
        own = [place for place in order if waiting[place] == pool]
        assert own == sorted(own)


@given(machines, st.data())
def test_no_more_goes_than_is_needed_and_nothing_that_was_promised(pools, data):
    claims = data.draw(st.lists(st.sampled_from(sorted(pools)), max_size=6))
    idle = [key for key, pool in pools.items() for _ in range(min(pool.placed, pool.spare))]
    room = make_room([Claim(key, "cores") for key in claims], pools, idle, {"cores": 0.0}, HERE)
    asked = [pools[key].need.cores for key in claims]
    gives = [pools[idle[place]].need.cores for place in room.idle]
    gives += [pools[key].need.cores for key, count in room.owed.items() for _ in range(count)]
    assert all(gives), "it would be no use"
    assert not room.owed or sum(gives) < sum(asked) + max(gives) * len(asked)
    for key, count in room.owed.items():
        went = sum(idle[place] == key for place in room.idle)
        assert count <= pools[key].placed - pools[key].kept - went
    assert len(set(room.idle)) == len(room.idle)


cores = st.sampled_from([0.5, 1.0, 2.0]).map(Need)


@given(
    st.dictionaries(st.integers(0, 7), st.builds(lambda pool, need: pool._replace(need=need), holdings, cores)), cores
)
def test_an_app_that_has_nothing_is_never_starved(pools, need):
    """It gets its room, or will once a turn is over, unless what it needs was promised to others."""
    pools = {**pools, "new": Holding("new", need)}
    promised = sum(pool.kept * pool.need.cores for pool in pools.values())
    free = HERE.cores - sum(pool.placed * pool.need.cores for pool in pools.values())
    if free < 0 or promised + need.cores > HERE.cores:
        return
    room = make_room([Claim("new", "cores")], pools, [], {"cores": free}, HERE)
    owed = sum(pools[key].need.cores * count for key, count in room.owed.items())
    assert free + owed >= need.cores or room.look_again <= 1.0
    waiting = list(pools)
    rich = {pool.app for pool in pools.values() if pool.placed > pool.kept}
    order = [waiting[place] for place in in_turn(waiting, pools, HERE)]
    before = order[: order.index("new")]
    assert not rich & {pools[key].app for key in before}, "an app that has something comes after it"


@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=6), st.integers(1, 6))
def test_whatever_floods_there_are_each_function_has_its_turn_and_each_app_its_share(apps, cores):
    """A machine of one-core containers, each input as long as a turn, and queues that never end."""
    capacity, pools = Need(float(cores)), {(app, number): ONE for number, app in enumerate(apps)}
    had, served = Counter(), Counter()
    waiting = [key for key in pools for _ in range(5)]  # as they came: a flood's five before another's first
    shares = Counter()
    for _ in range(60):
        holding = {key: has(key[0], had[key]) for key in pools}
        order = in_turn(waiting, holding, capacity)
        admitted, refusals = admit([ONE] * len(order), [ONE] * had.total(), capacity)
        begun = [order[place] for place in admitted]
        had.update(waiting[place] for place in begun)
        holding = {key: has(key[0], had[key]) for key in pools}
        claims = [Claim(waiting[order[refusal.place]], refusal.resource) for refusal in refusals]
        room = make_room(claims, holding, [], {"cores": 0.0}, capacity)
        waiting = [key for place, key in enumerate(waiting) if place not in begun] + [waiting[place] for place in begun]
        served.update(key for key in pools if had[key])
        shares = Counter({app: sum(count for key, count in had.items() if key[0] == app) for app in apps})
        had -= room.owed
    assert set(served) == set(pools)
    if cores >= len(set(apps)):
        assert max(shares.values()) - min(shares.values()) <= 1
