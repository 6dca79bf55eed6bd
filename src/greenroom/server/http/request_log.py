"""A line about each request, for whoever works on what answers them; where they are many, some, and the number of the others."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from greenroom.server.http.exchange import Event, Send

LONGEST = 200
"""Characters of a path that are shown."""


class RequestLog:
    """Of one app.

    Args:
        lines: shown in one second at the most.
        say: shows one.
        later: calls a function after so many seconds.
    """

    def __init__(
        self, lines: int, say: Callable[[str], None], later: Callable[[float, Callable[[], None]], Any]
    ) -> None:
        self._lines = lines
        self._say = say
        self._later = later
        self._count = 0
        """In this second."""

    @contextlib.contextmanager
    def watch(self, scope: Event, send: Send) -> Iterator[Send]:
        """While entered, a request is answered by the ``send`` that this gives; then it is shown."""
        started, outcome = time.monotonic(), "gone"

        async def noted(event: Event) -> None:
            nonlocal outcome
            if event["type"] in ("http.response.start", "websocket.http.response.start"):
                outcome = str(event["status"])
            elif event["type"] == "websocket.accept":
                outcome = "101"
            elif event["type"] == "websocket.close":
                outcome = f"closed with {event['code']}"
            await send(event)

        try:
            yield noted
        finally:
            path = scope["raw_path"].decode("latin-1")[:LONGEST]
            title = f"{scope.get('method', 'WebSocket')} {''.join(c if c.isprintable() else '?' for c in path)}"
            self._note(f"{title} {outcome} in {(time.monotonic() - started) * 1000:.0f} ms")

    def _note(self, line: str) -> None:
        if not self._count:
            self._later(1.0, self._second_over)
        self._count += 1
        if self._count <= self._lines:
            self._say(line)

    def _second_over(self) -> None:
        left_out, self._count = self._count - self._lines, 0
        if left_out > 0:
            self._say(f"… and {left_out:,} more requests in this second")
