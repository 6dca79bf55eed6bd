"""Schedules: functions that run by themselves, each at its times.

- A due time fires **at most once**. That it is about to fire is remembered, on disk, before it fires; a server that dies between
  the two never fires it again. Where to remember fails (a full disk), it doesn't fire, and is tried again later.
- What was missed while no server ran, the machine slept or its clock was set ahead fires **once**, as soon as that is noticed:
  the latest of the times that have passed.
- Each time is computed from the schedule, never from when something ran: neither a slow firing nor a restart moves the next.
- When the clock is set back, nothing fires again: the next time is always later than the last one that fired.
"""

from bisect import bisect_left
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from greenroom.model import schedule as model
from greenroom.server.clock import Clock, Timer

STEP = 60.0
"""Seconds after which the clock is looked at in any case: it may have been set, or the machine have slept."""
LEAST = 0.001
"""Seconds that a wait lasts at least, so that a timer that came a little early is no busy loop."""


class Schedule(Protocol):
    """Times without end."""

    def next_after(self, since: float, after: float) -> float:
        """The first time later than ``after`` of what counts from ``since``; infinite: there is none. It rises with ``after``."""


def read_schedule(data: dict[str, Any]) -> Schedule:
    """A ``FunctionSpec``'s schedule. May read files: not to be called on the server's loop.

    Raises:
        InvalidError: it is none, or of a time zone that this machine doesn't know.
    """
    read = model.read(data)
    if isinstance(read, model.Period):
        return read
    from greenroom.server.cron import CronTimes  # a server without a Cron loads no parser

    return CronTimes(read)


def latest(schedule: Schedule, since: float, first: float, now: float) -> float:
    """Of its times from ``first`` to ``now`` the last; they are a second apart at least."""
    if schedule.next_after(since, first) > now:
        return first
    # The last whole second after which there is one that has passed.
    seconds = range(int(first), int(now) + 1)
    before = bisect_left(seconds, True, key=lambda second: schedule.next_after(since, second) > now)
    return schedule.next_after(since, seconds[before - 1])


class _Entry:
    def __init__(self, schedule: Schedule, since: float, next_: float) -> None:
        self.schedule = schedule
        self.since = since
        self.next = next_
        self.firing = False
        """It is being remembered that it fires."""


class Schedules:
    """Those of one server. On its loop alone.

    Args:
        remember: keep it, on disk, that a function fires for this due time; then call, on the loop, with whether that went
            well. What keeps a durable call in the same transaction loses no firing to a crash between the two.
        fire: the function runs now. Not called for what was removed or put anew in the meantime.
    """

    def __init__(
        self,
        clock: Clock,
        remember: Callable[[str, float, Callable[[bool], None]], None],
        fire: Callable[[str, float], None],
    ) -> None:
        self._clock = clock
        self._remember = remember
        self._fire = fire
        self._entries: dict[str, _Entry] = {}
        self._timer: Timer | None = None
        self._wake = inf
        """What the timer waits for, perhaps in steps."""

    def put(self, function_id: str, schedule: Schedule, since: float, last: float | None = None) -> None:
        """Fire a function by a schedule, in the place of any that it had; not before this returns.

        Args:
            since: when the schedule began: its deployment.
            last: the due time that was remembered last; None: it has never fired.
        """
        after = since if last is None else max(since, last)
        entry = self._entries[function_id] = _Entry(schedule, since, schedule.next_after(since, after))
        self._wait_for(entry.next)

    def remove(self, function_id: str) -> None:
        """It fires no more; it may have no schedule."""
        self._entries.pop(function_id, None)

    def next_of(self, function_id: str) -> float | None:
        """When it fires next; None: it has no schedule, or one that never comes again. What is past fires at once."""
        entry = self._entries.get(function_id)
        return entry.next if entry is not None and entry.next < inf else None

    def close(self) -> None:
        """Nothing fires any more."""
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _wait_for(self, when: float) -> None:
        if when == inf or (self._timer is not None and when >= self._wake):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wake = when
        self._timer = self._clock.call_later(min(STEP, max(LEAST, when - self._clock.wall())), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.wall()
        try:
            for function_id, entry in list(self._entries.items()):
                if not entry.firing and entry.next <= now:
                    self._begin(function_id, entry)
        finally:
            self._wait_for(min((e.next for e in self._entries.values() if not e.firing), default=inf))

    def _begin(self, function_id: str, entry: _Entry) -> None:
        now = self._clock.wall()
        if self._entries.get(function_id) is not entry:
            return
        entry.firing = entry.next <= now
        if not entry.firing:
            self._wait_for(entry.next)
            return
        due = latest(entry.schedule, entry.since, entry.next, now)
        self._remember(function_id, due, lambda kept: self._remembered(function_id, entry, due, kept))

    def _remembered(self, function_id: str, entry: _Entry, due: float, kept: bool) -> None:
        if self._entries.get(function_id) is not entry:
            return
        if not kept:
            self._clock.call_later(STEP, lambda: self._begin(function_id, entry))
            return
        entry.firing = False
        entry.next = entry.schedule.next_after(entry.since, due)
        self._wait_for(entry.next)
        self._fire(function_id, due)
