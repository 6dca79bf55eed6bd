"""Apps: what a client defines, and who follows what happens to it."""

from typing import TYPE_CHECKING, Any

from greenroom.server.calls import Receiver
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.server.pools import Function


class App:
    """One running app."""

    def __init__(self, app_id: str, name: str) -> None:
        self.id = app_id
        self.name = name
        self.functions: dict[str, Function] = {}
        self.follower: Receiver | None = None
        self.stopping: list[tuple[Receiver, int]] | None = None
        """Once it is being stopped: who asked, and the number of the request."""
        self.said: set[str] = set()

    def tell(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Send an event to the client that follows this app."""
        if self.follower is not None:
            self.follower.send(message, payloads)
