"""Calls and their inputs: how they begin, are tried again, end, and where their outputs go.

This module alone moves an input through its table (``model/input_state.py``).
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from greenroom.model.input_state import InputEvent, InputState, next_state
from greenroom.server.allowance import Allowance
from greenroom.server.call import Call, Input, Receiver
from greenroom.server.clock import Clock
from greenroom.server.delivery import deliver
from greenroom.wire.messages import Collect, Done, Failed, Outputs, Status, Values
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.server.containers import Container
    from greenroom.server.pools import Pool
    from greenroom.server.store.calls import InputRow

E, S = InputEvent, InputState

CANCELLED = "the call was cancelled"
MAX_LOSSES = 8
"""Times that an input is requeued for free because its container was lost."""


class Calls:
    """Every call that is not over, and the spawned ones that are."""

    def __init__(self, clock: Clock, interrupt: Callable[[Input], None]) -> None:
        self._clock = clock
        self._interrupt = interrupt
        self.by_id: dict[str, Call] = {}
        self.held: list[Input] | None = None
        """What the server before this one may have handed out, until all its containers have been heard; None: they have."""

    # ---- beginning ----

    def begin(
        self,
        call_id: str,
        pool: "Pool",
        method: str,
        shape: str,
        owner: Receiver | None,
        allowance: Allowance | None = None,
    ) -> Call:
        """A call without inputs yet."""
        call = self.by_id[call_id] = Call(call_id, pool, method, shape, owner, allowance)
        if allowance is not None:
            allowance.begin(call)
        if owner is not None:
            owner.calls.add(call)
        return call

    def add(self, call: Call, first: int, payloads: Iterable[Payload]) -> None:
        """More inputs, into the queue; of a call that was refused or cancelled they end at once."""
        if call.again:
            self._add_again(call, first, payloads)
            return
        added = [Input(call, index, payload) for index, payload in enumerate(payloads, first)]
        for item in added:
            call.inputs[item.index] = item
            if call.allowance is not None:
                call.allowance.hold(item.payload)
        call.added += len(added)
        call.next_index = first + len(added)
        if call.refusal:
            for item in added:
                self._end(item, E.FAIL, Status.REFUSED, call.refusal, b"")
        elif call.cancelled:
            for item in added:
                self._end(item, E.CANCEL, Status.CANCELLED, call.cancelled, b"")
        else:
            call.pool.enqueue(added)

    def take_up(self, call: Call, rows: "Iterable[InputRow]") -> None:
        """Inputs of a call that are kept, and that are not here yet."""
        added = []
        for row in rows:
            item = call.inputs[row.idx] = Input(call, row.idx, row.payload)
            item.attempt, item.losses, item.tried = row.attempt, row.losses, row.tried
            added.append(item)
        self._enqueue(call, added)

    def _add_again(self, call: Call, first: int, payloads: Iterable[Payload]) -> None:
        """Inputs that its caller says again: some may run, or have ended."""
        fresh: list[Input] = []
        for index, payload in enumerate(payloads, first):
            known = call.before.take(index) if call.before is not None else None
            item = known if isinstance(known, Input) else Input(call, index, payload)
            item.call, item.payload, call.inputs[index] = call, payload, item
            if known is item and item.state is S.QUEUED:
                known = None  # it ran, and is to run again
            call.added += 1
            call.next_index = index + 1
            if call.allowance is not None:
                call.allowance.hold(payload)
            if isinstance(known, tuple):
                status, detail, output = known
                item.state = next_state(item.state, E.DISPATCHED)
                over = status in (Status.OK, Status.END)
                self._end(item, E.SUCCEED if over else E.FAIL, status, detail, output)
            elif call.refusal and known is None:
                self._end(item, E.FAIL, Status.REFUSED, call.refusal, b"")
            elif call.cancelled and known is None:
                self._end(item, E.CANCEL, Status.CANCELLED, call.cancelled, b"")
            elif known is None:
                fresh.append(item)
        self._enqueue(call, fresh)

    def _enqueue(self, call: Call, items: list[Input]) -> None:
        """Of a call that the server before this one had."""
        if self.held is None:
            call.pool.enqueue(items)
        else:
            self.held += items

    def hold(self) -> None:
        """What the server before this one may have handed out stays in hand from now on."""
        self.held = []

    def release(self) -> None:
        """All that it handed out and that still runs has been claimed: the rest is run."""
        held, self.held = self.held or [], None
        pools: dict[Pool, list[Input]] = {}
        for item in held:
            if item.state is S.QUEUED:
                pools.setdefault(item.call.pool, []).append(item)
        for pool, items in pools.items():
            pool.enqueue(items)

    def claim(self, item: Input, container: "Container", seq: int) -> bool:
        """A container that outlived its server has that input; False: it can't be so."""
        here, there = item.call.pool.function, container.pool.function
        if item.state is not S.QUEUED or (here.spec.name, here.app.name) != (there.spec.name, there.app.name):
            return False
        if item.tried and item.tried == _trial(container, seq):
            return False  # that attempt has failed, and it is known by now
        self.dispatched(item, container, seq)
        item.started_at = self._clock.now()
        container.running[seq] = item
        return True

    def end_inputs(self, call: Call, count: int) -> None:
        """No more inputs will come."""
        call.count = count
        self._maybe_over(call)

    # ---- running ----

    def dispatched(self, item: Input, container: "Container", seq: int) -> None:
        """``item`` is on its way to ``container``."""
        item.state = next_state(item.state, E.DISPATCHED)
        item.container = container
        item.seq = seq
        item.doom = ""

    def results(self, taken: list[tuple[Input, str, Payload]]) -> None:
        """Inputs came back from a container: ``(input, status, payload)``. Each was taken off its container."""
        call: Call | None = None
        items: list[list[Any]] = []
        payloads: list[Payload] = []
        for item, status, payload in taken:
            if status == Status.OK and not item.doom:
                # The common case, kept short: results, many of one call in one frame.
                if item.call is not call:
                    self._deliver_batch(call, items, payloads)
                    call, items, payloads = item.call, [], []
                item.state = next_state(item.state, E.SUCCEED)
                item.container = None
                if call.allowance is not None:
                    call.allowance.release(item)
                del call.inputs[item.index]
                call.finished += 1
                items.append([item.index, status, ""])
                payloads.append(payload)
            else:
                self._came_back(item, status, payload)
        self._deliver_batch(call, items, payloads)

    def _deliver_batch(self, call: Call | None, items: list[list[Any]], payloads: list[Payload]) -> None:
        if call is not None:
            self._deliver(call, items, payloads)
            self._maybe_over(call)

    def _deliver(self, call: Call, items: list[list[Any]], payloads: list[Payload]) -> None:
        """Inputs of a call have ended: ``[index, status, detail]``, and their outputs."""
        if call.owner is not None:
            call.owner.send(Outputs(call.id, items, []), payloads)
            return
        for (index, status, detail), payload in zip(items, payloads, strict=True):
            call.outputs[index] = (status, detail, payload)
            if call.allowance is not None:
                call.allowance.hold(payload)
        for receiver, _ in call.collectors:
            deliver(receiver, call.id, ((*item, payload) for item, payload in zip(items, payloads, strict=True)))
        if call.keeper is not None:
            call.keeper.ended(call, items, payloads)

    def _came_back(self, item: Input, status: str, payload: Payload) -> None:
        stopped = item.container.stop_reason if item.container is not None else ""
        cancelled = item.call.cancelled or (f"{CANCELLED}: {stopped}" if stopped else CANCELLED)
        _note_trial(item)
        doom, item.doom, item.container = item.doom, "", None
        over = status in (Status.OK, Status.END)
        if doom == "timeout" and (over or status == Status.CANCELLED):
            # A result that comes after all comes too late: what a timeout means must not hang on who is faster.
            timeout = item.call.pool.function.spec.timeout
            self._failed(item, E.TIME_OUT, Status.TIMEOUT, f"{_name(item)} ran past its timeout of {timeout:g} s", b"")
        elif over and doom != "cancel":
            self._end(item, E.SUCCEED, status, "", payload)
        elif status == Status.CANCELLED and doom == "requeue":
            self.requeue([item])
        elif over or status == Status.CANCELLED:
            self._end(item, E.CANCEL, Status.CANCELLED, cancelled, b"")
        else:
            self._failed(item, E.FAIL, status, "", payload)

    def crashed(self, items: Iterable[Input], reason: str) -> None:
        """The container that ran these inputs is gone; those that had begun have failed an attempt."""
        back: list[Input] = []
        for item in items:
            begun, doom = item.started_at is not None, item.doom
            _note_trial(item)
            item.container, item.started_at, item.doom = None, None, ""
            if doom == "cancel":
                self._end(item, E.CANCEL, Status.CANCELLED, item.call.cancelled or CANCELLED, b"")
            elif doom == "timeout":
                timeout = item.call.pool.function.spec.timeout
                text = f"{_name(item)} ran past its timeout of {timeout:g} s and did not stop"
                self._failed(item, E.TIME_OUT, Status.TIMEOUT, text, b"")
            elif doom == "requeue" or not begun:
                if not doom:
                    item.losses -= 1  # it waited behind the one that crashed: no loss of its own
                back.append(item)
            else:
                self._failed(item, E.FAIL, Status.CRASHED, f"the container of {_name(item)} died: {reason}", b"")
        self.requeue(back)

    def requeue(self, items: Iterable[Input]) -> None:
        """Back into the queue, at its front, at no cost; but not for ever."""
        back: list[Input] = []
        for item in items:
            item.container, item.started_at, item.doom = None, None, ""
            item.losses += 1
            if not item.is_whole:
                item.call.inputs.pop(item.index, None)  # its caller, once he is back, says it again
            elif item.call.cancelled:
                self._end(item, E.CANCEL, Status.CANCELLED, item.call.cancelled or CANCELLED, b"")
            elif item.yielded:
                text = f"the container or worker of {_name(item)} was lost after values of it had been taken"
                self._end(item, E.FAIL, Status.CRASHED, text, b"")
            elif item.losses > MAX_LOSSES:
                text = f"{_name(item)} was given back {MAX_LOSSES} times because its container or worker was lost"
                self._end(item, E.FAIL, Status.CRASHED, text, b"")
            else:
                item.state = next_state(item.state, E.REQUEUE)
                back.append(item)
        for pool in {item.call.pool for item in back}:
            pool.put_back([item for item in back if item.call.pool is pool])

    def returned(self, items: list[Input]) -> None:
        """A container gave these back unbegun, because we asked."""
        for item in items:
            item.losses -= 1
        self.requeue(items)

    def _failed(self, item: Input, event: InputEvent, status: str, detail: str, payload: Payload) -> None:
        """An attempt has failed: try again, or end."""
        item.attempt += 1
        item.started_at = None
        retries = item.call.pool.function.spec.retries
        if not item.is_whole and item.attempt <= retries.max_retries:
            item.state = next_state(item.state, E.RETRY)  # its caller, once he is back, says it again
            return
        if item.call.cancelled or item.attempt > retries.max_retries or item.yielded:
            self._end(item, event, status, detail, payload)
            return
        item.state = next_state(item.state, E.RETRY)
        if item.call.keeper is not None:
            item.call.keeper.failed(item)

        def again() -> None:
            if item.state is S.QUEUED:
                item.call.pool.enqueue([item])

        self._clock.call_later(retries.delay(item.attempt), again)

    # ---- ending ----

    def refuse(self, item: Input, detail: str) -> None:
        """A queued input that can't be run; ``detail`` is ``ErrorName: text``."""
        self._end(item, E.FAIL, Status.REFUSED, detail, b"")

    def fail_queued(self, items: Iterable[Input], status: str, detail: str, payload: Payload) -> None:
        """Queued inputs whose container can't start."""
        for item in items:
            if item.state is S.QUEUED:
                self._end(item, E.FAIL, status, detail, payload)

    def cancel(self, call: Call, reason: str = CANCELLED, *, running: bool = True) -> None:
        """Cancel what hasn't ended: queued inputs, and those that are still to come, at once; running ones by an interrupt.

        ``reason``: told the caller. ``running``: False lets those that run go on, until this is called once more.
        """
        first, call.cancelled = not call.cancelled, call.cancelled or reason
        if (first or running) and call.keeper is not None:
            call.keeper.cancelled(call, first=first, running=running)
        ended = 0
        for item in list(call.inputs.values()):
            if item.state is S.QUEUED and first:
                self._end(item, E.CANCEL, Status.CANCELLED, reason, b"")
                ended += 1
            elif item.state is S.RUNNING and running and not item.doom:
                item.doom = "cancel"
                self._interrupt(item)
        call.pool.drop_ended(ended)

    def owner_gone(self, owner: Receiver) -> None:
        """A connection closed: its calls are cancelled, and it collects nothing any more."""
        for call in list(owner.calls):
            call.collectors = [pair for pair in call.collectors if pair[0] is not owner]
            if call.owner is owner:
                self.cancel(call)
                # Nobody is left to say how many there are.
                call.count = call.finished + len(call.inputs)
                call.owner = _Nobody()
                self._maybe_over(call)

    def cut_short(self, call: Call, reason: str) -> None:
        """What has come of it is cancelled, and no more of it will come."""
        self.cancel(call, reason)
        if call.count is None:
            self.end_inputs(call, call.added)

    def collect(self, call: Call, request: Collect, receiver: Receiver) -> None:
        """Send a spawned call's outputs: those that are ready; where more will be, an empty message and they as they come; ``Done``."""
        deliver(receiver, call.id, ((index, *output) for index, output in sorted(call.outputs.items())))
        if call.done:
            receiver.send(Done(request.rid, {"count": call.count}))
        else:
            call.collectors.append((receiver, request.rid))
            receiver.calls.add(call)
            receiver.send(Outputs(call.id, [], []), [])  # that is all there is now

    def values(self, item: Input, payloads: list[Payload]) -> None:
        """A generator has yielded."""
        item.yielded += len(payloads)
        if item.call.owner is not None:
            item.call.owner.send(Values(item.call.id, []), payloads)

    def _end(self, item: Input, event: InputEvent, status: str, detail: str, payload: Payload) -> None:
        item.state = next_state(item.state, event)
        call = item.call
        if call.allowance is not None:
            call.allowance.release(item)
        item.container, item.payload = None, b""
        call.inputs.pop(item.index, None)
        call.finished += 1
        self._deliver(call, [[item.index, status, detail]], [payload])
        self._maybe_over(call)

    def drop(self, call: Call, reason: str) -> None:
        """Forget a call whose app has ended; whoever still waits for it is told."""
        self.by_id.pop(call.id, None)
        for receiver, rid in call.collectors:
            receiver.calls.discard(call)
            receiver.send(Failed(rid, "NotFoundError", reason))
        call.collectors.clear()

    def ended_elsewhere(self, call: Call, count: int) -> None:
        """So many inputs of it have ended that never came here."""
        call.finished += count
        self._maybe_over(call)

    def _maybe_over(self, call: Call) -> None:
        if not call.done:
            return
        if call.allowance is not None:
            call.allowance.over(call)
            call.allowance = None
        if call.owner is not None:
            self.by_id.pop(call.id, None)
            call.owner.calls.discard(call)
        for receiver, rid in call.collectors:
            receiver.calls.discard(call)
            receiver.send(Done(rid, {"count": call.count}))
        call.collectors.clear()
        if call.keeper is not None:
            call.keeper.over(call)


class _Nobody:
    """Takes the outputs of a call whose caller has gone."""

    def __init__(self) -> None:
        self.calls: set[Call] = set()

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Nothing to do: nobody waits."""


def _note_trial(item: Input) -> None:
    if item.call.keeper is not None and item.container is not None:
        item.tried = _trial(item.container, item.seq)


def _trial(container: "Container", seq: int) -> str:
    """Names one attempt of an input."""
    return f"{container.id} {seq}"


def _name(item: Input) -> str:
    spec = item.call.pool.function.spec
    return f"{spec.name}.{item.call.method}" if item.call.method else spec.name
