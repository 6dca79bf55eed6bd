"""Who fires when: a held clock, a disk that is a dict, and servers that come and go."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.model.schedule import Cron, Period
from greenroom.server.schedules import STEP, Schedules, latest, read_schedule
from greenroom.testing import HeldClock

HOUR, DAY = 3600.0, 86_400.0
SOON = 1.0
"""Seconds in which what is due at once has fired."""


def schedule(made):
    return read_schedule(made._asdict())


class World:
    """A clock and a disk that outlive servers, and all that has fired."""

    def __init__(self):
        self.clock = HeldClock()
        self.disk = {}
        self.fired = []
        self.crash = ""
        """Dies at the next firing, ``before`` or ``after`` that is remembered."""
        self.full = False
        self.server = None

    def start(self, **schedules):
        """A server; each of ``schedules`` with the moment that it counts from."""
        self.server = Schedules(self.clock, self.remember, self.fire)
        for name, (each, since) in schedules.items():
            self.server.put(name, each, since, self.disk.get(name))
        return self.server

    def remember(self, name, due, then):
        crash, self.crash = self.crash, ""
        if crash != "before" and not self.full:
            self.disk[name] = due
        if crash:
            self.server.close()
        else:
            then(not self.full)

    def fire(self, name, due):
        assert self.disk[name] == due, "remembered first"
        self.fired.append((name, due, self.clock.wall()))

    def dues(self, name="f"):
        return [due for each, due, _ in self.fired if each == name]


@pytest.fixture
def world():
    return World()


def test_a_year():
    world = World()
    world.clock.set_wall(begin := datetime(2026, 1, 31, 12, 0, tzinfo=UTC).timestamp())
    server = world.start(
        hourly=(schedule(Period(0, HOUR)), begin),
        monthly=(schedule(Period(1, 0)), begin),
        mornings=(schedule(Cron("0 9 * * 1-5", "Europe/Berlin")), begin),
    )
    world.clock.pass_time(365 * DAY + SOON)
    assert world.dues("hourly") == [begin + n * HOUR for n in range(1, 365 * 24 + 1)]
    days = [datetime.fromtimestamp(due, UTC) for due in world.dues("monthly")]
    assert [day.day for day in days] == [28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31]
    assert {day.hour for day in days} == {12}
    mornings = [datetime.fromtimestamp(due, ZoneInfo("Europe/Berlin")) for due in world.dues("mornings")]
    assert len(mornings) == 260
    assert {(day.hour, day.minute) for day in mornings} == {(9, 0)}
    assert max(late - due for _, due, late in world.fired) < 0.01
    assert server.next_of("hourly") == begin + (365 * 24 + 1) * HOUR
    assert datetime.fromtimestamp(server.next_of("monthly"), UTC) == datetime(2027, 2, 28, 12, tzinfo=UTC)


def test_what_was_missed_fires_once_and_moves_nothing(world):
    begin = world.clock.wall()
    world.start(f=(schedule(Period(0, HOUR)), begin))
    world.clock.pass_time(2.5 * HOUR)
    world.server.close()
    world.clock.pass_time(5 * HOUR)
    assert len(world.fired) == 2
    server = world.start(f=(schedule(Period(0, HOUR)), begin))
    assert len(world.fired) == 2, "not while it is being put"
    assert server.next_of("f") == begin + 3 * HOUR
    world.clock.pass_time(SOON)
    assert world.dues()[2:] == [begin + 7 * HOUR]
    world.clock.pass_time(HOUR)
    assert world.dues()[3:] == [begin + 8 * HOUR]


def test_a_sleep_is_noticed_and_a_clock_set_back_fires_nothing_again(world):
    begin = world.clock.wall()
    world.start(f=(schedule(Period(0, HOUR)), begin))
    world.clock.set_wall(begin + 8.5 * HOUR)
    world.clock.pass_time(STEP)
    assert world.dues() == [begin + 8 * HOUR]
    world.clock.set_wall(begin + 2.5 * HOUR)
    world.clock.pass_time(6 * HOUR)
    assert world.dues() == [begin + 8 * HOUR]
    world.clock.pass_time(HOUR)
    assert world.dues() == [begin + 8 * HOUR, begin + 9 * HOUR]


def test_a_full_disk_fires_nothing_until_there_is_room(world):
    begin = world.clock.wall()
    world.full = True
    world.start(f=(schedule(Period(0, HOUR)), begin))
    world.clock.pass_time(3.5 * HOUR)
    assert world.fired == []
    world.full = False
    world.clock.pass_time(STEP)
    assert world.dues() == [begin + 3 * HOUR]
    world.clock.pass_time(HOUR)
    assert world.dues() == [begin + 3 * HOUR, begin + 4 * HOUR]


def test_a_full_disk_and_a_clock_set_back(world):
    begin = world.clock.wall()
    world.full = True
    world.start(f=(schedule(Period(0, HOUR)), begin))
    world.clock.pass_time(HOUR + SOON)
    world.clock.set_wall(begin)
    world.full = False
    world.clock.pass_time(HOUR - SOON)
    assert world.fired == []
    world.clock.pass_time(2 * SOON)
    assert world.dues() == [begin + HOUR]


def test_a_new_version_begins_anew_and_the_old_one_says_nothing_more(world):
    begin = world.clock.wall()
    server = world.start(f=(schedule(Period(0, HOUR)), begin))
    world.clock.pass_time(0.5 * HOUR)
    server.put("f", schedule(Period(0, HOUR)), world.clock.wall())
    world.clock.pass_time(0.9 * HOUR)
    assert world.fired == []
    world.clock.pass_time(0.2 * HOUR)
    assert world.dues() == [begin + 1.5 * HOUR]
    server.remove("f")
    server.remove("f")
    assert server.next_of("f") is None
    world.clock.pass_time(DAY)
    assert len(world.fired) == 1


@pytest.mark.parametrize("what", ["remove", "put", "close"])
def test_what_goes_while_it_is_being_remembered_does_not_fire(what):
    clock, asked, fired = HeldClock(), [], []
    server = Schedules(clock, lambda *asking: asked.append(asking), lambda *firing: fired.append(firing))
    hourly = schedule(Period(0, HOUR))
    server.put("f", hourly, clock.wall())
    for number in range(3):  # each looks at all of them
        server.put(f"g{number}", schedule(Period(0, HOUR + 1 + number)), clock.wall())
    clock.pass_time(3.5 * HOUR)
    assert sorted(name for name, _, _ in asked) == ["f", "g0", "g1", "g2"]  # once each, though another two have passed
    name, _, then = asked[0]
    {"remove": lambda: server.remove("f"), "close": server.close,
     "put": lambda: server.put("f", hourly, clock.wall())}[what]()  # fmt: skip
    then(True)
    assert (name, fired) == ("f", [])


def test_what_takes_longer_to_remember_than_its_period_fires_for_the_latest():
    clock, asked, fired = HeldClock(), [], []
    begin = clock.wall()
    server = Schedules(clock, lambda *asking: asked.append(asking), lambda *firing: fired.append(firing))
    server.put("f", schedule(Period(0, 1.0)), begin)
    clock.pass_time(4.5)
    asked.pop()[2](True)
    clock.pass_time(0.1)
    assert [(name, due) for name, due, _ in asked] == [("f", begin + 4)]
    assert fired == [("f", begin + 1)]


def test_a_firing_that_raises_holds_up_no_other(world):
    begin, fired = world.clock.wall(), []

    def fire(name, due):
        fired.append((name, due))
        raise RuntimeError(name)

    server = Schedules(world.clock, world.remember, fire)
    for name in "fgh":
        server.put(name, schedule(Period(0, HOUR)), begin)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            world.clock.pass_time(HOUR + SOON)
    world.clock.pass_time(HOUR / 2)
    assert sorted(fired) == [(name, begin + HOUR) for name in "fgh"]


def test_a_thousand_at_once_keep_their_order_of_time(world):
    begin = world.clock.wall()
    world.start(**{f"f{n}": (schedule(Period(0, 60.0 + n)), begin) for n in range(1000)})
    world.clock.pass_time(1060)
    assert [due for _, due, _ in world.fired] == sorted(due for _, due, _ in world.fired)
    assert {name for name, _, _ in world.fired} == {f"f{n}" for n in range(1000)}


def test_never(world):
    server = world.start(f=(schedule(Cron("0 0 1 1 *", "UTC")), 1e20))
    assert server.next_of("f") is None
    world.clock.pass_time(DAY)
    assert world.fired == []


def all_dues(each, since, until):
    due = since
    while (due := each.next_after(since, due)) <= until:
        yield due


SCHEDULES = [Period(0, 7.0), Period(0, 100.0), Period(0, HOUR), Period(1, 0), Cron("*/7 * * * *", "Europe/Berlin"),
             Cron("30 2 * * *", "America/New_York")]  # fmt: skip


@given(
    st.sampled_from(SCHEDULES),
    st.lists(
        st.tuples(st.integers(0, 5000), st.integers(1, 5000), st.sampled_from(["", "before", "after"])), max_size=12
    ),
)
def test_whenever_servers_die_each_time_fires_at_most_once_and_what_was_missed_exactly_once(made, lives):
    """Each life: seconds down, seconds up, and whether it dies at its first firing."""
    world, each = World(), schedule(made)
    begin = world.clock.wall()
    world.clock.pass_time(0.5)  # so that nothing falls due in the moment of a start or an end
    dues = list(all_dues(each, begin, begin + sum(down + up for down, up, _ in lives) + 1))
    fired, last = [], begin
    for down, up, crash in lives:
        world.clock.pass_time(down)
        start = world.clock.wall()
        world.crash = crash
        world.start(f=(each, begin))
        world.clock.pass_time(up)
        world.server.close()
        missed = [due for due in dues if last < due <= start]
        expected = [*missed[-1:], *(due for due in dues if start < due <= start + up)]
        if crash and expected:
            last = expected[0] if crash == "after" else last
        elif expected:
            fired += expected
            last = expected[-1]
        assert world.dues() == fired


@given(st.sampled_from(SCHEDULES), st.integers(0, 10**9), st.integers(0, 10**6))
def test_the_latest_of_those_that_have_passed(made, since, length):
    each = schedule(made)
    now = since + min(length, 3000 * (made.seconds if isinstance(made, Period) and not made.months else 400))
    dues = list(all_dues(each, since, now))
    if dues:
        assert latest(each, since, dues[0], now) == dues[-1]
