"""Containers: their states, and the one place that changes them.

:meth:`Containers.change` asks the table for the next state, notes the event with its time and reason, and publishes
it, in one step. Nothing else writes ``Container.state``.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenroom.model.container_state import LIVE, ContainerEvent, ContainerState, next_state
from greenroom.model.ids import new_id
from greenroom.server.admission import Need
from greenroom.server.allowance import Allowance
from greenroom.server.clock import Clock, Timer

if TYPE_CHECKING:
    from greenroom.server.call import Input
    from greenroom.server.pools import Pool
    from greenroom.wire.loop_connection import LoopConnection

E, S = ContainerEvent, ContainerState


class Container:
    """One container, as the server knows it."""

    __slots__ = (
        "allowance",
        "app_name",
        "asked_back",
        "control",
        "created_at",
        "data",
        "deadline",
        "enter",
        "environment",
        "errors",
        "events",
        "fault",
        "id",
        "idle_since",
        "imported",
        "inputs_done",
        "killed",
        "let_go",
        "log_bytes",
        "next_seq",
        "outlives",
        "pid",
        "placed_at",
        "pool",
        "progress_at",
        "returning",
        "running",
        "slow",
        "start_told",
        "started_at",
        "state",
        "stop_reason",
        "timeout_timer",
        "token",
        "was_ready",
        "watch",
    )

    def __init__(self, pool: "Pool", now: float, wall: float) -> None:
        self.id = new_id("ta")
        self.token = new_id("ct")
        self.pool = pool
        self.allowance = Allowance()
        self.app_name = pool.function.app.name
        self.state = S.PENDING
        self.created_at = wall
        self.events: list[dict[str, Any]] = [{"at": wall, "event": "QUEUED", "state": "PENDING", "reason": ""}]
        self.data: LoopConnection | None = None
        self.control: LoopConnection | None = None
        self.running: dict[int, Input] = {}
        """Inputs handed to it, oldest first; of a serial pool the first runs and the others wait behind it."""
        self.next_seq = 0
        self.asked_back: deque[frozenset[int]] = deque()
        """Inputs that it was asked to give back, for each time that it has not answered yet."""
        self.let_go: set[int] = set()
        """Inputs taken off it while their code went on: what it still says of them counts for nothing."""
        self.started_at = now
        self.placed_at = now
        """When it got its room, by the clock; until then when it was made."""
        self.idle_since = now
        self.progress_at = 0.0
        self.inputs_done = 0
        self.log_bytes = 0
        self.pid = 0
        self.enter: list[str] = []
        """See ``wire.messages.EnterContainer``."""
        self.environment: dict[str, str] | None = None
        """Its variables, where stored secrets are among them, from when they were read until it starts."""
        self.imported = False
        """Its start has cost what a start costs; what its constructor and hooks wait for is the user's."""
        self.was_ready = False
        self.outlives = False
        """It goes on without its server, and the next one has it then."""
        self.returning = False
        """The last server had it, and it hasn't said yet what it runs."""
        self.fault = ""
        self.errors: list[str] = []
        self.stop_reason = ""
        self.killed = False
        """Its worker, or the next one, is to kill it."""
        self.start_told = False
        """Whether those who waited for its start have been told that it failed."""
        self.deadline: Timer | None = None
        self.timeout_timer: Timer | None = None
        self.watch: Timer | None = None
        self.slow = False
        """Its first input has run for so long that what waits behind it was asked back; until the next result."""

    @property
    def live(self) -> bool:
        """Whether it can still move."""
        return self.state in LIVE

    @property
    def entered(self) -> bool:
        """Whether it takes inputs now."""
        return self.state is S.IDLE or self.state is S.RUNNING

    @property
    def coming(self) -> bool:
        """Whether it takes inputs now or soon."""
        return self.state in _COMING

    @property
    def may_begin(self) -> bool:
        """Whether its agent may still connect: not once it was told to stop before."""
        return self.state is S.STARTING

    @property
    def need(self) -> Need:
        """What it takes of the machine."""
        spec = self.pool.function.spec
        return Need(spec.cpu, spec.memory)

    @property
    def starting(self) -> bool:
        """Whether it is in the part of its start that keeps a core busy."""
        return not self.returning and (self.state is S.STARTING or (self.state is S.ENTERING and not self.imported))

    def arm(self, timer: Timer | None) -> None:
        """Replace the deadline of its state."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = timer

    def record(self, server_id: str) -> dict[str, Any]:
        """As ``greenroom container list --json`` prints it; times are seconds since 1970."""
        spec = self.pool.function.spec
        return {
            "id": self.id,
            "app_id": spec.app_id,
            "app_name": self.app_name,
            "function": spec.name,
            "state": str(self.state),
            "reason": self.fault or self.stop_reason,
            "server_id": server_id,
            "pid": self.pid,
            "created_at": self.created_at,
            "inputs_done": self.inputs_done,
            "errors": self.errors,
            "events": self.events,
        }


MOST_EVENTS = 1000
"""Events of one container from which on no further steps are noted: no class has so many hooks."""
_COMING = frozenset({S.PENDING, S.STARTING, S.ENTERING, S.IDLE, S.RUNNING})


class Containers:
    """Every container that isn't forgotten yet."""

    def __init__(self, clock: Clock, publish: Callable[[Container, ContainerEvent], None]) -> None:
        self._clock = clock
        self._publish = publish
        self.by_id: dict[str, Container] = {}
        self.by_token: dict[str, Container] = {}

    def create(self, pool: "Pool") -> Container:
        """A new one, PENDING."""
        container = Container(pool, self._clock.now(), self._clock.wall())
        self.by_id[container.id] = self.by_token[container.token] = container
        return container

    def restore(self, pool: "Pool", container_id: str, created_at: float) -> Container:
        """One that the last server had. Its token is known once it says it."""
        container = Container(pool, self._clock.now(), created_at)
        container.id, container.token, container.outlives, container.returning = container_id, "", True, True
        self.by_id[container_id] = container
        return container

    def change(self, container: Container, event: ContainerEvent, reason: str = "") -> None:
        """Let ``event`` happen to ``container``.

        Raises:
            StateError: its state doesn't accept the event; nothing has changed.
        """
        before = container.state
        after = next_state(before, event)
        container.state = after
        if after is before and not reason:
            return
        if after is S.IDLE:
            container.was_ready = True
            container.idle_since = self._clock.now()
        if (before is S.RUNNING and after is S.IDLE) or event is E.INPUT_STARTED:
            # Kept apart: a busy container does this thousands of times a second.
            self._note_work(container, event, after)
            return
        container.arm(None)
        container.events.append({"at": self._clock.wall(), "event": str(event), "state": str(after), "reason": reason})
        self._publish(container, event)

    def _note_work(self, container: Container, event: ContainerEvent, after: ContainerState) -> None:
        """Keep the first input's start and the latest end, not each of a million: work that goes on has no end."""
        if event is E.INPUT_STARTED and container.events[-1]["event"] == str(E.INPUTS_DONE):
            container.events.pop()
            return
        container.events.append({"at": self._clock.wall(), "event": str(event), "state": str(after), "reason": ""})

    def note_step(self, container: Container, name: str, seconds: float, error: str) -> None:
        """A hook, the import or the constructor has ended."""
        if len(container.events) >= MOST_EVENTS:
            return
        container.events.append(
            {
                "at": self._clock.wall(),
                "event": "HOOK",
                "state": str(container.state),
                "name": name,
                "seconds": seconds,
                "reason": error,
            }
        )

    def forget(self, container: Container) -> None:
        """It has ended and its record is kept elsewhere."""
        self.by_id.pop(container.id, None)
        self.by_token.pop(container.token, None)

    def live(self) -> list[Container]:
        """Those that haven't ended."""
        return [c for c in self.by_id.values() if c.live]
