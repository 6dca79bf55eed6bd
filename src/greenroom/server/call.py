"""A call and its inputs, as the server has them; ``calls.py`` says what happens to them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from greenroom.model.input_state import InputState
from greenroom.server.allowance import Allowance
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.containers import Container
    from greenroom.server.pools import Pool

S = InputState


class Receiver(Protocol):
    """Whoever gets a call's outputs."""

    calls: "set[Call]"
    """Those that aren't over, and whose outputs it gets."""

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Send one message."""


class Keeper(Protocol):
    """Keeps what happens to a call: see ``durable.py``."""

    def ended(self, call: "Call", items: list[list[Any]], payloads: list[Payload]) -> None:
        """Inputs of it have: ``[index, status, detail]``, and their outputs."""

    def failed(self, item: "Input") -> None:
        """An attempt of it has, and there will be another."""

    def over(self, call: "Call") -> None:
        """All of them have."""

    def cancelled(self, call: "Call", *, first: bool, running: bool) -> None:
        """It was; ``first``: for the first time; ``running``: what runs of it too."""


class Before(Protocol):
    """What containers that outlived their server say of a call whose caller has not come back: see ``returning.py``."""

    def take(self, index: int) -> "Input | tuple[str, str, Payload] | None":
        """The input, if it runs; how it ended; None: it has not begun, or nobody is left who knows. It is told once."""


class Input:
    """One set of arguments of a call."""

    __slots__ = ("attempt", "call", "container", "credited", "doom", "index", "losses", "payload", "queued_at", "seq",
                 "started_at", "state", "tried", "yielded")  # fmt: skip

    def __init__(self, call: "Call", index: int, payload: Payload) -> None:
        self.call = call
        self.index = index
        self.payload: Payload = payload
        self.state = S.QUEUED
        self.attempt = 0
        """Attempts that have failed."""
        self.losses = 0
        self.tried = ""
        """Which attempt failed last: the container may say so once more, to the server after this one."""
        self.yielded = 0
        """Values of a generator that have left: from the first one on, to run it again would send that twice."""
        self.credited = 0
        """Values that its caller says it has taken."""
        self.container: Container | None = None
        self.seq = -1
        self.queued_at = 0.0
        """When it came into its queue, by the clock; kept where inputs wait for others."""
        self.started_at: float | None = None
        """When it began to run, by the clock; None while it waits, or waits behind another in its container."""
        self.doom = ""
        """Why it was interrupted: ``cancel``, ``timeout`` or ``requeue``."""

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are known: not those of one that runs on from before, until its caller has said them again."""
        return bool(self.payload) or self.call.shape not in ("unary", "map", "spawn")


class Call:
    """One ``.remote()``, ``.map()`` or ``.spawn()``."""

    __slots__ = ("added", "again", "allowance", "before", "caller", "cancelled", "changes", "collectors", "count",
                 "finished", "id", "inputs", "keeper", "kept", "loaded_to", "method", "next_index", "outputs", "owner", "pool",
                 "refusal", "retained", "shape", "stored", "streams", "unkept")  # fmt: skip

    def __init__(
        self,
        call_id: str,
        pool: "Pool",
        method: str,
        shape: str,
        owner: Receiver | None,
        allowance: Allowance | None = None,
    ) -> None:
        self.id = call_id
        self.pool = pool
        self.method = method
        self.shape = shape
        self.owner = owner
        """Who gets the outputs as they come; None for a spawned call, whose outputs are kept."""
        self.allowance = allowance
        """Of the container that called, until the call is over; None: a program did."""
        self.caller: App | None = None
        """The app of that container."""
        self.inputs: dict[int, Input] = {}
        self.added = 0
        """Inputs that have come by now."""
        self.next_index = 0
        """The lowest number that a further input may have."""
        self.count: int | None = 1 if shape in ("unary", "generator", "web") else None
        self.finished = 0
        self.cancelled = ""
        """Why it was cancelled, if it was."""
        self.refusal = ""
        """Why none of its inputs can run, as ``ErrorName: text``."""
        self.outputs: dict[int, tuple[str, str, Payload]] = {}
        self.collectors: list[tuple[Receiver, int]] = []
        self.keeper: Keeper | None = None
        """Of a spawned call of a deployed app: told what has to outlive this server."""
        self.changes: list[Callable[[Any], Any]] = []
        """That are to be kept, of this turn of the loop."""
        self.kept = False
        """It is over, and all of it is kept."""
        self.stored = 0
        """Inputs that are in the store alone, until there is room for them here; their indices are past ``loaded_to``."""
        self.loaded_to = -1
        self.again = False
        """Its caller had it on its way when the server before this one died, and says it again."""
        self.before: Before | None = None
        """What is known of it from back then."""
        self.unkept = ""
        """Why some of it could not be kept."""
        self.streams = 0
        """Collectors that are being sent what is kept: meanwhile what gets kept stays in memory too."""
        self.retained: list[int] = []
        """Outputs that did."""

    @property
    def goes_on(self) -> bool:
        """Whether the next server has it, or has the input again that waits for it: what a container of a lasting app runs."""
        return self.keeper is not None or (self.caller is not None and self.caller.outlives_program)

    @property
    def done(self) -> bool:
        """Whether every input has ended and no more will come."""
        return self.finished == self.count
