"""What the server would do with a load, without running anything: its own code, in simulated time.

:func:`simulate` has the server's queues, autoscaler, admission and container records at work, as they are; only what a machine
would do is made up: containers take ``start_seconds`` to be ready and ``seconds`` for an input. Hours are over in moments, and
the same load gives the same trace each time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from greenroom.model.container_state import ContainerEvent, ContainerState
from greenroom.model.errors import InvalidError
from greenroom.model.ids import new_id
from greenroom.model.settings import Settings
from greenroom.model.spec import FunctionSpec, MethodSpec
from greenroom.server.apps import App
from greenroom.server.call import Call
from greenroom.server.containers import Container
from greenroom.server.lifecycle import KILLED, Lifecycle
from greenroom.server.machine import Machine
from greenroom.server.pools import Function, Pool
from greenroom.testing.simulated_time import SimulatedClock, SimulatedLoop, run_simulated
from greenroom.wire.messages import Interrupt, Outputs, Revoke, Run, Status, Stop
from greenroom.wire.payload import Payload

S = ContainerState


@dataclass(frozen=True)
class Load:
    """Inputs of one function, and what that function asks for, under the names that its decorators have."""

    name: str
    arrivals: Sequence[float]
    """When each input comes, in seconds from the beginning: see :func:`burst`, :func:`steady` and :func:`ramp`."""
    seconds: float = 1.0
    """That an input, or a batch, takes."""
    start_seconds: float = 0.5
    """That a container takes until it is ready."""
    starts_fail_until: float = 0.0
    """Starts that end before this second fail: the process dies."""
    app: str = ""
    """Of which the function is one; ``""``: of one that has its name."""
    cpu: float = 0.0
    memory: int = 0
    min_containers: int = 0
    max_containers: int = 0
    buffer_containers: int = 0
    scaledown_window: float = 60.0
    max_inputs: int = 1
    target_inputs: int = 0
    max_batch_size: int = 0
    wait_ms: int = 0


@dataclass
class Moment:
    """What one function looked like at one time."""

    at: float
    """Seconds from the beginning."""
    arrived: int
    """Inputs that had come by then, in all."""
    finished: int
    """Inputs that had ended by then, in all."""
    waiting: int
    """Inputs in the queue."""
    running: int
    """Inputs that containers had in hand."""
    starting: int
    """Containers that were not ready yet, those included that waited for room."""
    idle: int
    busy: int
    ending: int
    """Containers that finished what they had in hand, or ran their exit hooks."""

    @property
    def containers(self) -> int:
        """All of them."""
        return self.starting + self.idle + self.busy + self.ending


@dataclass
class Result:
    """How one input ended."""

    at: float
    """When, in seconds from the beginning."""
    waited: float
    """Seconds since it had come."""
    ok: bool
    """False: its caller got an error."""


@dataclass
class Track:
    """What became of one :class:`Load`."""

    load: Load
    moments: list[Moment] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    """In the order in which inputs ended."""
    starts: list[float] = field(default_factory=list)
    """When containers began to start."""


@dataclass
class Trace:
    """What :func:`simulate` has seen: a :class:`Track` for each load, with a moment every ``step`` seconds."""

    seconds: float
    step: float
    tracks: list[Track]

    def svg(self, title: str, *, by_function: bool = False) -> str:
        """A picture of it, as the text of an SVG file: load, inputs and containers over time.

        Args:
            title: its heading; lines after the first one stand below it, smaller.
            by_function: containers are told apart by function rather than by what they do, and how long each input took
                from its call to its result is shown in the place of the load.
        """
        from greenroom.testing.drawing import draw

        return draw(self, title, by_function=by_function)


def burst(count: int, at: float = 0.0) -> list[float]:
    """``count`` inputs at once."""
    return [at] * count


def steady(each_second: float, since: float, until: float) -> list[float]:
    """So many inputs each second, evenly."""
    return [since + number / each_second for number in range(int((until - since) * each_second))]


def ramp(first: float, last: float, since: float, until: float) -> list[float]:
    """From ``first`` inputs each second to ``last``, rising or falling evenly."""
    arrivals: list[float] = []
    at, length = since, until - since
    while at < until:
        arrivals.append(at)
        rate = first + (last - first) * (at - since) / length
        at += 1.0 / max(rate, 1e-3)
    return arrivals


def simulate(
    *loads: Load, seconds: float, step: float = 0.0, cores: float = 4.0, memory: int = 16_000, max_starting: int = 0
) -> Trace:
    """What the server does with these loads.

    Args:
        loads: of a function each.
        seconds: simulated, from the beginning.
        step: seconds between two moments of the trace; 0: a three-hundredth of ``seconds``.
        cores: that the machine has for all containers.
        memory: MiB that it has.
        max_starting: containers that may start at once; 0: one and a half for each core.

    Raises:
        InvalidError: there is no load, two have one name, or a number can't be.
    """
    if not loads or len({load.name for load in loads}) < len(loads):
        raise InvalidError("simulate() takes one load at least, and each has a name of its own")
    if seconds <= 0 or step < 0 or any(load.seconds < 0 or load.start_seconds < 0 for load in loads):
        raise InvalidError("simulate() takes times above 0: seconds=, step=, and each load's seconds and start_seconds")
    machine = Machine(cores, memory, 0)
    settings = Settings(max_starting=max_starting)

    async def run(loop: SimulatedLoop) -> Trace:
        return await _Simulation(loop, machine, settings).run(loads, seconds, step or seconds / 300)

    return run_simulated(run)


class SimulatedWorker:
    """Starts containers that run nothing: see ``greenroom.server.lifecycle.Worker``."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, lifecycle: Lifecycle, load_of: Callable[[Container], Load]
    ) -> None:
        self._loop = loop
        self._lifecycle = lifecycle
        self._load_of = load_of
        self._agents: dict[str, _Agent] = {}

    def start(self, container: Container) -> None:
        """It is ready, or has failed, a while later."""
        agent = _Agent(self._loop, self._lifecycle, container, self._load_of(container))
        self._agents[container.id] = agent
        agent.forget = lambda: self._agents.pop(container.id)
        self._loop.call_later(agent.load.start_seconds, agent.begin)

    def kill(self, container: Container) -> None:
        """It is gone at once."""
        self._agents[container.id].end(KILLED)

    def kill_after(self, container: Container, seconds: float) -> None:
        """It ends by itself before that: what it had to do is done."""
        self._loop.call_soon(self._agents[container.id].end, "")


class _Agent:
    """One container's end of its connections."""

    inline_only = False

    def __init__(self, loop: asyncio.AbstractEventLoop, lifecycle: Lifecycle, container: Container, load: Load) -> None:
        self._loop = loop
        self._lifecycle = lifecycle
        self._container = container
        self.load = load
        self._waiting: list[int] = []
        self._begun: dict[int, asyncio.TimerHandle] = {}
        self._batch: list[int] = []
        self.forget: Callable[[], object] = lambda: None
        """Called once nothing of it is left."""
        self._over = False

    def begin(self) -> None:
        """Its start is over."""
        container = self._container
        if container.state is not S.STARTING:
            return
        if self._loop.time() < self.load.starts_fail_until:
            self.end("exit status 1")
            return
        container.data = container.control = self  # type: ignore[assignment]
        self._lifecycle.connected(container)
        self._lifecycle.imported(container)
        self._lifecycle.entered(container)

    def end(self, reason: str) -> None:
        """Nothing of it is left."""
        if not self._over:
            self._over = True
            self.forget()
            for timer in self._begun.values():
                timer.cancel()
            self._lifecycle.gone(self._container, reason, True)

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """What the server says to it."""
        if isinstance(message, Run):
            seqs = [item[0] for item in message.items]
            if self.load.max_batch_size:
                self._batch += seqs
                if not message.more:
                    batch, self._batch = self._batch, []
                    self._begun[batch[0]] = self._loop.call_later(self.load.seconds, self._done, batch)
            else:
                self._waiting += seqs
                self._next()
        elif isinstance(message, Revoke):
            back = [seq for seq in message.seqs if seq in self._waiting]
            self._waiting = [seq for seq in self._waiting if seq not in back]
            self._loop.call_soon(self._lifecycle.returned, self._container, back)
        elif isinstance(message, Interrupt):
            if (timer := self._begun.pop(message.seq, None)) is not None:
                timer.cancel()
                cancelled: tuple[int, str, Payload] = (message.seq, Status.CANCELLED, b"")
                self._loop.call_soon(self._results, [cancelled])
        elif not isinstance(message, Stop):  # that it may end, it hears when its last input has
            raise AssertionError(f"a container is not told {type(message).__name__}")

    def _next(self) -> None:
        while self._waiting and len(self._begun) < self.load.max_inputs:
            seq = self._waiting.pop(0)
            self._begun[seq] = self._loop.call_later(self.load.seconds, self._done, [seq])

    def _done(self, seqs: list[int]) -> None:
        self._begun.pop(seqs[0])
        self._next()
        self._results([(seq, Status.OK, b"") for seq in seqs])

    def _results(self, results: list[tuple[int, str, Payload]]) -> None:
        if not self._over:
            self._lifecycle.results(self._container, results)


class _Caller:
    """Gets the result of each input of one load."""

    def __init__(self, loop: SimulatedLoop, track: Track) -> None:
        self.calls: set[Call] = set()
        self._loop = loop
        self._track = track
        self._came: dict[str, float] = {}
        self.arrived = 0

    def call(self, lifecycle: Lifecycle, pool: Pool) -> None:
        """One input comes."""
        self.arrived += 1
        call_id = new_id("fc")
        self._came[call_id] = self._loop.time()
        call = lifecycle.calls.begin(call_id, pool, "", "unary", self)
        lifecycle.calls.add(call, 0, [b""])

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """What the server says to it: outputs."""
        assert isinstance(message, Outputs)
        now = self._loop.time()
        ok = message.items[0][1] == Status.OK
        self._track.results.append(Result(now, now - self._came.pop(message.call_id), ok))


class _Simulation:
    def __init__(self, loop: SimulatedLoop, machine: Machine, settings: Settings) -> None:
        self._loop = loop
        self._tracks: dict[Pool, Track] = {}
        self._callers: dict[Pool, _Caller] = {}
        self._lifecycle = Lifecycle(SimulatedClock(loop), settings, machine, self._changed)
        self._lifecycle.ended = self._lifecycle.containers.forget
        self._lifecycle.worker = SimulatedWorker(loop, self._lifecycle, lambda c: self._tracks[c.pool].load)

    async def run(self, loads: Iterable[Load], seconds: float, step: float) -> Trace:
        """See :func:`simulate`."""
        trace = Trace(seconds, step, [Track(load) for load in loads])
        apps: dict[str, App] = {}
        for track in trace.tracks:
            name = track.load.app or track.load.name
            app = apps.setdefault(name, App(new_id("ap"), name))
            app.version = 1
            function = Function(app, spec_of(track.load, app.id), b"")
            pool = function.pools[""] = Pool(function, b"", self._lifecycle)
            self._tracks[pool], self._callers[pool] = track, _Caller(self._loop, track)
        for pool in self._tracks:
            pool.scale()
            self._come(pool, sorted(self._tracks[pool].load.arrivals), 0)
        for number in range(int(seconds / step) + 1):
            await asyncio.sleep(number * step - self._loop.time())
            self._look()
        return trace

    def _come(self, pool: Pool, arrivals: Sequence[float], number: int) -> None:
        """Those that are due, from that number on; the others when they are."""
        while number < len(arrivals) and arrivals[number] <= self._loop.time() + 1e-9:
            self._callers[pool].call(self._lifecycle, pool)
            number += 1
        if number < len(arrivals):
            self._loop.call_at(arrivals[number], self._come, pool, arrivals, number)

    def _changed(self, container: Container, event: ContainerEvent) -> None:
        if event is ContainerEvent.PLACED:
            self._tracks[container.pool].starts.append(self._loop.time())

    def _look(self) -> None:
        for pool, track in self._tracks.items():
            caller, states = self._callers[pool], Counter(c.state for c in pool.containers)
            track.moments.append(
                Moment(
                    at=self._loop.time(),
                    arrived=caller.arrived,
                    finished=len(track.results),
                    waiting=len(pool.queue),
                    running=sum(len(c.running) for c in pool.containers),
                    starting=states[S.PENDING] + states[S.STARTING] + states[S.ENTERING],
                    idle=states[S.IDLE],
                    busy=states[S.RUNNING],
                    ending=states[S.DRAINING] + states[S.EXITING],
                )
            )


def spec_of(load: Load, app_id: str) -> FunctionSpec:
    """A function as its decorators would have it."""
    return FunctionSpec(
        function_id=f"{app_id}/{load.name}",
        app_id=app_id,
        name=load.name,
        is_class=False,
        module="",
        qualname=load.name,
        methods=[MethodSpec("")],
        max_inputs=load.max_inputs,
        target_inputs=load.target_inputs,
        batch_size=load.max_batch_size,
        batch_wait=load.wait_ms / 1000,
        min_containers=load.min_containers,
        max_containers=load.max_containers,
        buffer_containers=load.buffer_containers,
        scaledown_window=load.scaledown_window,
        cpu=load.cpu,
        memory=load.memory,
    )
