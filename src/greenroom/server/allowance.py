"""What one container may make this server do or hold: its user's code has its token, and may say what it likes.

Far more than a program needs, and far less than would harm the others. Whoever wants more is told the limit; nothing
that it has already is taken from it.
"""

from typing import TYPE_CHECKING, Protocol

from greenroom.wire.payload import Descriptor, Payload

if TYPE_CHECKING:
    from greenroom.server.call import Call, Input

MOST_CONNECTIONS = 512
"""Connections of one container, beside its agent's two. A thread that calls has one, and a ``.map()`` of its own."""
MOST_STRANGERS = 1024
"""Connections, of whomever, that have not said who they are; the oldest goes when there is another."""
MOST_BINDINGS = 10_000
"""Parameter sets that were new when a container named them; each has a pool until the app's end."""
MOST_CALLS = 20_000
"""Calls of one container in flight, without those that were spawned."""
MOST_SPAWNED = 100_000
"""Calls that one container has spawned and that are not over."""
MOST_COLLECTORS = 1000
"""Requests of one connection for the outputs of one spawned call, before the first is answered."""
MOST_BYTES = 1024**3
"""Bytes that wait in this server's memory for one container: arguments, and what its spawned calls have returned."""
MOST_FILES = 2048
"""Of the same, those in a file of their own: each is an open descriptor of this server's."""
MOST_ARRIVING = 1024**3
"""Bytes of frames that one container has begun to send, on all its connections, and not ended."""
MOST_UNREAD = 2 * 1024**3
"""Bytes sent to one container, on all its connections, that it hasn't read."""
MOST_CALL_ID = 100
"""Characters that the id of a call may have."""
COST = 512
"""Bytes that a call or an input costs beside what it carries."""


class Unread(Protocol):
    """A connection of a container's."""

    @property
    def backlog(self) -> int:
        """Bytes sent on it that were not read."""


class Allowance:
    """What one container has of this server."""

    __slots__ = ("arriving", "bindings", "calls", "connections", "files", "held", "spawned")

    def __init__(self) -> None:
        self.connections: set[Unread] = set()
        self.bindings = 0
        self.calls = 0
        self.spawned = 0
        self.held = 0
        """Bytes."""
        self.files = 0
        self.arriving = 0

    # ---- what it may ----

    def no_connection(self) -> str:
        """Why it may have no further connection; ``""``: it may."""
        full = len(self.connections) >= MOST_CONNECTIONS
        return f"this container has {MOST_CONNECTIONS} connections, the most that one may have" if full else ""

    def no_binding(self) -> str:
        """Why it may name no further parameter set."""
        full = self.bindings >= MOST_BINDINGS
        return f"this container has named {MOST_BINDINGS} parameter sets, the most that one may" if full else ""

    def no_call(self, shape: str) -> str:
        """Why it may begin no further call."""
        if shape == "spawn" and self.spawned >= MOST_SPAWNED:
            return f"this container has spawned {MOST_SPAWNED} calls that are not over, the most that one may have"
        if shape != "spawn" and self.calls >= MOST_CALLS:
            return f"this container has {MOST_CALLS} calls in flight, the most that one may have"
        return self.no_payloads([])

    def no_payloads(self, payloads: list[Payload]) -> str:
        """Why nothing more may wait for it, such as ``payloads``."""
        files = sum(isinstance(payload, Descriptor) for payload in payloads)
        if self.held + sum(map(_size, payloads)) + COST > MOST_BYTES:
            return (
                f"more than {MOST_BYTES // 1024**2} MiB would wait in the server for this container, the most that may"
            )
        if self.files + files > MOST_FILES:
            return f"more than {MOST_FILES} large values would wait in the server for this container, the most that may"
        return ""

    def too_much_unread(self, connection: Unread) -> str:
        """Why a connection has to go that isn't read; asked of each message, so the sum is formed only where it could be."""
        few = connection.backlog * MOST_CONNECTIONS <= MOST_UNREAD
        if few or sum(other.backlog for other in self.connections) <= MOST_UNREAD:
            return ""
        return f"more than {MOST_UNREAD // 1024**2} MiB sent to this container are unread, the most that may be"

    def too_much_arriving(self) -> str:
        """Why a connection has to go on which a frame has begun to come."""
        if self.arriving <= MOST_ARRIVING:
            return ""
        return f"more than {MOST_ARRIVING // 1024**2} MiB of frames have begun and not ended, the most that one container may have"

    # ---- what it has ----

    def begin(self, call: "Call") -> None:
        """A call of it has begun."""
        if call.owner is None:
            self.spawned += 1
            self.held += COST  # until the app's end, as its outputs are
        else:
            self.calls += 1

    def over(self, call: "Call") -> None:
        """All of that call's inputs have ended."""
        if call.shape == "spawn":
            self.spawned -= 1
        else:
            self.calls -= 1

    def hold(self, payload: Payload) -> None:
        """An input or an output waits from now on."""
        self.held += _size(payload)
        self.files += isinstance(payload, Descriptor)

    def release(self, item: "Input") -> None:
        """That input has ended."""
        self.held -= _size(item.payload)
        self.files -= isinstance(item.payload, Descriptor)


def _size(payload: Payload) -> int:
    """Of this server's memory: what lies in a file is memory of whoever made it."""
    return COST if isinstance(payload, Descriptor) else len(payload) + COST
