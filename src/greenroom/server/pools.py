"""Pools: one queue of inputs and the containers that take from it.

A function has one pool; a class has one for each set of constructor arguments. A pool hands inputs to the containers
that are ready, asks the autoscaler how many there should be, and lets idle ones go.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from greenroom.model.container_state import ContainerEvent, ContainerState
from greenroom.model.input_state import InputState
from greenroom.model.spec import FunctionSpec
from greenroom.server.autoscaler import Policy, Sample, desired_containers, prefetch_depth, smoothed
from greenroom.server.clock import Timer
from greenroom.server.containers import Container
from greenroom.wire.messages import Run
from greenroom.wire.payload import INLINE_ONLY, Payload

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.calls import Input
    from greenroom.server.lifecycle import Lifecycle

SCALE_INTERVAL = 0.1
"""Seconds between two looks at a pool whose queue isn't empty."""
STUCK_AFTER = 0.03
"""Seconds without a result after which a container gets no more inputs, and those that wait there are asked back."""
MAX_HOLD = 60.0
"""Seconds that a start waits at the most after others have failed."""
BATCH_BYTES = 8 * 1024**2
"""Bytes of arguments beside a frame's header from which on no further input is added to it."""


class Function:
    """A function or class of an app, as the server keeps it."""

    def __init__(self, app: "App", spec: FunctionSpec, definition: Payload) -> None:
        self.app = app
        self.spec = spec
        self.definition = definition
        self.pools: dict[str, Pool] = {}
        self.refusal = ""
        """Why this machine can't run it, as ``ErrorName: text``; ``""``: it can."""

    def pool(self, binding: str) -> "Pool | None":
        """The pool of a parameter set that was bound, ``""`` for none."""
        return self.pools.get(binding)


class Pool:
    """One queue and its containers."""

    def __init__(self, function: Function, binding: Payload, lifecycle: "Lifecycle") -> None:
        self.function = function
        self.binding = binding
        """The pickled constructor arguments; empty for none."""
        self._lifecycle = lifecycle
        self.queue: deque[Input] = deque()
        self._ended = 0
        """Of those in the queue, at the most so many have ended meanwhile."""
        self.containers: list[Container] = []
        self._failed_starts = 0
        """Starts that failed in a row."""
        self._hold_until = 0.0
        self._hold_timer: Timer | None = None
        self.closed = False
        self._seconds_per_input: float | None = None
        self._seconds_to_start: float | None = None
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        self._idle_timer: Timer | None = None
        spec = function.spec
        self._serial = spec.max_inputs == 1
        limit = lifecycle.settings.max_containers
        self._policy = Policy(
            min_containers=spec.min_containers,
            max_containers=max(spec.max_containers or limit, spec.min_containers, 1),
            buffer_containers=spec.buffer_containers,
            target_inputs=1 if spec.single_use else min(spec.target_inputs or spec.max_inputs, spec.max_inputs),
        )

    # ---- the queue ----

    def enqueue(self, items: Iterable["Input"]) -> None:
        """New inputs, or retries, at the queue's end."""
        self.queue.extend(items)
        self.dispatch()
        if self.queue:
            self._scale_soon()

    def put_back(self, items: list["Input"]) -> None:
        """Inputs that a container gave back, at the queue's front, in their order."""
        self.queue.extendleft(reversed(items))
        self.dispatch()
        if self.queue:
            self._scale_soon()

    def drop_ended(self, count: int) -> None:
        """Up to ``count`` queued inputs have ended: forget them, once they are many. Until then they are passed over."""
        self._ended += count
        if self._ended * 2 > len(self.queue):
            self._ended = 0
            self.queue = deque(item for item in self.queue if item.state is InputState.QUEUED)

    def take_queue(self) -> list["Input"]:
        """Everything queued, which is no longer."""
        items, self.queue = list(self.queue), deque()
        return items

    # ---- handing out ----

    def dispatch(self) -> None:
        """Hand queued inputs to containers that can take some; those with the least in hand first."""
        if not self.queue:
            return
        ready = [c for c in self.containers if c.entered and c.data is not None]
        if not ready:
            return
        if len(ready) > 1:
            ready.sort(key=_in_hand)
            # A share each, so that one doesn't wait behind another's batch.
            share = max(1, -(-len(self.queue) // len(ready)))
        else:
            share = len(self.queue)
        for container in ready:
            room = self._room(container)
            if room > 0 and not self._hand_out(container, min(room, share)):
                return

    def _room(self, container: Container) -> int:
        in_hand = len(container.running)
        spec = self.function.spec
        if spec.single_use:
            return 1 - in_hand - container.inputs_done
        if not self._serial:
            return spec.max_inputs - in_hand
        if in_hand and (container.slow or self._loop.time() - container.progress_at >= STUCK_AFTER):
            return 0
        depth = prefetch_depth(self._seconds_per_input)
        # Refilled by halves, so that inputs go out in batches rather than one for each result.
        return depth - in_hand if in_hand <= depth // 2 else 0

    def _hand_out(self, container: Container, count: int) -> bool:
        """Give up to ``count`` inputs to ``container``; False once the queue is empty."""
        items: list[list[Any]] = []
        payloads: list[Payload] = []
        now = self._lifecycle.clock.now()
        running = container.running
        if not running:
            container.progress_at = self._loop.time()
        queue, calls = self.queue, self._lifecycle.calls
        size = 0
        while count and queue and size < BATCH_BYTES:
            item = queue.popleft()
            if item.state is not InputState.QUEUED:
                continue
            if len(item.payload) > INLINE_ONLY and container.data is not None and container.data.inline_only:
                calls.refuse(item, f"RequestSizeError: {len(item.payload)} bytes of arguments are more than the {INLINE_ONLY} "
                             "that can be passed into a container of this runtime")  # fmt: skip
                continue
            seq = container.next_seq
            container.next_seq = seq + 1
            calls.dispatched(item, container, seq)
            if not self._serial or not running:
                item.started_at = now
            running[seq] = item
            items.append([seq, item.call.id, item.index, item.call.method, item.call.shape])
            payloads.append(item.payload)
            if type(item.payload) is bytes:
                size += len(item.payload)
            count -= 1
        if items and container.data is not None:
            container.data.send(Run(items, []), payloads)
            if container.state is ContainerState.IDLE:
                self._lifecycle.containers.change(container, ContainerEvent.INPUT_STARTED)
            self._lifecycle.watch_inputs(container)
        return bool(queue)

    def took_results(self, container: Container, count: int) -> None:
        """``container`` has finished ``count`` inputs, which are off its hands; see to it that it has more."""
        now = self._loop.time()
        if self._serial:
            seen = (now - container.progress_at) / count
        else:
            # By Little's law: the interval between two ends, times how many run.
            seen = (now - container.progress_at) * (len(container.running) + count) / count
        self._seconds_per_input = smoothed(self._seconds_per_input, seen)
        container.progress_at = now
        container.slow = False
        container.inputs_done += count
        if self._serial and container.running:
            head = next(iter(container.running.values()))
            if head.started_at is None:
                head.started_at = self._lifecycle.clock.now()
        if self.queue:
            if container.entered and (room := self._room(container)) > 0:
                others = sum(1 for c in self.containers if c.entered)
                self._hand_out(container, min(room, max(1, -(-len(self.queue) // others))))
            if self.queue:
                self._scale_soon()

    def full_with(self, container: Container) -> int:
        """How many containers this pool may have, when it has them, ``container`` is one, and all are busy; else 0."""
        busy = sum(1 for c in self.containers if c.running)
        full = self._serial and busy >= self._policy.max_containers and container in self.containers
        return busy if full else 0

    # ---- how many ----

    def note_start(self, seconds: float) -> None:
        """A container took this long from its placing until it was ready."""
        self._seconds_to_start = smoothed(self._seconds_to_start, seconds)
        self._failed_starts = 0
        self._hold_until = 0.0

    def note_failed_start(self) -> None:
        """A container could not start: the next one waits, 1 s, 2 s, 4 s and so on, unless somebody waits for it."""
        self._failed_starts += 1
        self._hold_until = self._lifecycle.clock.now() + min(MAX_HOLD, 2.0 ** (self._failed_starts - 1))

    @property
    def _on_hold(self) -> float:
        """Seconds in which nothing more is started. Somebody who waits, while no container is there, is no reason to
        wait: his call starts one, and tells him at once why that fails."""
        if self.queue and not any(c.entered for c in self.containers):
            return 0.0
        return self._hold_until - self._lifecycle.clock.now()

    def sample(self) -> Sample:
        """What the autoscaler sees. A running input counts as taking at least as long as it has run by now."""
        now = self._loop.time()
        seconds, running = self._seconds_per_input, 0
        for container in self.containers:
            if container.running and container.entered:
                running += len(container.running)
                if seconds is not None:
                    seconds = max(seconds, now - container.progress_at)
        return Sample(len(self.queue), running, seconds, self._seconds_to_start or 0.3)

    def scale(self) -> None:
        """Start what is missing; let go of what has not started and isn't needed any more."""
        if self.closed:
            return
        wanted = desired_containers(self.sample(), self._policy)
        coming = [c for c in self.containers if c.coming]
        if len(coming) < wanted and (hold := self._on_hold) > 0:
            if self._hold_timer is None:
                self._hold_timer = self._lifecycle.clock.call_later(hold, self._hold_over)
        elif len(coming) < wanted:
            # No more at once than can start soon: by then the sample may say something else.
            pending = sum(1 for c in coming if c.state is ContainerState.PENDING)
            room = self._policy.max_containers - len(self.containers)  # one that still runs its exit hooks counts
            for _ in range(min(wanted - len(coming), room, max(0, self._lifecycle.max_starting - pending))):
                self._lifecycle.create(self)
        elif len(coming) > wanted:
            surplus = len(coming) - wanted
            for container in reversed(coming):
                if surplus and container.state is ContainerState.PENDING:
                    self._lifecycle.stop(container, "no longer needed")
                    surplus -= 1
        if self.queue:
            self._scale_soon()

    @property
    def can_spare_one(self) -> bool:
        """Whether it has more containers than it needs now."""
        return sum(1 for c in self.containers if c.coming) > desired_containers(self.sample(), self._policy)

    @property
    def is_short(self) -> bool:
        """Whether somebody waits for a container of it, or it has fewer than it must."""
        there = sum(1 for c in self.containers if c.coming and c.state is not ContainerState.PENDING)
        return bool(self.queue) or there < self._policy.min_containers

    def _hold_over(self) -> None:
        self._hold_timer = None
        self.scale()

    def _scale_soon(self) -> None:
        if self._look is None and not self.closed:
            first = not any(c.coming for c in self.containers)
            self._look = self._loop.call_later(0 if first else SCALE_INTERVAL, self._scale_now)

    def _scale_now(self) -> None:
        self._look = None
        self.scale()

    def became_idle(self) -> None:
        """Some container has nothing to do: see when it may go."""
        if self._idle_timer is None and not self.closed:
            self._idle_timer = self._lifecycle.clock.call_later(self.function.spec.scaledown_window, self._let_idle_go)

    def _let_idle_go(self) -> None:
        self._idle_timer = None
        if self.closed:
            return
        window, now = self.function.spec.scaledown_window, self._lifecycle.clock.now()
        idle = sorted((c for c in self.containers if c.state is ContainerState.IDLE), key=lambda c: c.idle_since)
        spare = sum(1 for c in self.containers if c.coming) - desired_containers(self.sample(), self._policy)
        for container in list(idle):
            if spare > 0 and now - container.idle_since >= window - 1e-6:
                self._lifecycle.stop(container, f"idle for {window:g} s")
                idle.remove(container)
                spare -= 1
        if idle and spare > 0:
            wait = max(0.01, idle[0].idle_since + window - now)
            self._idle_timer = self._lifecycle.clock.call_later(wait, self._let_idle_go)

    def close(self) -> None:
        """The app ends: no more containers."""
        self.closed = True
        if self._look is not None:
            self._look.cancel()
        for timer in (self._idle_timer, self._hold_timer):
            if timer is not None:
                timer.cancel()


def _in_hand(container: Container) -> int:
    return len(container.running)
