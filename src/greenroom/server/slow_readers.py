"""Clients that don't read what their containers print.

Neither may that fill this server's memory, nor may it hold up anybody else's containers: the worker is told to leave that
output in its files, and to go on once the client has read.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from greenroom.server.peers import ClientPeer
from greenroom.wire.output_messages import HoldOutput

if TYPE_CHECKING:
    from greenroom.server.apps import App

BACKLOG_LIMIT = 8 * 1024**2
"""Bytes of output that a client may leave unread before what its containers print waits in files."""
LOOK = 0.02
"""Seconds between two looks whether it has read."""


class SlowReaders:
    """Of one worker: whose output it holds back, and for whom."""

    def __init__(
        self, tell: Callable[[HoldOutput], None], later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        """``tell``: the worker. ``later``: calls something after so many seconds."""
        self._tell = tell
        self._later = later
        self._held: dict[ClientPeer, dict[str, None]] = {}

    def mind(self, app: "App", sources: Callable[[], Iterable[str]]) -> None:
        """An app's client was sent output. ``sources``: what may print more of it, containers and images that are built."""
        follower = app.follower
        if isinstance(follower, ClientPeer) and (follower in self._held or follower.backlog > BACKLOG_LIMIT):
            self._hold(follower, sources())

    def began(self, app: "App", container_id: str) -> None:
        """A container of that app is about to start."""
        if isinstance(app.follower, ClientPeer) and app.follower in self._held:
            self._hold(app.follower, [container_id])

    def holds(self, container_id: str) -> bool:
        """Whether output of that container waits in its file."""
        return any(container_id in held for held in self._held.values())

    def _hold(self, follower: ClientPeer, sources: Iterable[str]) -> None:
        if follower not in self._held:
            self._held[follower] = {}
            self._look_soon(follower)
        held = self._held[follower]
        for source_id in sources:
            if source_id not in held:
                held[source_id] = None
                self._tell(HoldOutput(source_id, True))

    def _look_soon(self, follower: ClientPeer) -> None:
        self._later(LOOK, lambda: self._look(follower))

    def _look(self, follower: ClientPeer) -> None:
        if follower.backlog >= BACKLOG_LIMIT // 8:  # one that has gone has none
            self._look_soon(follower)
            return
        for source_id in self._held.pop(follower):
            if not any(source_id in held for held in self._held.values()):  # several may wait for one build
                self._tell(HoldOutput(source_id, False))
