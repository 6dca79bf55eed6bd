"""When periods come, and what a schedule's data may be."""

from datetime import UTC, datetime
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.model.errors import InvalidError
from greenroom.model.schedule import LONGEST, Cron, Period, goes_on, read

HOUR, DAY = 3600.0, 86_400.0


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def first(period, since, count):
    found, after = [], at(since)
    for _ in range(count):
        after = period.next_after(at(since), after)
        found.append(datetime.fromtimestamp(after, UTC).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("period", "since", "times"),
    [
        (Period(0, HOUR), "2026-01-01 10:30", ["2026-01-01 11:30", "2026-01-01 12:30"]),
        (Period(0, 7 * DAY), "2026-12-30 10:00", ["2027-01-06 10:00", "2027-01-13 10:00"]),
        (Period(1, 0), "2026-01-31 08:00",
         ["2026-02-28 08:00", "2026-03-31 08:00", "2026-04-30 08:00", "2026-05-31 08:00"]),
        (Period(1, 0), "2024-01-30 00:00", ["2024-02-29 00:00", "2024-03-30 00:00"]),
        (Period(12, 0), "2024-02-29 23:59",
         ["2025-02-28 23:59", "2026-02-28 23:59", "2027-02-28 23:59", "2028-02-29 23:59"]),
        (Period(14, DAY), "2026-11-30 12:00", ["2028-01-31 12:00", "2029-04-01 12:00"]),
        (Period(1200, 0), "2096-02-29 00:00", ["2196-02-29 00:00", "2296-02-29 00:00"]),
    ],
)  # fmt: skip
def test_times(period, since, times):
    assert first(period, since, len(times)) == times


def test_ten_thousand_hours_later_it_comes_to_the_second():
    since, period = at("2026-01-01 00:00") + 0.1, Period(0, 0.1 + HOUR)
    after = since
    for number in range(1, 10_001):
        after = period.next_after(since, after)
        assert after == since + number * (0.1 + HOUR)


def test_calendars_end():
    assert Period(12_000, 0).next_after(at("2026-01-01 00:00"), at("9500-01-01 00:00")) == inf


periods = st.builds(
    Period,
    st.integers(0, 30) | st.just(0),
    st.floats(1, 40 * DAY) | st.integers(1, 10**6).map(float),
)
moments = st.floats(0, 4e9)


@given(periods, moments, moments)
def test_the_next_is_later_and_none_is_left_out(period, since, after):
    due = period.next_after(since, after)
    assert due > after
    assert due > since
    between = max(since, after) + (due - max(since, after)) / 2
    assert period.next_after(since, between) in (due, period.next_after(since, due))  # half of a float's last bit
    number = max(1, int((after - since) / (due - since))) if after > since else 1
    assert all(period.due(since, n) <= after for n in range(1, number) if period.due(since, n) < due)


@given(periods, moments, moments, moments)
def test_it_rises(period, since, one, other):
    one, other = sorted((one, other))
    assert period.next_after(since, one) <= period.next_after(since, other)


@given(periods, moments)
def test_nothing_adds_up(period, since):
    after = since
    for number in range(1, 50):
        after = period.next_after(since, after)
        assert after == period.due(since, number)


@pytest.mark.parametrize("schedule", [Period(1, 2.5), Period(0, 1.0), Cron("0 9 * * 1-5", "Europe/Berlin")])
def test_there_and_back(schedule):
    assert read(schedule._asdict()) == schedule


@pytest.mark.parametrize(
    "data",
    [
        {}, None, [], "x", {"months": 1}, {"seconds": 1}, {"months": 0, "seconds": 0}, {"months": 0, "seconds": 0.9},
        {"months": -1, "seconds": 5}, {"months": 1, "seconds": -5}, {"months": 0, "seconds": nan},
        {"months": 0, "seconds": inf}, {"months": 1, "seconds": nan}, {"months": 0, "seconds": LONGEST + 1},
        {"months": 10**9, "seconds": 0}, {"months": 1.5, "seconds": 0}, {"months": 1, "seconds": 0, "x": 1},
        {"cron": "* * * * *"}, {"cron": 1, "timezone": "UTC"}, {"cron": "* * * * *", "timezone": "UTC", "x": 1},
    ],
)  # fmt: skip
def test_what_is_no_schedule(data):
    with pytest.raises(InvalidError, match="no schedule"):
        read(data)


def test_a_new_version():
    daily, hourly = Period(0, DAY)._asdict(), Cron("0 * * * *", "UTC")._asdict()
    assert goes_on(hourly, dict(hourly))
    assert not goes_on(hourly, Cron("0 * * * *", "Europe/Berlin")._asdict())
    assert not goes_on(daily, dict(daily)), "a period counts from its deployment"
    assert not goes_on(daily, hourly)
    assert not goes_on({}, {})
