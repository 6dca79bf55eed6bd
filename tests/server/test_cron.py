"""When cron expressions come, and what clocks that change do to them."""

from datetime import datetime
from math import inf
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.model.errors import InvalidError
from greenroom.model.schedule import Cron
from greenroom.server.cron import CronTimes


def times(expression, zone, begin, count):
    """The first times after ``begin``, as the clocks there show them, with what they are ahead of UTC."""
    cron, after = CronTimes(Cron(expression, zone)), datetime.fromisoformat(begin).timestamp()
    for _ in range(count):
        after = cron.next_after(0, after)
        yield datetime.fromtimestamp(after, ZoneInfo(zone)).strftime("%m-%d %H:%M%z").removesuffix("00")


@pytest.mark.parametrize(
    ("expression", "zone", "begin", "expected"),
    [
        # an ordinary week
        ("0 9 * * 1-5", "Europe/Berlin", "2026-01-09T09:00+01:00", ["01-12 09:00+01", "01-13 09:00+01"]),
        ("0 9 * * MON-FRI", "UTC", "2026-01-09T08:59:59.9+00:00", ["01-09 09:00+00", "01-12 09:00+00"]),
        ("0 6 * * *", "America/New_York", "2026-07-01T00:00+00:00", ["07-01 06:00-04", "07-02 06:00-04"]),
        # 29 March 2026, 2:00 becomes 3:00
        ("0 9 * * *", "Europe/Berlin", "2026-03-28T00:00+01:00", ["03-28 09:00+01", "03-29 09:00+02"]),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00+01:00",
         ["03-28 02:30+01", "03-29 03:00+02", "03-30 02:30+02"]),
        ("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00",
         ["03-29 03:00+02", "03-29 03:30+02", "03-30 02:00+02"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:15+01:00",
         ["03-29 01:30+01", "03-29 03:00+02", "03-29 03:30+02"]),
        # 25 October 2026, 3:00 becomes 2:00
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00", ["10-25 02:30+02", "10-26 02:30+01"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T02:10+01:00", ["10-26 02:30+01"]),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T01:45+02:00",
         ["10-25 02:30+02", "10-25 02:30+01", "10-25 03:30+01"]),
        ("0 12 29 2 *", "UTC", "2026-01-01T00:00+00:00", ["02-29 12:00+00"]),
    ],
)  # fmt: skip
def test_times(expression, zone, begin, expected):
    assert list(times(expression, zone, begin, len(expected))) == expected


EXPRESSIONS = [
    "30 2 * * *",
    "*/15 * * * *",
    "0 9 * * 1-5",
    "15,45 1-3 * * *",
    "*/10 0 * * *",
    "30 */2 * * *",
    "0 0 30 * *",
]
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/Havana",
    "America/St_Johns",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Antarctica/Troll",
]
"""Not Lord Howe, whose clocks change by half an hour: there the parser leaves out some of what runs every few minutes."""


@given(
    st.sampled_from(EXPRESSIONS),
    st.sampled_from(ZONES),
    st.integers(1_770_000_000, 1_860_000_000).map(float),
    st.floats(0, 6 * 3600),
)
def test_it_rises_and_is_always_later(expression, zone, one, more):
    cron = CronTimes(Cron(expression, zone))
    due = cron.next_after(0, one)
    assert one < due <= cron.next_after(0, one + more)
    assert one + more < cron.next_after(0, one + more)
    assert cron.next_after(0, one + (due - one) / 2) == due
    assert cron.next_after(0, due) > due


def test_what_never_comes_again():
    assert CronTimes(Cron("0 0 1 1 *", "UTC")).next_after(0, 253_402_300_799 - 3600) == inf
    assert CronTimes(Cron("0 0 1 1 *", "UTC")).next_after(0, 1e20) == inf


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("", "UTC"), ("61 * * * *", "UTC"), ("* * * * 1L/2", "UTC"), ("@daily", "UTC"), ("* * * * *", "Mars/Olympus"),
        ("* * * * *", ""), ("* * * * *", "../etc/passwd"), ("* * * * *", "Europe"), ("* * * * *", "\0"),
    ],
)  # fmt: skip
def test_refused(expression, zone):
    with pytest.raises(InvalidError, match="cron expression|time zone"):
        CronTimes(Cron(expression, zone))
