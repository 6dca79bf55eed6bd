"""Serving inputs in batches: the user's code takes lists, and each input gets its own element of the list that it returns.

The server hands over a batch whole, and the next one when all of this one have ended. To the ways of serving inputs one
by one a batch is an input, :class:`Batch`; what is said to the server, and by it, is about its members.

A member that is cancelled before the batch begins is left out. Afterwards its caller is told, and the others go on; only
when nobody wants the batch any more is its code interrupted.
"""

from collections.abc import Iterable
from typing import Any

from greenroom.agent.boundary import Task
from greenroom.agent.serve import Agent, Item
from greenroom.model.errors import InputCancellation, InvalidError
from greenroom.usercode.definition import a
from greenroom.wire.messages import Status
from greenroom.wire.payload import Payload

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
OTHERS_FOLLOW = 0.05
"""Seconds after which a cancelled member is let go by itself: until then the others may be cancelled too, as they are by a
timeout, and none of them may begin anew elsewhere while the code runs on here."""


class Batch(Item):
    """Inputs that run at once; in the place of its first one, as far as it needs a number."""

    __slots__ = ("known", "members", "outcomes")

    def __init__(self, members: list[Item], known: "dict[int, Arguments] | None" = None) -> None:
        first = members[0]
        super().__init__(first.seq, first.call_id, first.index, first.method, first.shape, b"")
        self.members = members
        self.known = known or {}
        """Arguments that have been read, by the member's number."""
        self.outcomes: dict[int, tuple[str, Payload]] = {}
        """How members ended, where that is known."""


class BatchAgent(Agent):
    """An agent whose inputs are batches."""

    _begun = -1
    """The highest number of an input that has."""
    _batch: Batch | None = None
    """What runs."""
    _parts: tuple[Item, ...] = ()
    """What has arrived of a batch that isn't whole."""

    # ---- what arrives ----

    def _hold(self, items: list[Item], more: bool) -> None:
        self._parts = (*self._parts, *items)
        if self._parts and not more:
            self.pending.append(Batch(list(self._parts)))
            self._parts = ()

    def _waiting(self) -> Iterable[Item]:
        return [*(item for batch in self.pending if isinstance(batch, Batch) for item in batch.members), *self._parts]

    def _drop_waiting(self) -> list[Item]:
        dropped = super()._drop_waiting()
        self._parts = ()
        return dropped

    def next_item(self) -> Item | None:
        while True:
            with self._lock:
                if not self.pending:
                    return None
                batch = self.pending.popleft()
                assert isinstance(batch, Batch)
                members = [item for item in batch.members if not item.cancelled]
                cancelled = [item for item in batch.members if item.cancelled and not item.over]
                for item in cancelled:
                    item.over = True
                if members:
                    known = {item.seq: batch.known[item.seq] for item in members if item.seq in batch.known}
                    self._batch = Batch(members, known)
                    self._begun = max(self._begun, *(item.seq for item in members))
                    self._ledger.begin(self._begun)
                    self.running.update((item.seq, item) for item in members)
            self.outbox.put_all((item.seq, Status.CANCELLED, b"") for item in cancelled)
            if members:
                return self._batch

    # ---- cancelling, from the control thread ----

    def cancel(self, seq: int) -> Task | None:
        task = super().cancel(seq)
        if seq < 0:
            return task
        with self._lock:
            item = self.running.get(seq) or next((waits for waits in self._waiting() if waits.seq == seq), None)
            if item is None or item.over:
                return None
            batch = self._batch
            if batch is not None and self._is_for_nobody(batch, item):
                batch.cancelled = True
                return batch
        self.control.later(OTHERS_FOLLOW, lambda: self._let_go(item))
        return None

    def _is_for_nobody(self, batch: Batch, item: Item) -> bool:
        """``item``, which is cancelled, is of that batch, and so is none that isn't; the lock is held."""
        return item in batch.members and all(other.cancelled for other in batch.members if not other.over)

    def _let_go(self, item: Item) -> None:
        with self._lock:
            batch = self._batch
            if item.over:
                return
            last = batch is not None and self._is_for_nobody(batch, item)
            if not last:
                item.over = True
                self.running.pop(item.seq, None)
        if not last:
            self.outbox.put_all([(item.seq, Status.CANCELLED, b"")])
        elif batch is not None and not batch.cancelled:
            self.control.interrupt(item.seq)

    def is_running(self, task: Task) -> bool:
        return task is self.startup or (task is self._batch and not task.over)

    def _give_up(self, task: Task) -> None:
        super()._give_up(task)
        if isinstance(task, Batch) and task.given_up:
            for item in task.members:
                if not item.over:
                    self.control.has_given_up(item)

    # ---- running ----

    def arguments(self, item: Item) -> Arguments:
        """A list for each parameter; what can't be called with the others becomes a batch of its own, and comes next."""
        assert isinstance(item, Batch)
        failed: Exception | None = None
        for member in item.members:
            if member.seq not in item.known:
                try:
                    item.known[member.seq] = super().arguments(member)
                except Exception as error:  # noqa: BLE001 - of that one alone
                    failed = error
                    item.outcomes[member.seq] = Status.ERROR, self.pack_exception(error)
        if not item.known and failed is not None:
            raise failed
        first, *others = by_shape(item.known, self.target(item.method))
        if others:
            self._split(item, [*first, *item.outcomes], others)
        item.known = {}
        return in_lists(list(first.values()))

    def _split(self, batch: Batch, kept: Iterable[int], others: list[dict[int, Arguments]]) -> None:
        with self._lock:
            members = {item.seq: item for item in batch.members}
            batch.members = [members[seq] for seq in kept]
            for known in reversed(others):
                for seq in known:
                    self.running.pop(seq, None)
                left = [members[seq] for seq in known if not members[seq].over]
                if left:
                    self.pending.appendleft(Batch(left, known))

    def pack(self, item: Item, value: Any) -> Payload:
        """Keeps what each member gets; raises InvalidError when that can't be told."""
        assert isinstance(item, Batch)
        takers = [member for member in item.members if member.seq not in item.outcomes]
        if not isinstance(value, list) or len(value) != len(takers):
            was = (
                f"a list of {len(value)}"
                if isinstance(value, list)
                else a(type(value))
                if value is not None
                else "None"
            )
            name = f"{self.spec.name}.{item.method}" if item.method else self.spec.name
            raise InvalidError(
                f"{name} is @batched and returned {was}: it was called with lists of {len(takers)}, and must return a "
                f"list of {len(takers)}, the results of its inputs in their order"
            )
        for member, element in zip(takers, value, strict=True):
            try:
                item.outcomes[member.seq] = Status.OK, self.encode(element)
            except Exception as error:  # noqa: BLE001 - the element's own code, of whatever kind
                item.outcomes[member.seq] = Status.ERROR, self.pack_exception(error)
        return b""

    # ---- results ----

    def succeeded(self, item: Item, payload: Payload) -> None:
        stopped = item.cancelled and item.delivered
        self._end_batch(item, (Status.CANCELLED, b"") if stopped else None)

    def failed(self, item: Item, error: BaseException) -> None:
        if item.cancelled and (item.delivered or isinstance(error, InputCancellation)):
            self._end_batch(item, (Status.CANCELLED, b""))
        else:
            assert isinstance(item, Batch)
            packed = self.pack_exception(error)
            outcomes = {
                member.seq: (Status.CANCELLED, b"") if member.cancelled else (Status.ERROR, packed)
                for member in item.members
            }
            item.outcomes = {**outcomes, **{seq: end for seq, end in item.outcomes.items() if end[0] != Status.OK}}
            self._end_batch(item, None)

    def _end_batch(self, batch: Item, all_of_them: tuple[str, Payload] | None) -> None:
        assert isinstance(batch, Batch)
        with self._lock:
            self._batch = None
            batch.over = True
            members = [item for item in batch.members if not item.over]
            for item in members:
                item.over = True
                self.running.pop(item.seq, None)
        self.outbox.put_all((item.seq, *(all_of_them or batch.outcomes[item.seq])) for item in members)


def in_lists(arguments: list[Arguments]) -> Arguments:
    """Arguments of several calls, all of one shape, as those of one: a list in the place of each."""
    args = tuple(map(list, zip(*(args for args, _ in arguments), strict=True)))
    return args, {name: [kwargs[name] for _, kwargs in arguments] for name in arguments[0][1]}


def by_shape(arguments: dict[int, Arguments], function: Any) -> list[dict[int, Arguments]]:
    """Calls whose arguments go into lists beside each other; ``f(1, y=2)`` and ``f(1, 2)`` do, once told apart by name."""
    groups = _grouped(arguments)
    if len(groups) > 1:
        import inspect

        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # it has none that Python knows
            return groups
        groups = _grouped({seq: _spelled_alike(signature, *given) for seq, given in arguments.items()})
    return groups


def _grouped(arguments: dict[int, Arguments]) -> list[dict[int, Arguments]]:
    groups: dict[tuple[int, frozenset[str]], dict[int, Arguments]] = {}
    for seq, (args, kwargs) in arguments.items():
        groups.setdefault((len(args), frozenset(kwargs)), {})[seq] = args, kwargs
    return list(groups.values())


def _spelled_alike(signature: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:  # Python itself says what is wrong with it, when it is called so
        return args, kwargs
    return bound.args, bound.kwargs
