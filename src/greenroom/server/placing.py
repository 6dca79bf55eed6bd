"""Starting the containers that wait: what ``fairness.py`` and ``admission.py`` decide, done."""

from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING

from greenroom.model.container_state import ContainerState
from greenroom.server.admission import Need, Refusal, admit
from greenroom.server.clock import Timer
from greenroom.server.containers import Container
from greenroom.server.fairness import Claim, Holding, in_turn, make_room, turn
from greenroom.server.machine import Machine

if TYPE_CHECKING:
    from greenroom.server.lifecycle import Lifecycle
    from greenroom.server.pools import Pool

S = ContainerState
_GOING = frozenset({S.DRAINING, S.EXITING})


class Placing:
    """One server's containers on its machine."""

    def __init__(self, lifecycle: "Lifecycle", machine: Machine) -> None:
        self._lifecycle = lifecycle
        self.machine = machine
        self.max_starting = lifecycle.settings.max_starting or max(2, int(machine.cores * 1.5))
        """Containers that may be starting at once."""
        self.short: set[Container] = set()
        """Those that wait for what others have."""
        self._owed: Counter[Hashable] = Counter()
        """Containers of each pool that go once an input of theirs has ended, to make room for others."""
        self._giving: set[Container] = set()
        """Those that did, and are not gone yet."""
        self._turn_timer: Timer | None = None

    def place(self) -> None:
        """Start pending containers, in their turn, as far as the machine has room, and not too many at once."""
        known = self._lifecycle.containers.by_id.values()
        waiting = [c for c in known if c.state is S.PENDING and self._lifecycle.can_start(c) and not self._waits(c)]
        self.short = set()
        self._owed.clear()
        if not waiting:
            return
        placed = [c for c in known if c.live and c.state is not S.PENDING]
        if len(waiting) > 1:
            waiting.sort(key=_came)
            order = in_turn([c.pool for c in waiting], self._holdings(waiting, placed), self.machine.capacity)
            waiting = [waiting[place] for place in order]
        held = [self.machine.fit(c.need) for c in placed]
        admitted, refusals = admit([self.machine.fit(c.need) for c in waiting], held, self.machine.capacity)
        starting = sum(1 for c in placed if c.starting)
        for place in admitted[: max(0, self.max_starting - starting)]:
            self._lifecycle.start(waiting[place])
        self.short = {waiting[refusal.place] for refusal in refusals}
        # Those that are to spare take nothing from anybody; and no more need room than can start.
        short = [refusal for refusal in refusals if waiting[refusal.place].pool.is_short][: self.max_starting]
        if short:
            self._make_room(waiting, short)

    def _waits(self, container: Container) -> bool:
        """Whether one that goes, or that of the version before, listens where this one will: it would find the port taken."""
        function = container.pool.function
        ports = function.spec.ports
        return bool(ports) and any(
            (c.state in (S.DRAINING, S.EXITING) or c.pool.function.app.id == function.app.replaces)
            and not ports.isdisjoint(c.pool.function.spec.ports)
            for c in self._lifecycle.containers.live()
            if c.state is not S.PENDING
        )

    def _holdings(self, waiting: list[Container], placed: list[Container]) -> dict[Hashable, Holding]:
        """What each pool has that has or wants something; two versions of one app share its share."""
        staying: dict[Pool, list[Container]] = {c.pool: [] for c in waiting}
        for container in placed:
            there = staying.setdefault(container.pool, [])
            if container.state not in _GOING:
                there.append(container)
        now = self._lifecycle.clock.now()
        found: dict[Hashable, Holding] = {}
        for pool, there in staying.items():
            spec = pool.function.spec
            need = self.machine.fit(Need(spec.cpu, spec.memory))
            since = now - min((c.placed_at for c in there), default=now)
            idle = any(c.state is S.IDLE for c in there)
            left = turn(pool.seconds_to_start or 0.0) - since
            spare = pool.to_spare if idle else 0
            found[pool] = Holding(
                pool.function.app.name, need, len(there), spec.min_containers, spare, left if left > 1e-6 else 0.0
            )
        return found

    def _make_room(self, waiting: list[Container], refusals: list[Refusal]) -> None:
        """They have to wait: others go, or will; else the user is told."""
        live = self._lifecycle.containers.live()
        placed = [c for c in live if c.state is not S.PENDING]
        pools = self._holdings(waiting, placed)
        idle = sorted((c for c in placed if c.state is S.IDLE), key=lambda c: c.idle_since)
        self._giving = {c for c in self._giving if c.state in _GOING}
        going = [self.machine.fit(c.need) for c in placed if c.state is S.EXITING or c in self._giving]
        held, capacity = [self.machine.fit(c.need) for c in placed], self.machine.capacity
        coming = {
            "cores": capacity.cores - sum(n.cores for n in held) + sum(n.cores for n in going),
            "memory": float(capacity.memory - sum(n.memory for n in held) + sum(n.memory for n in going)),
        }
        claims = [Claim(waiting[refusal.place].pool, refusal.resource) for refusal in refusals]
        room = make_room(claims, pools, [c.pool for c in idle], coming, capacity)
        self._owed = room.owed
        if self._turn_timer is not None:
            self._turn_timer.cancel()
            self._turn_timer = None
        if room.look_again < float("inf"):
            self._turn_timer = self._lifecycle.clock.call_later(room.look_again, self.place)
        first = refusals[0]
        name = waiting[first.place].pool.function.spec.name
        for container in [idle[place] for place in room.idle]:
            coming[first.resource] += getattr(self.machine.fit(container.need), first.resource)
            self._lifecycle.stop(container, f"idle, and {name} needs its {first.resource}")
        for refusal in refusals:
            self._tell(waiting[refusal.place], refusal, coming)

    def _tell(self, container: Container, refusal: Refusal, coming: dict[str, float]) -> None:
        """Its user, unless it waits for what is idle or goes already."""
        resource, name = refusal.resource, container.pool.function.spec.name
        asked = getattr(self.machine.fit(container.need), resource)
        if coming[resource] >= asked:
            coming[resource] -= asked
            return
        unit = " MiB of memory" if resource == "memory" else " cores"
        text = f"{name} waits: it asks for {asked:g}{unit}, and {refusal.free:g} are free"
        self._lifecycle.say(container, text)

    def give_way(self, container: Container) -> None:
        """An input of it has ended: it goes, if its pool owes one to others."""
        pool = container.pool
        if self._owed[pool] <= 0 or not container.entered or not (container.running or pool.queue):
            return  # in the last case it is idle from now on, and goes as such
        self._owed[pool] -= 1
        pool.gave_at = self._lifecycle.clock.now()
        self._giving.add(container)
        self._lifecycle.stop(container, "made room for another function, whose turn it was")


def _came(container: Container) -> tuple[float, bool]:
    """When it began to wait: whose pool has made room since then waits behind those that it was made for."""
    gave = container.pool.gave_at
    return max(container.placed_at, gave), gave >= container.placed_at
