"""Apps: what a client defines, and who follows what happens to it."""

from typing import TYPE_CHECKING, Any

from greenroom.server.call import Receiver
from greenroom.server.clock import Timer
from greenroom.wire.messages import Notice
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.server.http.request_log import RequestLog
    from greenroom.server.pools import Function


class App:
    """One running app."""

    def __init__(self, app_id: str, name: str, replaces: str = "", created_at: float = 0.0) -> None:
        self.id = app_id
        self.first_id = app_id
        """What its program called it: an earlier version that is deployed again has another id."""
        self.name = name
        self.created_at = created_at
        """Seconds since 1970."""
        self.deployed = False
        """It stays without its program."""
        self.detached = False
        """It goes on when its program has ended: see ``detached.py``."""
        self.kept = False
        """It is detached, and in the store: the next server has it."""
        self.version = 0
        """Of a deployed app, once it is kept."""
        self.replaced = False
        """Another version has taken its place: what it can't finish in time runs there."""
        self.strategy = "rolling"
        """How it takes the place of the version before; see ``deployments.STRATEGIES``."""
        self.held = False
        """It starts no containers yet."""
        self.replaces = replaces
        """Id of the version that serves until this one can (see ``replacing.py``); ``""``: it serves at once."""
        self.functions: dict[str, Function] = {}
        self.follower: Receiver | None = None
        self.stopping: list[tuple[Receiver, int]] | None = None
        """Once it is being stopped: who asked, and the number of the request."""
        self.drained: Timer | None = None
        """When what it runs may go on no longer."""
        self.said: set[str] = set()
        self.requests: RequestLog | None = None
        """Where those from the web are noted; None: nowhere."""

    @property
    def outlives_program(self) -> bool:
        """Whether it goes on without its program, deployed or not: what it prints is kept, and so are its spawned calls."""
        return bool(self.version) or self.detached

    def tell(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Send an event to the client that follows this app."""
        if self.follower is not None:
            self.follower.send(message, payloads)

    def say_once(self, text: str) -> None:
        """One line for the client, if it hasn't had it."""
        if text not in self.said:
            self.said.add(text)
            self.tell(Notice(text))
