"""When a function runs by itself: a schedule as it travels in a ``FunctionSpec``, and the times of a period.

Times are seconds since 1970. The n-th firing of a period is computed from the moment that it counts from, never from the
firing before: so nothing adds up, and a month that begins on the 31st comes back to the 31st after a February. When a cron
expression comes is for the server to say, which has a parser.
"""

from math import inf
from typing import Any, NamedTuple

from greenroom.model.errors import InvalidError

SHORTEST = 1.0
"""Seconds: what comes more often is a loop, and belongs inside a function."""
LONGEST = 1000 * 31_556_952
"""Seconds: a thousand years."""
MONTH = 31_556_952 / 12
"""Seconds, on average."""
_DAY = 86_400
_EPOCH = 719_163
"""1 January 1970, as ``date.toordinal`` counts days."""


class Period(NamedTuple):
    """Every so many calendar months (UTC) and seconds, counted from some moment."""

    months: int
    seconds: float

    def due(self, since: float, number: int) -> float:
        """When it comes for the ``number``-th time; infinite: calendars end before."""
        if not self.months:
            return since + number * self.seconds
        from calendar import monthrange  # a container names schedules and has no use for calendars
        from datetime import date

        days, rest = divmod(since, _DAY)
        begin = date.fromordinal(_EPOCH + int(days))
        year, month = divmod(begin.year * 12 + begin.month - 1 + number * self.months, 12)
        if year > date.max.year:
            return inf
        day = min(begin.day, monthrange(year, month + 1)[1])
        return (date(year, month + 1, day).toordinal() - _EPOCH) * _DAY + rest + number * self.seconds

    def next_after(self, since: float, after: float) -> float:
        """The first time that it comes later than ``after``, counted from ``since``."""
        number = max(1, int((after - since) / (self.months * MONTH + self.seconds)))
        while number > 1 and self.due(since, number - 1) > after:
            number -= 1
        while self.due(since, number) <= after:
            number += 1
        return self.due(since, number)


class Cron(NamedTuple):
    """Whenever the clocks of a time zone show what an expression of five fields asks for."""

    cron: str
    timezone: str


def read(data: Any) -> Period | Cron:
    """What travels, ``_asdict()`` of one of the two; raises :class:`InvalidError` where it is something else."""
    match data:
        case {"months": int(months), "seconds": int() | float() as seconds, **rest} if not rest:
            short = months < 1 and not seconds >= SHORTEST
            if not short and months >= 0 <= seconds and months * MONTH <= LONGEST and seconds <= LONGEST:
                return Period(months, float(seconds))
        case {"cron": str(cron), "timezone": str(timezone), **rest} if not rest:
            return Cron(cron, timezone)
    raise InvalidError(f"no schedule: {data!r:.100}")


def goes_on(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether a new version's schedule goes on where the old one's was; else it begins with the new version.

    A period begins anew with every deployment, as Modal's does.
    """
    return before == after and "cron" in after
