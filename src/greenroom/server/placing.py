"""Starting the containers that wait: what ``admission.py`` decides, done, and room made for what it refuses."""

from typing import TYPE_CHECKING

from greenroom.model.container_state import ContainerState
from greenroom.server.admission import Refusal, admit
from greenroom.server.containers import Container
from greenroom.server.machine import Machine

if TYPE_CHECKING:
    from greenroom.server.lifecycle import Lifecycle

S = ContainerState


class Placing:
    """One server's containers on its machine."""

    def __init__(self, lifecycle: "Lifecycle", machine: Machine) -> None:
        self._lifecycle = lifecycle
        self.machine = machine
        self.max_starting = lifecycle.settings.max_starting or max(2, int(machine.cores * 1.5))
        """Containers that may be starting at once."""
        self.short = False
        """Some container waits for what others have."""

    def place(self) -> None:
        """Start pending containers, oldest first, as far as the machine has room, and not too many at once."""
        known = self._lifecycle.containers.by_id.values()
        waiting = [c for c in known if c.state is S.PENDING and self._lifecycle.can_start(c) and not self._waits(c)]
        if not waiting:
            return
        starting = sum(1 for c in known if c.starting)
        held = [c.need for c in known if c.live and c.state is not S.PENDING]
        admitted, refusals = admit([self.machine.fit(c.need) for c in waiting], held, self.machine.capacity)
        for place in admitted[: max(0, self.max_starting - starting)]:
            self._lifecycle.start(waiting[place])
        self.short = bool(refusals)
        for refusal in refusals:
            self._make_room(waiting[refusal.place], refusal)

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

    def _make_room(self, container: Container, refusal: Refusal) -> None:
        """It has to wait: what is idle goes, as far as what ends already isn't enough; else the user is told."""
        resource, spec, pool = refusal.resource, container.pool.function.spec, container.pool
        if not pool.is_short:
            return  # it is to spare, and takes nothing from anybody
        asked = getattr(self.machine.fit(container.need), resource)
        having = [c for c in self._lifecycle.containers.live() if getattr(c.need, resource)]
        coming = refusal.free + sum(getattr(c.need, resource) for c in having if c.state is S.EXITING)
        idle = [c for c in having if c.state is S.IDLE and c.pool is not pool]
        for other in sorted(idle, key=lambda c: c.idle_since):
            if coming >= asked:
                return
            if other.pool.can_spare_one:
                coming += getattr(other.need, resource)
                self._lifecycle.stop(other, f"idle, and {spec.name} needs its {resource}")
        if coming < asked:
            unit = " MiB of memory" if resource == "memory" else " cores"
            text = f"{spec.name} waits: it asks for {asked:g}{unit}, and {refusal.free:g} are free"
            self._lifecycle.say(container, text)
