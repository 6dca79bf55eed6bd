"""Lines in the server's log about connections that were refused or closed: a few of each source, the others counted.

Who connects again and again, or says the wrong thing again and again, must not fill the log or hide what else is in it.
"""

from collections.abc import Callable
from typing import Any

LINES = 10
"""Lines about one source in one period."""
PERIOD = 10.0
"""Seconds."""
MOST_SOURCES = 1000
"""Sources that are told apart in one period."""


class PeerLog:
    """Args:
    log: takes a line.
    later: calls a function after so many seconds.
    """

    def __init__(self, log: Callable[[str], None], later: Callable[[float, Callable[[], None]], Any]) -> None:
        self._log = log
        self._later = later
        self._said: dict[str, int] = {}

    def say(self, source: str, text: str) -> None:
        """Log ``text`` about ``source``, a container's id or ``a stranger``, unless there was too much about it."""
        if not self._said:
            self._later(PERIOD, self._period_over)
        if source not in self._said and len(self._said) >= MOST_SOURCES:
            source = "others"
        said = self._said[source] = self._said.get(source, 0) + 1
        if said <= LINES:
            self._log(text)

    def _period_over(self) -> None:
        said, self._said = self._said, {}
        for source, count in said.items():
            if count > LINES:
                self._log(f"{count - LINES} further lines about {source} were left out within {PERIOD:g} s")
