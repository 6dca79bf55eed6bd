"""When cron expressions come, by the clocks of a time zone.

As Debian's cron does when clocks change: a job at a fixed time within the hour that is left out runs right after it, one in
the hour that comes twice runs once, the first time; what runs every so many minutes or every hour keeps real time.
"""

from datetime import UTC, datetime, tzinfo
from math import inf
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from greenroom.model.errors import InvalidError
from greenroom.model.schedule import Cron


class CronTimes:
    """The times of one expression. To make one may read the time zone's file, which is no work for the server's loop.

    Raises:
        InvalidError: no such expression, or no such time zone on this machine.
    """

    def __init__(self, cron: Cron) -> None:
        self._expression = cron.cron
        try:
            self._zone: tzinfo = UTC if cron.timezone == "UTC" else ZoneInfo(cron.timezone)
        except (KeyError, ValueError, OSError):
            raise InvalidError(f"this server knows no time zone {cron.timezone!r:.80}") from None
        try:
            CronSim(cron.cron, datetime.now(UTC))
        except (CronSimError, ValueError):
            raise InvalidError(f"no cron expression: {cron.cron!r:.80}") from None

    def next_after(self, since: float, after: float) -> float:
        """The first time later than ``after``; infinite: there is none within fifty years. It counts from nothing."""
        try:
            # In the hour that comes twice, the parser may begin with its first run, which is past.
            times = CronSim(self._expression, datetime.fromtimestamp(after, self._zone))
            return next((time for found in times if (time := found.timestamp()) > after), inf)
        except (ValueError, OverflowError, OSError):
            return inf  # beyond the year 9999
