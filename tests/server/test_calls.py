"""A stateful model of ``calls.py``: whatever happens, every input ends once, and whoever waits is told once.

``calls.py`` is real, and so is its clock; the queue that it hands inputs to, and the containers, are the machine's rules.
"""

from types import SimpleNamespace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from greenroom.model.input_state import LIVE, InputState
from greenroom.model.spec import FunctionSpec, RetrySpec
from greenroom.server.calls import MAX_LOSSES, Calls
from greenroom.testing import HeldClock
from greenroom.wire.messages import Collect, Done, Outputs, Status, Values

RETRIES = 2


class Receiver:
    """A caller, or a collector: what it was told of each input."""

    def __init__(self):
        self.calls = set()
        self.got = {}
        self.done = []
        self.values = 0

    def send(self, message, payloads=None):
        if isinstance(message, Outputs):
            for index, status, _ in message.items:
                assert (message.call_id, index) not in self.got, "told twice"
                self.got[message.call_id, index] = status
        elif isinstance(message, Done):
            self.done.append(message.rid)
        elif isinstance(message, Values):
            self.values += 1


class Queue:
    def __init__(self):
        spec = FunctionSpec("fu", "ap", "f", False, "m", "f", [], retries=RetrySpec(RETRIES, 1.0, 1.0, 1.0))
        self.function = SimpleNamespace(spec=spec)
        self.items = []

    def enqueue(self, items):
        self.items += list(items)

    def put_back(self, items):
        self.items[:0] = items

    def drop_ended(self, count):
        self.items = [item for item in self.items if item.state is InputState.QUEUED]


class Machine(RuleBasedStateMachine):
    calls_made = Bundle("calls_made")

    @initialize()
    def begin_empty(self):
        self.clock = HeldClock()
        self.interrupted = []
        self.calls = Calls(self.clock, self.interrupted.append)
        self.queue = Queue()
        self.caller = Receiver()
        self.made = []
        self.items = []
        self.counts = {}
        self.values = {}
        self.collectors = {}

    # ---- beginning ----

    @rule(
        target=calls_made,
        shape=st.sampled_from(["map", "spawn", "unary", "generator"]),
        refused=st.booleans(),
        count=st.integers(0, 4),
    )
    def begin(self, shape, refused, count):
        call = self.calls.begin(
            f"fc-{len(self.made)}", self.queue, "", shape, None if shape == "spawn" else self.caller
        )
        call.refusal = "InvalidError: no" if refused and not self.made else ""
        self.made.append(call)
        self.add(call, 1 if shape in ("unary", "generator") else count)
        return call

    @rule(call=calls_made, count=st.integers(1, 4))
    def more_inputs(self, call, count):
        if call.count is None and call.id in self.calls.by_id:
            self.add(call, count)

    def add(self, call, count):
        first = self.counts.get(call.id, 0)
        self.counts[call.id] = first + count
        self.calls.add(call, first, [b"x"] * count)
        made = [item for index, item in sorted(call.inputs.items()) if index >= first]
        assert len(made) == (0 if call.refusal or call.cancelled else count), "they run, or have ended at once"
        self.items += made

    @rule(call=calls_made)
    def end_inputs(self, call):
        if call.count is None and call.id in self.calls.by_id:
            self.calls.end_inputs(call, self.counts.get(call.id, 0))

    # ---- running ----

    @precondition(lambda self: self.queue.items)
    @rule(count=st.integers(1, 6))
    def dispatch(self, count):
        taken, self.queue.items = self.queue.items[:count], self.queue.items[count:]
        for item in taken:
            self.calls.dispatched(item, SimpleNamespace(stop_reason=""), 1)
            item.started_at = self.clock.now()

    @property
    def live(self):
        return [item for item in self.items if item.state is InputState.RUNNING]

    @precondition(lambda self: any(item.call.shape == "generator" for item in self.live))
    @rule(data=st.data())
    def yields(self, data):
        item = data.draw(st.sampled_from([item for item in self.live if item.call.shape == "generator"]))
        self.calls.values(item, [b"v"])
        self.values[id(item)] = item.attempt, item.losses

    @precondition(lambda self: self.live)
    @rule(data=st.data(), status=st.sampled_from([Status.OK, Status.OK, Status.ERROR, Status.CANCELLED]))
    def comes_back(self, data, status):
        item = data.draw(st.sampled_from(self.live))
        doom = item.doom
        self.calls.results([(item, status, b"")])
        if doom == "timeout":
            assert item.state is not InputState.SUCCEEDED, "a late result is too late"
        if status == Status.OK and doom in ("", "requeue"):
            assert item.state is InputState.SUCCEEDED, "no result is thrown away"

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def container_dies(self, data):
        """With all that it runs, the first of which had begun."""
        live = self.live
        count = data.draw(st.integers(1, len(live)))
        for item in live[1:count]:
            item.started_at = None
        free = [item for item in live[1:count] if not item.doom and not item.yielded and not item.call.cancelled]
        free = [item for item in free if item.losses < MAX_LOSSES]
        before, cancelled = list(self.queue.items), [item for item in live[:count] if item.doom == "cancel"]
        self.calls.crashed(live[:count], "killed by signal 9")
        assert all(item.state is InputState.CANCELLED for item in cancelled), "whatever made it end"
        back = self.queue.items[: len(self.queue.items) - len(before)]
        assert [item for item in back if item in free] == free, "requeued in their order"

    @precondition(lambda self: self.live)
    @rule()
    def worker_is_lost(self):
        """All that runs is interrupted, to be run elsewhere."""
        live = [item for item in self.live if not item.doom]
        for item in live:
            item.doom = "requeue"
        self.calls.results([(item, Status.CANCELLED, b"") for item in live])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def given_back(self, data):
        item = data.draw(st.sampled_from(self.live))
        if not item.yielded:
            losses = item.losses
            self.calls.returned([item])
            assert item.losses == losses, "asked back: no loss"

    @precondition(lambda self: self.live)
    @rule(data=st.data(), why=st.sampled_from(["timeout", "requeue"]))
    def doomed(self, data, why):
        item = data.draw(st.sampled_from(self.live))
        item.doom = item.doom or why

    # ---- ending ----

    @rule(call=calls_made, running=st.booleans(), really=st.integers(0, 3))
    def cancel(self, call, running, really):
        if not really:
            self.calls.cancel(call, running=running)

    @precondition(lambda self: len(self.collectors) < 10)
    @rule(call=calls_made)
    def collect(self, call):
        if call.owner is None and call.id in self.calls.by_id:
            receiver = Receiver()
            rid = len(self.collectors)
            self.collectors[rid] = (call, receiver)
            self.calls.collect(call, Collect(rid, call.id), receiver)

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0]))
    def time_passes(self, seconds):
        self.clock.pass_time(seconds)

    # ---- what holds ----

    @invariant()
    def nothing_is_lost(self):
        queued = [item for item in self.queue.items if item.state is InputState.QUEUED]
        assert len(queued) == len(set(map(id, queued))), "queued twice"
        for item in self.items:
            ended = item.state not in LIVE
            if item.call.owner is not None:
                assert ((item.call.id, item.index) in self.caller.got) == ended
            assert item.attempt <= RETRIES + 1
            assert item.losses <= MAX_LOSSES + 1
            if id(item) in self.values:
                assert (item.attempt, item.losses) == self.values[id(item)] or ended, "its values would come twice"

    @invariant()
    def collectors_are_told(self):
        for rid, (call, receiver) in self.collectors.items():
            waiting = {item.index for item in self.items if item.call is call and item.state in LIVE}
            assert {index for _, index in receiver.got} == set(range(self.counts.get(call.id, 0))) - waiting
            assert receiver.done == ([rid] if call.done else [])

    def teardown(self):
        if not hasattr(self, "made"):
            return
        for call in self.made:
            if call.count is None and call.id in self.calls.by_id:
                self.calls.end_inputs(call, self.counts.get(call.id, 0))
            self.calls.cancel(call)
        for item in self.items:
            if item.state is InputState.RUNNING:
                self.calls.results([(item, Status.CANCELLED, b"")])
        assert all(call.done for call in self.made)
        self.nothing_is_lost()
        self.collectors_are_told()


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestCalls = Machine.TestCase
