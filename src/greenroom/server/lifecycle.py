"""What drives a container through its life: placing, connecting, stopping, the deadlines, its end.

The state itself is changed by ``containers.py`` alone; inputs by ``calls.py`` alone. Here is what leads to what.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from greenroom.model.container_state import ContainerEvent, ContainerState
from greenroom.model.settings import Settings
from greenroom.server.call import Input
from greenroom.server.calls import Calls
from greenroom.server.clock import Clock
from greenroom.server.containers import Container, Containers
from greenroom.server.machine import Machine
from greenroom.server.placing import Placing
from greenroom.server.pools import STUCK_AFTER, Pool
from greenroom.wire.messages import Interrupt, Revoke, Status, Stop
from greenroom.wire.payload import Payload

E, S = ContainerEvent, ContainerState

Result = tuple[int, str, Payload]
"""Of an input that runs: its number in its container, how it ended, and with what."""
KILLED = "killed"
"""What a worker says of a container that it was told to kill."""
SLACK = 5.0
"""Seconds beyond a limit that the agent keeps by itself, after which the server acts."""


class Worker(Protocol):
    """What starts and ends containers."""

    def start(self, container: Container) -> None:
        """Start the sandbox of a container."""

    def kill(self, container: Container) -> None:
        """SIGKILL, now."""

    def kill_after(self, container: Container, seconds: float) -> None:
        """SIGKILL, unless it is gone by then."""


class Lifecycle:
    """The rules of one server's containers."""

    def __init__(
        self, clock: Clock, settings: Settings, machine: Machine, publish: Callable[[Container, ContainerEvent], None]
    ) -> None:
        self.clock = clock
        self.settings = settings
        self.containers = Containers(clock, publish)
        self.calls = Calls(clock, self._interrupt_input)
        self.placing = Placing(self, machine)
        self.worker: Worker | None = None
        self.ended: Callable[[Container], None] = lambda container: None
        """Called once a container has ended and its inputs are settled."""
        self.say: Callable[[Container, str], None] = lambda container, text: None
        """Called with a line that whoever waits for a container should read."""
        self.can_start: Callable[[Container], bool] = lambda container: True
        """Whether the image and the secrets that a container needs are there; until then it stays PENDING."""
        self.came: Callable[[Container, list[int]], None] = lambda container, seqs: None
        """Called with the numbers of inputs that a container which may outlive this server has ended."""
        self._loop = asyncio.get_running_loop()

    # ---- beginning ----

    def create(self, pool: Pool) -> Container:
        """A container more for ``pool``; it starts when there is room."""
        container = self.containers.create(pool)
        pool.containers.append(container)
        self.place()
        return container

    def place(self) -> None:
        """Start pending containers, as far as there is room."""
        if self.worker is not None:
            self.placing.place()

    def start(self, container: Container) -> None:
        """There is room for it: its start begins, and the time that it may take."""
        assert self.worker is not None
        container.started_at, container.placed_at = self._loop.time(), self.clock.now()
        self.containers.change(container, E.PLACED)
        limit = container.pool.function.spec.startup_timeout
        container.arm(self.clock.call_later(limit, lambda: self._startup_expired(container)))
        self.worker.start(container)

    def unstartable(self, image_id: str, why: str) -> None:
        """The containers that wait for an image won't get it."""
        for container in self.containers.live():
            if container.state is S.PENDING and container.pool.function.spec.image == image_id:
                container.fault = f"has no image: {why}"
                self.gone(container, container.fault, started=False)

    def connected(self, container: Container) -> None:
        """Both of the agent's connections are there."""
        if container.state is S.STARTING:
            timer, container.deadline = container.deadline, None
            self.containers.change(container, E.AGENT_CONNECTED)
            container.deadline = timer

    def imported(self, container: Container) -> None:
        """Its user's module is there: it makes room for another one's start."""
        container.imported = True
        self.place()

    def entered(self, container: Container) -> None:
        """Start-up is over; inputs may come."""
        if container.state is not S.ENTERING:
            return
        self.containers.change(container, E.ENTERED)
        container.pool.note_start(self._loop.time() - container.started_at)
        self._serves(container)

    def _serves(self, container: Container) -> None:
        self.place()
        container.pool.dispatch()
        container.pool.scale()
        if not container.running:
            container.pool.became_idle()

    def await_return(self, container: Container, seconds: float, late: Callable[[], None]) -> None:
        """The last server had it: it is to say what it runs, within that time."""
        container.pool.containers.append(container)
        self.containers.change(container, E.PLACED, "the last server had it")
        container.arm(self.clock.call_later(seconds, late))

    def came_back(self, container: Container, stopping: str = "") -> None:
        """It has said what it runs. ``stopping``: why it is to end with that; ``""``: it isn't."""
        container.returning = False
        container.imported = True
        self.containers.change(container, E.ENTERED, "it outlived its server")
        if container.running:
            container.progress_at = self._loop.time()
            self.containers.change(container, E.INPUT_STARTED)
            self.watch_inputs(container)
        if stopping:
            self.stop(container, stopping)
        self._serves(container)

    def not_back(self, container: Container) -> None:
        """It ends by itself, or has."""
        if container.live and container.state is not S.EXITING:
            self.containers.change(container, E.FAULT, "it did not come back to the server after its own")
            self._expect_end(container)

    def _startup_expired(self, container: Container) -> None:
        limit = container.pool.function.spec.startup_timeout
        name = container.pool.function.spec.name
        text = f"the start-up of {name} ran past its startup_timeout of {limit:g} s"
        self._fail_start(container, Status.TIMEOUT, text, b"")
        self.fault(container, text)

    def start_failed(self, container: Container, step: str, text: str, payload: Payload) -> None:
        """Start-up raised; the agent runs the exit hooks that are owed and ends by itself."""
        if container.state is not S.ENTERING:
            return
        self.containers.change(container, E.FAULT, f"{step}: {text}")
        container.fault = f"{step}: {text}"
        self._expect_end(container)
        self._fail_start(container, Status.ERROR, f"{step}: {text}", payload)

    def _fail_start(self, container: Container, status: str, detail: str, payload: Payload) -> None:
        """The inputs that wait for this container fail; unless another one of their pool is at work."""
        container.start_told = True
        pool = container.pool
        counts = pool.note_failed_start(detail, container.placed_at)
        if counts and pool.queue and not any(c.entered for c in pool.containers) and pool.gives_up():
            self.calls.fail_queued(pool.take_queue(), status, detail, payload)
            for other in list(pool.containers):
                if other.state is S.PENDING:
                    self.stop(other, "no longer needed")

    # ---- inputs in a container ----

    def results(self, container: Container, results: list[Result]) -> None:
        """Inputs came back, each of which ran."""
        if results:
            running = container.running
            self.calls.results([(running.pop(seq), status, payload) for seq, status, payload in results])
            if container.outlives:
                self.came(container, [seq for seq, _, _ in results])
            self.placing.give_way(container)
            container.pool.took_results(container, len(results))
        if container.pool.function.spec.single_use and container.inputs_done:
            self.stop(container, "single use")
        self._maybe_done(container)

    def settle(self, container: Container, begun: int, finished: list[Result]) -> None:
        """Of a container that has ended: what it had finished without having said so, and which input it had begun last.

        Both were read from memory that the user's code may have written to: what can't be so is left out.
        """
        returned = {seq: (status, payload) for seq, status, payload in finished if status in (Status.OK, Status.ERROR)}
        ended = [seq for seq, item in container.running.items() if seq in returned and item.call.shape != "generator"]
        results = [(seq, *returned[seq]) for seq in ended]
        if results:
            self.results(container, results)
        if begun >= 0 and container.pool.serial:
            for seq, item in container.running.items():
                item.started_at = (item.started_at or self.clock.now()) if seq == begun else None

    def returned(self, container: Container, seqs: list[int]) -> None:
        """The container gave inputs back that had not begun."""
        items = [item for seq in seqs if (item := container.running.pop(seq, None)) is not None]
        self.calls.returned(items)
        self._maybe_done(container)

    def _maybe_done(self, container: Container) -> None:
        if container.running:
            return
        if container.state is S.RUNNING:
            self.containers.change(container, E.INPUTS_DONE)
            container.pool.became_idle()
            if self.placing.short:
                self.place()
        elif container.state is S.DRAINING:
            self.containers.change(container, E.INPUTS_DONE)
            self._expect_end(container)

    def watch_inputs(self, container: Container) -> None:
        """See to the timeouts of what a container runs, and that nothing waits long behind a slow input."""
        if container.timeout_timer is None:
            timeout = container.pool.function.spec.timeout
            container.timeout_timer = self.clock.call_later(timeout, lambda: self._check_timeouts(container))
        if container.watch is None and len(container.running) > 1 and container.pool.serial:
            container.watch = self._loop.call_later(STUCK_AFTER, lambda: self._check_progress(container))

    def _check_timeouts(self, container: Container) -> None:
        """Rearmed for the earliest deadline rather than set for each input: an input costs no timer."""
        container.timeout_timer = None
        if not container.running or not container.live:
            return
        timeout, now = container.pool.function.spec.timeout, self.clock.now()
        earliest = timeout
        for item in list(container.running.values()):
            if item.started_at is None:
                continue
            left = item.started_at + timeout - now
            if left > 1e-6:
                earliest = min(earliest, left)
            elif not item.doom:
                item.doom = "timeout"
                self._interrupt_input(item)
        container.timeout_timer = self.clock.call_later(earliest, lambda: self._check_timeouts(container))

    def _check_progress(self, container: Container) -> None:
        container.watch = None
        if len(container.running) < 2 or not container.live:
            return
        quiet = self._loop.time() - container.progress_at
        if quiet >= STUCK_AFTER and not container.slow and container.control is not None:
            container.slow = True
            self._ask_back(container, list(container.running)[1:])
        wait = max(0.005, STUCK_AFTER - quiet)
        container.watch = self._loop.call_later(wait, lambda: self._check_progress(container))

    def _interrupt_input(self, item: Input) -> None:
        container = item.container
        if container is None or container.control is None:
            return
        container.control.send(Interrupt(item.seq))
        # The agent says by itself when the input doesn't stop; this is for an agent that can't speak any more.
        limit = self.settings.cancel_grace + SLACK
        self.clock.call_later(limit, lambda: self._check_interrupted(container, item, item.seq))

    def _check_interrupted(self, container: Container, item: Input, seq: int) -> None:
        if container.running.get(seq) is item and container.live:
            self.stuck(container, seq, main=True)

    def stuck(self, container: Container, seq: int, main: bool) -> None:
        """An interrupted input (or start-up: -1) does not stop. It costs the container."""
        if not container.live:
            return
        what = "start-up" if seq < 0 else "an input"
        grace = self.settings.cancel_grace
        if main:
            reason = f"{what} did not stop within {grace:g} s of its cancellation; its exit hooks could not run"
            if container.state is not S.EXITING:
                self.containers.change(container, E.FAULT, reason)
            container.fault = reason
            self.kill(container)
            return
        item = container.running.pop(seq, None)
        if item is not None:
            container.let_go.add(seq)
        self.stop(container, f"{what} did not stop within {grace:g} s of its cancellation", cancel=False)
        if item is not None:
            self.calls.crashed([item], "its thread did not stop")
        self._maybe_done(container)

    # ---- ending ----

    def stop(self, container: Container, reason: str, cancel: bool = False, requeue: bool = False) -> None:
        """Stop a container in order. Its inputs finish; or are cancelled, with at most ``cancel_grace`` to do so."""
        if not container.live:
            return
        container.stop_reason = container.stop_reason or reason
        if container.returning and not cancel:
            return  # it has more to do, of which it says what, and is told then
        before = container.state
        if before is S.DRAINING and cancel:
            self._cancel_inputs(container, "requeue" if requeue else "cancel")
        if before in (S.DRAINING, S.EXITING):
            return
        self.containers.change(container, E.STOP, reason)
        if before is S.PENDING:
            self._settle(container)
            return
        if before is S.STARTING:
            self._end_start(container)
            return
        if before is S.ENTERING:
            self._tell_to_stop(container)
            self._expect_end(container)
            return
        # On the other one it is heard while an input runs: should we die, the next server is told.
        for connection in (container.data, container.control if container.outlives else None):
            if connection is not None:
                connection.send(Stop(reason))
        if before is S.IDLE:
            self._expect_end(container)
            return
        self._give_back_waiting(container)
        if cancel:
            self._cancel_inputs(container, "requeue" if requeue else "cancel")
        else:
            limit = container.pool.function.spec.timeout + SLACK
            container.arm(self.clock.call_later(limit, lambda: self._drain_expired(container)))

    def _end_start(self, container: Container) -> None:
        if container.returning:
            self._expect_end(container)  # it will be told that it is not wanted, and owes its exit hooks
        else:
            self.kill(container)  # no user code has run: nothing is owed

    def _cancel_inputs(self, container: Container, doom: str) -> None:
        """Interrupt what a draining container runs."""
        for item in container.running.values():
            if not item.doom:
                # No container comes to an app that ends; but what is kept goes on with another server.
                item.doom = "cancel" if item.call.pool.closed and item.call.keeper is None else doom
                self._interrupt_input(item)
        limit = self.settings.cancel_grace + SLACK
        container.arm(self.clock.call_later(limit, lambda: self._drain_expired(container)))

    def _give_back_waiting(self, container: Container) -> None:
        self._ask_back(container, [seq for seq, item in container.running.items() if item.started_at is None])

    def _ask_back(self, container: Container, seqs: list[int]) -> None:
        """It answers with one ``Returned``: those of them that it has not begun."""
        if seqs and container.control is not None:
            container.asked_back.append(frozenset(seqs))
            container.control.send(Revoke(seqs))

    def _drain_expired(self, container: Container) -> None:
        if container.state is not S.DRAINING:
            return
        self.containers.change(container, E.GRACE_EXPIRED, "its inputs did not end in time")
        self.kill(container)

    def kill(self, container: Container) -> None:
        """SIGKILL it; without a worker the next one will."""
        container.killed = True
        if self.worker is not None:
            self.worker.kill(container)

    def _tell_to_stop(self, container: Container) -> None:
        if container.control is not None:
            container.control.send(Interrupt(-1))
        if container.data is not None:
            container.data.send(Stop(container.stop_reason or container.fault))

    def _expect_end(self, container: Container) -> None:
        """The supervisor keeps the 30 s of the exit phase by itself; the worker is told too, should it be gone."""
        if self.worker is not None:
            self.worker.kill_after(container, self.settings.cancel_grace + self.settings.exit_grace + SLACK)

    def adopted(self, container: Container) -> None:
        """A new worker has it: what the last one was told of its end may not have been done."""
        if container.killed:
            self.kill(container)
        elif container.state is S.EXITING:
            self._expect_end(container)
        else:
            self.stop(container, "its worker was lost", cancel=True, requeue=True)

    def fault(self, container: Container, reason: str) -> None:
        """Something is wrong with it: it must end, in order if it can."""
        if not container.live or container.state is S.EXITING:
            return
        before = container.state
        self.containers.change(container, E.FAULT, reason)
        container.fault = container.fault or reason
        if before is S.PENDING:
            self._settle(container)
        elif before is S.STARTING:
            self._end_start(container)
        else:
            self._tell_to_stop(container)
            self._expect_end(container)

    def agent_gone(self, container: Container) -> None:
        """A connection of its agent closed before it said that it had exited: the worker will say why."""
        if container.live and container.state is not S.EXITING:
            self.containers.change(container, E.FAULT, "its process ended")
            self._expect_end(container)

    def exiting(self, container: Container) -> None:
        """Exit hooks are about to run."""
        if container.state is S.DRAINING:
            self.containers.change(container, E.GRACE_EXPIRED, "the agent went on to its exit hooks")
            self._expect_end(container)

    def gone(self, container: Container, reason: str, started: bool) -> None:
        """The worker says that nothing of it is left."""
        if not container.live:
            return
        if container.state is not S.EXITING:
            self.containers.change(container, E.FAULT if container.state is not S.PENDING else E.LOST, reason)
        in_vain = not (container.returning or container.stop_reason or container.inputs_done or container.running)
        if container.live:
            # One that was killed before any user code of it ran, since it was no longer wanted, has not failed.
            unwanted = bool(container.stop_reason) and reason == KILLED
            container.fault = container.fault or ("" if unwanted else reason)
            self.containers.change(container, E.RELEASED_AFTER_FAULT if container.fault else E.RELEASED, reason)
        if in_vain and container.was_ready:  # it may do so each time
            container.pool.note_failed_start(reason, container.placed_at)
        elif in_vain and not container.start_told:
            self._crashed_in_start(container, reason, started)
        self._settle(container, reason)

    def _crashed_in_start(self, container: Container, reason: str, started: bool) -> None:
        name = container.pool.function.spec.name
        if started:
            detail = f"the container of {name} died while it started: {reason or 'it ended without a word'}"
            self._fail_start(container, Status.CRASHED, detail, b"")
        else:
            self._fail_start(container, Status.REFUSED, f"ExecutionError: the container of {name} {reason}", b"")

    def _settle(self, container: Container, reason: str = "") -> None:
        """It has ended: see to its inputs, forget it, and start what is needed instead."""
        container.arm(None)
        for timer in (container.timeout_timer, container.watch):
            if timer is not None:
                timer.cancel()
        lost = list(container.running.values())
        container.running.clear()
        pool = container.pool
        pool.containers.remove(container)
        if lost:
            self.calls.crashed(lost, reason or container.fault or "it ended without a word")
        self.ended(container)
        self.place()
        if pool.is_short:
            pool.scale()
