"""Whose turn it is, where not all have room: pure functions of who waits and of who has how much of the machine.

An app's share, or a function's, is what its containers have of the machine, of cores or of memory whichever is more,
without its ``min_containers``. Who has the smaller share comes first; and who has more than another would have gives way,
once an input of his has ended. Nothing that runs is cut short.
"""

import heapq
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from greenroom.server.admission import Need

NOTHING = Need()
TURN = 2.0
"""Seconds that a pool's last container stays at least before it gives way."""
STARTS = 4.0
"""As many times as long as it took to start, if that is longer: most of the time should not go by with starts."""


class Holding(NamedTuple):
    """A pool, and what it has."""

    app: str
    need: Need
    """Of each of its containers."""
    placed: int = 0
    """Containers that have their room, and that nobody has told to go."""
    kept: int = 0
    """So many of them it was promised (``min_containers``): they give way to nobody, and count in no share."""
    spare: int = 0
    """So many containers are more than it needs now."""
    turn_left: float = 0.0
    """Seconds until its turn is over."""


class Claim(NamedTuple):
    """A container that has to wait."""

    pool: Hashable
    resource: str
    """That there is too little of: ``cores`` or ``memory``."""


class Room(NamedTuple):
    """How room is made."""

    idle: list[int]
    """Places of those idle containers that go now."""
    owed: "Counter[Hashable]"
    """So many containers of each pool go, each once an input of it has ended."""
    look_again: float
    """Seconds until somebody's turn is over who could give way then; infinite: nobody's."""


_Rank = tuple[bool, bool, float, int, int, Hashable]
"""Of a function in its app; the place in it is nobody else's, so that the last is never compared."""


def turn(seconds_to_start: float) -> float:
    """Seconds that a pool's turn lasts."""
    return max(TURN, STARTS * seconds_to_start)


class _Shares:
    """Of apps and of pools, as containers come and go."""

    def __init__(self, pools: Mapping[Hashable, Holding], capacity: Need) -> None:
        self.pools = pools
        self._capacity = capacity
        self.placed = {key: pool.placed for key, pool in pools.items()}
        self._amounts: dict[str, dict[str, float]] = {}
        self.counts: Counter[str] = Counter()
        self._kept = {"cores": 0.0, "memory": 0.0}
        for key, pool in pools.items():
            amounts = self._amounts.setdefault(pool.app, {"cores": 0.0, "memory": 0.0})
            for name in amounts:
                amounts[name] += self.beyond(key) * getattr(pool.need, name)
                self._kept[name] += pool.kept * getattr(pool.need, name)
            self.counts[pool.app] += self.placed[key]

    def beyond(self, key: Hashable) -> int:
        """Containers that it has beyond those that it was promised."""
        return max(0, self.placed[key] - self.pools[key].kept)

    def move(self, key: Hashable, count: int) -> None:
        """It has so many more."""
        pool, before = self.pools[key], self.beyond(key)
        self.placed[key] += count
        self.counts[pool.app] += count
        for name in self._amounts[pool.app]:
            self._amounts[pool.app][name] += (self.beyond(key) - before) * getattr(pool.need, name)

    def of_app(self, app: str, more: Need = NOTHING) -> float:
        """Its share, from 0 to 1, with ``more``."""
        return self._share(self._amounts[app], more)

    def of_pool(self, key: Hashable, more: int = 0) -> float:
        """Its share, with so many more."""
        need, count = self.pools[key].need, self.beyond(key) + more
        return self._share({"cores": need.cores * count, "memory": float(need.memory * count)}, NOTHING)

    def _share(self, amounts: Mapping[str, float], more: Need) -> float:
        cores, memory = self._capacity
        return max((amounts["cores"] + more.cores) / (cores or 1.0), (amounts["memory"] + more.memory) / (memory or 1))

    def bare(self, key: Hashable) -> bool:
        """Whether it asks for something of which its app has nothing."""
        pool = self.pools[key]
        return any(getattr(pool.need, name) and held < 1e-9 for name, held in self._amounts[pool.app].items())

    def hopeless(self, key: Hashable) -> bool:
        """Whether it asks for what has been promised to others."""
        pool = self.pools[key]
        return any(
            getattr(pool.need, name)
            > getattr(self._capacity, name) - kept + pool.kept * getattr(pool.need, name) + 1e-9
            for name, kept in self._kept.items()
            if getattr(pool.need, name)
        )


def in_turn(waiting: Sequence[Hashable], pools: Mapping[Hashable, Holding], capacity: Need) -> list[int]:
    """The places of those that wait, each named by its pool, in the order in which they should start.

    First an app that has nothing yet of what it asks for; then the one with the smallest share, and in it the function with the
    smallest; then whoever came first. Who asks for what was promised to others comes last, and keeps nobody waiting.
    """
    shares = _Shares(pools, capacity)
    places: dict[Hashable, list[int]] = {}
    for place in range(len(waiting) - 1, -1, -1):
        places.setdefault(waiting[place], []).append(place)

    def rank(key: Hashable) -> _Rank:
        there = shares.placed[key]
        return (shares.hopeless(key), there > 0, shares.of_pool(key), there, places[key][-1], key)

    functions: dict[str, list[_Rank]] = {}
    for key in places:
        functions.setdefault(pools[key].app, []).append(rank(key))
    for heap in functions.values():
        heapq.heapify(heap)

    def rank_of_app(app: str) -> tuple[bool, bool, float, int, int, str]:
        hopeless, *_, place, key = functions[app][0]
        return (hopeless, not shares.bare(key), shares.of_app(app), shares.counts[app], place, app)

    apps = [rank_of_app(app) for app in functions]
    heapq.heapify(apps)
    order: list[int] = []
    while apps:
        app = apps[0][-1]
        key = functions[app][0][-1]
        order.append(places[key].pop())
        shares.move(key, 1)
        if places[key]:
            heapq.heapreplace(functions[app], rank(key))
        else:
            heapq.heappop(functions[app])
        if functions[app]:
            heapq.heapreplace(apps, rank_of_app(app))
        else:
            heapq.heappop(apps)
    return order


def make_room(
    claims: Sequence[Claim],
    pools: Mapping[Hashable, Holding],
    idle: Sequence[Hashable],
    coming: Mapping[str, float],
    capacity: Need,
) -> Room:
    """Who goes, for containers that wait, in their turn.

    Args:
        claims: those that wait, in the order of :func:`in_turn`.
        pools: all of them.
        idle: the pools of idle containers, that which is idle longest first.
        coming: of each resource, what is free, and what those have that go already.
        capacity: what the machine has.
    """
    shares = _Shares(pools, capacity)
    left = dict(coming)
    spare = {key: pool.spare for key, pool in pools.items()}
    room = Room([], Counter(), math.inf)
    for claim in claims:
        asked = float(getattr(pools[claim.pool].need, claim.resource))
        lacking = asked - left[claim.resource]
        left[claim.resource] = max(0.0, -lacking)
        if lacking <= 1e-9:
            continue
        for place, key in enumerate(idle):
            has = getattr(pools[key].need, claim.resource)
            if lacking > 1e-9 and has and key != claim.pool and spare[key] > 0 and place not in room.idle:
                room.idle.append(place)
                spare[key] -= 1
                shares.move(key, -1)
                lacking -= has
        if lacking > 1e-9 and not shares.hopeless(claim.pool):
            given, wait = _give_way(claim, lacking, shares)
            room.owed.update(given)
            room = room._replace(look_again=min(room.look_again, wait))
            lacking -= sum(getattr(pools[key].need, claim.resource) * count for key, count in given.items())
        left[claim.resource] += max(0.0, -lacking)
    return room


def _give_way(claim: Claim, lacking: float, shares: _Shares) -> "tuple[Counter[Hashable], float]":
    """Whose containers go to make up for what is lacking: all of it or nothing; and when to look again."""
    given: Counter[Hashable] = Counter()
    wait = math.inf
    taker = shares.pools[claim.pool]
    bare = shares.bare(claim.pool)
    while lacking > 1e-9:
        able: list[tuple[float, bool, float, int, Hashable]] = []
        for number, (key, giver) in enumerate(shares.pools.items()):
            if key == claim.pool or not getattr(giver.need, claim.resource) or not shares.beyond(key):
                continue
            if not _owes(key, claim.pool, shares, bare):
                continue
            if shares.placed[key] == 1 and giver.turn_left > 0:
                wait = min(wait, giver.turn_left)
                continue
            same = giver.app == taker.app
            able.append((-shares.of_app(giver.app), not same, -shares.of_pool(key), number, key))
        if not able:
            for key, count in given.items():
                shares.move(key, count)
            return Counter(), wait
        key = min(able)[-1]
        shares.move(key, -1)
        given[key] += 1
        lacking -= getattr(shares.pools[key].need, claim.resource)
    shares.move(claim.pool, 1)
    return given, math.inf


def _owes(giver: Hashable, taker: Hashable, shares: _Shares, bare: bool) -> bool:
    """Whether one container of ``giver`` should rather be one of ``taker``."""
    gives, takes = shares.pools[giver], shares.pools[taker]
    if bare:
        return True  # its app has none of it: they take turns
    if gives.app != takes.app:
        less = Need(-gives.need.cores, -gives.need.memory)
        return shares.of_app(gives.app, less) >= shares.of_app(takes.app, takes.need) - 1e-9
    if not shares.beyond(taker) and not shares.placed[taker]:
        return True  # functions of one app take turns as well
    return shares.of_pool(giver, -1) >= shares.of_pool(taker, 1) - 1e-9
