"""Pools: one queue of inputs and the containers that take from it.

A function has one pool; a class has one for each set of constructor arguments. A pool hands inputs to the containers
that are ready, asks the autoscaler how many there should be, and lets idle ones go.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from greenroom.model.container_state import ContainerEvent, ContainerState
from greenroom.model.input_state import InputState
from greenroom.model.spec import FunctionSpec
from greenroom.server.autoscaler import Peak, Policy, Sample, desired_containers, prefetch_depth, smoothed
from greenroom.server.clock import Timer
from greenroom.server.containers import Container
from greenroom.server.gathering import seconds_until_batch
from greenroom.wire.messages import Run
from greenroom.wire.payload import INLINE_ONLY, Payload

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.call import Input
    from greenroom.server.lifecycle import Lifecycle

SCALE_INTERVAL = 0.1
"""Seconds between two looks at a pool whose queue isn't empty."""
STUCK_AFTER = 0.03
"""Seconds without a result after which a container gets no more inputs, and those that wait there are asked back."""
FAILED_STARTS = 3
"""In a row, after which those who wait for a container of a deployed app are told why there is none."""
MAX_HOLD = 60.0
"""Seconds that a start waits at the most after others have failed."""
BATCH_BYTES = 8 * 1024**2
"""Bytes of arguments that one frame may have beside its header, unless it is one input's."""
MOST_FILES = 256
"""File descriptors beside one frame: whoever gets it takes no more than 1,024 ahead of it."""
FILE_SHARE = BATCH_BYTES // MOST_FILES


class Function:
    """A function or class of an app, as the server keeps it."""

    def __init__(self, app: "App", spec: FunctionSpec, definition: Payload, sealed: str = "") -> None:
        self.app, self.spec, self.definition = app, spec, definition
        self.sealed = sealed
        """The values of its variables, as the store had them: ``sealing.py``; ``""``: the spec has them."""
        self.pools: dict[str, Pool] = {}
        self.urls: dict[str, str] = {}
        """Of its web endpoints, by method."""
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
        self._tries = 0
        """Those that those who wait haven't been told of."""
        self._failed_at = 0.0
        self._hold_timer: Timer | None = None
        self.closed = False
        self.gave_at = float("-inf")
        """When a container of it last made room for others, by the clock."""
        self._seconds_per_input: float | None = None
        self.seconds_to_start: float | None = None
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        self._idle_timer: Timer | None = None
        self._review_timer: Timer | None = None
        self._peak = Peak()
        """Of inputs at once, where containers take several: such are seldom idle all by themselves."""
        self.on_start: Callable[[str], None] | None = None
        """Called when a container is ready (``""``), or with the reason why it can't start."""
        spec = function.spec
        self.serial = spec.max_inputs == 1 and not spec.batch_size
        """A container runs its inputs one by one, and may be handed more than one."""
        self._batch_size = spec.batch_size
        self._batch_timer: Timer | None = None
        self._policy = _policy_of(spec, lifecycle.settings.max_containers)

    # ---- the queue ----

    def enqueue(self, items: Iterable["Input"]) -> None:
        """New inputs, or retries, at the queue's end."""
        if self._batch_size:
            items, now = list(items), self._lifecycle.clock.now()
            for item in items:
                item.queued_at = now
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

    def inherit(self, old: "Pool") -> None:
        """Another version's pool ends: what waits there waits here from now on."""
        for call in {item.call for item in old.queue}:
            call.pool = self
        self.put_back(old.take_queue())

    def drop_ended(self, count: int) -> None:
        """Up to ``count`` queued inputs have ended: forget them, once they are many. Until then they are passed over."""
        self._ended += count
        if self._ended * 2 > len(self.queue):
            self._forget_ended()

    def _forget_ended(self) -> None:
        self._ended = 0
        self.queue = deque(item for item in self.queue if item.state is InputState.QUEUED)

    def take_queue(self) -> list["Input"]:
        """Everything queued, which is no longer."""
        items, self.queue = list(self.queue), deque()
        return items

    # ---- handing out ----

    def dispatch(self) -> None:
        """Hand queued inputs to containers that can take some; those with the least in hand first."""
        if self._batch_size:
            self._dispatch_batches()
            return
        if not self.queue:
            return
        ready = [c for c in self.containers if c.entered and c.data is not None]
        if not ready:
            return
        if len(ready) > 1:
            ready.sort(key=_in_hand)
        # A share each, so that one doesn't wait behind another's batch.
        share = max(1, -(-len(self.queue) // len(ready)))
        if not self.serial:
            self._peak.note(len(self.queue) + sum(map(_in_hand, ready)))
        for container in ready:
            room = self._room(container)
            if room > 0 and not self._hand_out(container, min(room, share)):
                return
        if not self.serial and any(self._room(container) > 0 for container in ready):
            self.dispatch()  # others had room for less than their share

    def _dispatch_batches(self) -> None:
        """Hand batches to containers that have nothing to do, as far as they are full or have waited long enough."""
        if self._batch_timer is not None:
            self._batch_timer.cancel()
            self._batch_timer = None
        single_use = self.function.spec.single_use
        for container in self.containers:
            if not container.entered or container.data is None or container.running:
                continue
            if single_use and container.inputs_done:
                continue
            if self._ended and len(self.queue) - self._ended < self._batch_size:
                self._forget_ended()
            if not self.queue:
                return
            clock, wait = self._lifecycle.clock, self.function.spec.batch_wait
            left = seconds_until_batch(
                len(self.queue), clock.now() - self.queue[0].queued_at, most=self._batch_size, wait=wait
            )
            if left:
                self._batch_timer = clock.call_later(left, self.dispatch)
                return
            self._hand_out(container, self._batch_size)

    def _room(self, container: Container) -> int:
        in_hand = len(container.running)
        spec = self.function.spec
        if spec.single_use:
            return 1 - in_hand - container.inputs_done
        if not self.serial:
            return spec.max_inputs - in_hand
        if in_hand and (container.slow or self._loop.time() - container.progress_at >= STUCK_AFTER):
            return 0
        depth = prefetch_depth(self._seconds_per_input)
        # Refilled by halves, so that inputs go out in batches rather than one for each result.
        return depth - in_hand if in_hand <= depth // 2 else 0

    def _hand_out(self, container: Container, count: int) -> bool:
        """Give up to ``count`` inputs to ``container``; False once the queue is empty."""
        if not container.running:
            container.progress_at = self._loop.time()
        items, payloads = self._frame(container, count)
        if items and container.data is not None:
            while self._batch_size:  # it is not cut short by what fits into a frame
                count -= len(items)
                files = sum(1 for payload in container.running.values() if type(payload.payload) is not bytes)
                more, their_payloads = self._frame(container, count) if files < MOST_FILES else ([], [])
                if not more:
                    break
                container.data.send(Run(items, [], more=True), payloads)
                items, payloads = more, their_payloads
            container.data.send(Run(items, []), payloads)
            if container.state is ContainerState.IDLE:
                self._lifecycle.containers.change(container, ContainerEvent.INPUT_STARTED)
            self._lifecycle.watch_inputs(container)
        return bool(self.queue)

    def _frame(self, container: Container, count: int) -> tuple[list[list[Any]], list[Payload]]:
        """Up to ``count`` inputs, in the hands of ``container`` from now on: as many as one frame carries."""
        items: list[list[Any]] = []
        payloads: list[Payload] = []
        now = self._lifecycle.clock.now()
        running = container.running
        queue, calls = self.queue, self._lifecycle.calls
        size, inline = 0, container.data is not None and container.data.inline_only
        while count and queue and size < BATCH_BYTES:
            item = queue[0]
            share = len(item.payload) if inline or type(item.payload) is bytes else FILE_SHARE
            if items and size + share > BATCH_BYTES:
                break  # what fits into a frame by itself may not fit into one with others
            queue.popleft()
            if item.state is not InputState.QUEUED:
                continue
            if inline and share > INLINE_ONLY:
                calls.refuse(item, f"RequestSizeError: {len(item.payload)} bytes of arguments are more than the {INLINE_ONLY} "
                             "that can be passed into a container of this runtime")  # fmt: skip
                continue
            seq = container.next_seq
            container.next_seq = seq + 1
            calls.dispatched(item, container, seq)
            if not self.serial or not running:
                item.started_at = now
            running[seq] = item
            items.append([seq, item.call.id, item.index, item.call.method, item.call.shape])
            payloads.append(item.payload)
            size += share
            count -= 1
        return items, payloads

    def took_results(self, container: Container, count: int) -> None:
        """``container`` has finished ``count`` inputs, which are off its hands; see to it that it has more."""
        now = self._loop.time()
        container.inputs_done += count
        if self._batch_size:
            if container.running:
                return  # the others of its batch
            seen = now - container.progress_at
        elif self.serial:
            seen = (now - container.progress_at) / count
        else:
            # By Little's law: the interval between two ends, times how many run.
            seen = (now - container.progress_at) * (len(container.running) + count) / count
        self._seconds_per_input = smoothed(self._seconds_per_input, seen)
        container.progress_at = now
        container.slow = False
        if self.serial and container.running:
            head = next(iter(container.running.values()))
            if head.started_at is None:
                head.started_at = self._lifecycle.clock.now()
        if self.queue:
            if self._batch_size:
                self._dispatch_batches()
            elif container.entered and (room := self._room(container)) > 0:
                others = sum(1 for c in self.containers if c.entered)
                self._hand_out(container, min(room, max(1, -(-len(self.queue) // others))))
            if self.queue:
                self._scale_soon()

    def full_with(self, container: Container) -> int:
        """How many containers this pool may have, when it has them, ``container`` is one, and all are busy; else 0."""
        busy = sum(1 for c in self.containers if c.running)
        full = busy >= self._policy.max_containers and container in self.containers
        return busy if full and self.function.spec.max_inputs == 1 else 0

    # ---- how many ----

    def keep_warm(self, count: int) -> None:
        """Have so many containers, whether or not somebody waits; never fewer than the function asks for."""
        self._policy = self._policy._replace(min_containers=max(count, self.function.spec.min_containers))
        self.scale()

    def autoscaler_changed(self) -> None:
        """Its function's spec says other numbers now."""
        self._policy = _policy_of(self.function.spec, self._lifecycle.settings.max_containers)
        for timer in (self._idle_timer, self._review_timer):
            if timer is not None:
                timer.cancel()
        self._idle_timer = self._review_timer = None
        self.scale()
        self.became_idle()
        self._review_soon()

    def note_start(self, seconds: float) -> None:
        """A container took this long from its placing until it was ready."""
        if self.on_start is not None:
            self.on_start("")
        self.seconds_to_start = smoothed(self.seconds_to_start, seconds)
        self._failed_starts = self._tries = 0
        self._review_soon()

    def note_failed_start(self, why: str, began: float) -> bool:
        """A container could not start: the next one waits, 1 s, 2 s, 4 s and so on, unless somebody waits for it. Whether
        it counts: of several that began together the first does."""
        if self.on_start is not None:
            self.on_start(why)
        if counts := began >= self._failed_at:
            self._failed_starts += 1
            self._failed_at = self._lifecycle.clock.now()
        return counts

    def gives_up(self) -> bool:
        """Whether those who wait are told that a start has failed: at the first where a program waits, at the third of a
        deployed app, which may have been nobody's fault."""
        self._tries = (self._tries + 1) % (FAILED_STARTS if self.function.app.version else 1)
        return not self._tries

    @property
    def _on_hold(self) -> float:
        """Seconds in which nothing more is started. Somebody who waits, while no container is there, is no reason to
        wait: his call starts one, and tells him at once why that fails; unless it is to be tried again first, for him."""
        waited_for = self.queue and not any(c.entered for c in self.containers)
        if not (failed := self._tries if waited_for else self._failed_starts):
            return 0.0
        return self._failed_at + min(MAX_HOLD, 2.0 ** min(failed - 1, 9)) - self._lifecycle.clock.now()

    def sample(self) -> Sample:
        """What the autoscaler sees. A running input counts as taking at least as long as it has run by now."""
        now = self._loop.time()
        seconds, running = self._seconds_per_input, 0
        for container in self.containers:
            if container.running and container.entered:
                running += self._batch_size or len(container.running)  # one with a small batch takes no more either
                if seconds is not None:
                    seconds = max(seconds, now - container.progress_at)
        return Sample(len(self.queue), running, seconds, self.seconds_to_start or 0.3)

    def scale(self) -> None:
        """Start what is missing; let go of what has not started and isn't needed any more."""
        if self.closed or self.function.app.held:
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
            for _ in range(min(wanted - len(coming), room, max(0, self._lifecycle.placing.max_starting - pending))):
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
    def to_spare(self) -> int:
        """How many containers it has that it doesn't need now."""
        return max(0, sum(c.coming for c in self.containers) - desired_containers(self.sample(), self._policy))

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
            first = not any(c.coming for c in self.containers) and self._on_hold <= 0
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
        if idle and sum(c.coming for c in self.containers) > self.function.spec.min_containers:
            # Where all are needed now: nobody tells when some of them no longer are.
            wait = max(0.01, idle[0].idle_since + window - now) if spare > 0 else max(SCALE_INTERVAL, window)
            self._idle_timer = self._lifecycle.clock.call_later(wait, self._let_idle_go)

    def _review_soon(self) -> None:
        several = self.function.spec.max_inputs > 1 and len(self.containers) > max(1, self._policy.min_containers)
        if several and self._review_timer is None and not self.closed:
            self._review_timer = self._lifecycle.clock.call_later(self.function.spec.scaledown_window, self._review)

    def _review(self) -> None:
        """Let go of containers that share what fewer would do, and would have done all through the window."""
        self._review_timer = None
        ready = sorted((c for c in self.containers if c.entered), key=lambda c: (_in_hand(c), c.idle_since))
        if peak := self._peak.value:
            wanted = desired_containers(Sample(0, peak), self._policy)
            for container in ready[: max(0, len(ready) - wanted)]:
                self._lifecycle.stop(container, f"fewer were enough for {self.function.spec.scaledown_window:g} s")
        self._peak.turn()
        self._peak.note(sum(map(_in_hand, ready)))
        self._review_soon()

    def close(self) -> None:
        """The app ends: no more containers."""
        self.closed = True
        if self._look is not None:
            self._look.cancel()
        for timer in (self._idle_timer, self._hold_timer, self._review_timer, self._batch_timer):
            if timer is not None:
                timer.cancel()


def _policy_of(spec: FunctionSpec, limit: int) -> Policy:
    """``limit``: of containers, where the function has none."""
    return Policy(
        min_containers=spec.min_containers,
        max_containers=max(spec.max_containers or limit, spec.min_containers, 1),
        buffer_containers=spec.buffer_containers,
        target_inputs=spec.batch_size
        or (1 if spec.single_use else min(spec.target_inputs or spec.max_inputs, spec.max_inputs)),
    )


def _in_hand(container: Container) -> int:
    return len(container.running)
