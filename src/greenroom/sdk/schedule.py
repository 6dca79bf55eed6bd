"""Schedules: when a deployed function runs by itself."""

from greenroom.model import schedule as model
from greenroom.model.errors import InvalidError
from greenroom.usercode.context import is_local

_SECONDS = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
_MONTHS = {"years": 12, "months": 1}


class Schedule:
    """What ``@app.function(schedule=…)`` takes: a :class:`Period` or a :class:`Cron`."""

    def __init__(self, spec: model.Period | model.Cron, text: str) -> None:
        self.spec = spec
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Period(Schedule):
    """Again and again, a fixed time apart, counted from the deployment.

    Years and months are those of the calendar, in UTC: a month after 31 January is the last of February, and the next one
    31 March.

    Raises:
        InvalidError: a number is negative or not whole (``seconds`` needn't be), or all of it is less than a second.
    """

    def __init__(
        self,
        *,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: float = 0,
    ) -> None:
        given = {"years": years, "months": months, "weeks": weeks, "days": days,
                 "hours": hours, "minutes": minutes, "seconds": seconds}  # fmt: skip
        for name, value in given.items():
            kind = (int, float) if name == "seconds" else int
            if not isinstance(value, kind) or isinstance(value, bool) or not value >= 0:
                number = "a number" if name == "seconds" else "a whole number"
                raise InvalidError(f"Period({name}={value!r:.40}) must be {number}, and not negative")
        text = f"Period({', '.join(f'{name}={value!r:.40}' for name, value in given.items() if value)})"
        whole = sum(int(given[name]) * count for name, count in _MONTHS.items())
        if max(given.values()) > model.LONGEST or whole * model.MONTH > model.LONGEST:
            raise InvalidError(f"{text} is longer than a thousand years")
        rest = sum(given[name] * count for name, count in _SECONDS.items())
        if rest > model.LONGEST:
            raise InvalidError(f"{text} is longer than a thousand years")
        if not whole and rest < model.SHORTEST:
            raise InvalidError(f"{text} must be at least one second; what is to run without end is a loop")
        super().__init__(model.Period(whole, float(rest)), text)


class Cron(Schedule):
    """Whenever the clocks show it, however often the app is deployed anew.

    Args:
        cron_string: minute, hour, day of the month, month and day of the week, as for cron: ``"0 9 * * 1-5"``.
        timezone: whose clocks, by its IANA name: ``"Europe/Berlin"``.

    Raises:
        InvalidError: no such expression, or no such time zone.
    """

    def __init__(self, cron_string: str, timezone: str = "UTC") -> None:
        text = f"Cron({cron_string!r:.80}{f', timezone={timezone!r:.80}' if timezone != 'UTC' else ''})"
        for name, value in (("cron_string", cron_string), ("timezone", timezone)):
            if not isinstance(value, str):
                raise InvalidError(f"{text}: {name} must be a str")
        if is_local():  # a container's Python may have no parser; and was it not checked here?
            _check(text, cron_string, timezone)
        super().__init__(model.Cron(cron_string, timezone), text)


def _check(text: str, cron_string: str, timezone: str) -> None:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from cronsim import CronSim, CronSimError

    if timezone != "UTC":
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            raise InvalidError(f'{text}: no such time zone; it has a name such as "Europe/Berlin"') from None
    if len(cron_string.split()) != 5:
        raise InvalidError(
            f"{text}: an expression has five fields (minute, hour, day of the month, month, day of the week), as in "
            '"0 9 * * 1-5"'
        )
    try:
        found = next(CronSim(cron_string, datetime.now()), None)
    except (CronSimError, ValueError) as error:
        why = f": {str(error)[:1].lower()}{str(error)[1:]}" if isinstance(error, CronSimError) else ""
        raise InvalidError(f"{text} is no cron expression{why}") from None
    if found is None:
        raise InvalidError(f"{text} never comes")
