"""Containers of deployed and detached apps that outlive their server, and have this one after it.

**While a server lives** it keeps, of each such container, who it is, and tells it which of its results are safe.
**When it has died** a container goes on for the reconnect window and looks for the next server. That has made a
:class:`Container` of each that was kept, STARTING, and waits until all of them have said what they run, or have ended, or
the window is over. Meanwhile whatever the last server may have handed out stays in hand: inputs that are kept, and calls
that their callers send again. What a container says it runs is taken from there. What one had begun that has died is said by
the worker, which reads its ledger (``worker/ledgers.py``): its results are taken, the rest has failed an attempt. What nobody
had begun is run.

**A container's end** is done with once what followed from it is safe: until then, who it is and its ledger are kept, and
the next server hears of it as if it had died only then.

A call that nobody kept and whose caller has not come back yet waits for him: see :class:`Orphan`.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from greenroom.model.app_logs import printed_by
from greenroom.model.container_state import ContainerState
from greenroom.model.errors import ProtocolError
from greenroom.server.allowance import MOST_CALL_ID
from greenroom.server.call import Call, Input
from greenroom.server.draining import heard
from greenroom.server.pools import Pool
from greenroom.server.variants import function_of
from greenroom.wire.payload import Payload, in_memory
from greenroom.wire.returning_messages import Kept, Resume, Returning
from greenroom.wire.status import Status

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.containers import Container
    from greenroom.server.core import Server
    from greenroom.server.store.containers import ContainerRow
    from greenroom.server.store.database import Database
    from greenroom.wire.messages import ContainerEnded

TOLD = "it was told to, by the server before this one"
SAY = 0.05
"""Seconds for which results that are safe gather until their containers are told."""
LATE = 2.0
"""Seconds beyond the window from which on nobody is waited for."""
MOST = 100_000
"""Inputs that one container may say it has."""
_SHAPES = frozenset({"unary", "map", "spawn", "generator", "web"})
_PASSING = frozenset({"generator", "web"})
"""Calls that ended with the connection that they came on."""


class Orphan:
    """A call whose caller has not come back yet: what runs of it, and how the rest of what had begun ended."""

    def __init__(self, call_id: str, pool: Pool, method: str, shape: str) -> None:
        self.calls: set[Call] = set()
        self.call = Call(call_id, pool, method, shape, self)
        self.call.count = None  # whatever becomes of these inputs, it is not over
        self._ended: dict[int, tuple[str, str, Payload]] = {}

    def send(self, message: Any, payloads: "list[Payload] | None" = None) -> None:
        """See :class:`greenroom.server.call.Receiver`."""
        for (index, status, detail), payload in zip(message.items, payloads or [], strict=True):
            self._ended[index] = status, detail, payload

    def take(self, index: int) -> Input | tuple[str, str, Payload] | None:
        """See :class:`greenroom.server.call.Before`."""
        return self.call.inputs.pop(index, None) or self._ended.pop(index, None)

    def add(self, index: int) -> Input:
        """An input of it, whose arguments only its caller and its container know."""
        item = self.call.inputs[index] = Input(self.call, index, b"")
        return item

    def runs_in(self, container: "Container") -> bool:
        """Whether that container has an input of it."""
        return any(item.container is container for item in self.call.inputs.values())


class Returns:
    """Of one server, which stays."""

    def __init__(self, server: "Server", store: "Database") -> None:
        from greenroom.server.store import containers

        self._rows: Any = containers
        self._server = server
        self._store = store
        self._left: dict[str, list[tuple[ContainerRow, int]]] = {}
        """Of each app's id, those that the last server had, and how many bytes of their output it had kept."""
        self._by_hash: dict[str, Container] = {}
        self._missing: set[Container] = set()
        """Those that have not come back, nor ended."""
        self._to_resume: list[Callable[[], None]] = []
        """What is to be done with those that have come back, or died, before all that was kept was there."""
        self._dead: set[Container] = set()
        """Those that have died, and whose inputs are being looked for."""
        self._ended: set[str] = set()
        """Those that have ended, while what followed is not known to be safe."""
        self._ready = False
        """All that was kept is there."""
        self.begun = False
        """It is known whom the worker has to look after."""
        self._unsaid: dict[Container, list[int]] = {}
        self.orphans: dict[str, Orphan] = {}
        """By the call's id."""

    # ---- while it lives ----

    @property
    def window(self) -> float:
        """Seconds that containers go on without their server."""
        return self._server.settings.reconnect_window

    def starts(self, container: "Container") -> bool:
        """Whether that container, which starts, may outlive this server; then it is kept."""
        app = container.pool.function.app
        if not (app.deployed or app.detached) or not self.window:
            return False
        pool, token = container.pool, _hash(container.token)
        key = next(key for key, other in pool.function.pools.items() if other is pool)
        row = self._rows.ContainerRow(
            container.id, token, app.name, app.id, pool.function.spec.function_id, key, in_memory(pool.binding),
            container.created_at,
        )  # fmt: skip
        container.outlives = True
        self._store.write(lambda c: self._rows.add_container(c, row), _unheard)
        return True

    def ended(self, container: "Container") -> None:
        """It has."""
        self._unsaid.pop(container, None)
        self._dead.discard(container)
        if container.outlives:
            loop, container_id = self._server.loop, container.id
            self._ended.add(container_id)
            # A result that nobody keeps is safe when it has left; which it has by the time that containers are told so.
            self._when_kept(lambda: loop.call_later(SAY, self._forget, container_id))
        self._settled(container)

    def _when_kept(self, callback: Callable[[], object]) -> None:
        if (durable := self._server.durable) is not None:
            durable.when_kept(callback)

    def _forget(self, container_id: str) -> None:
        """Nobody has to know any more that it was there."""

        def forgotten(done: "Future[None]") -> None:
            if done.exception() is None:
                self._server.settled(container_id)

        if container_id in self._ended:
            self._ended.discard(container_id)
            self._store.write(lambda c: self._rows.remove_containers(c, [container_id]), forgotten)

    def flush(self) -> None:
        """The store is about to be closed, and has been given all that followed."""
        for container_id in list(self._ended):
            self._forget(container_id)

    def came(self, container: "Container", seqs: list[int]) -> None:
        """Results of it have come, and what has to be kept of them will be by the end of this turn's commit."""
        self._when_kept(lambda: self._safe(container, seqs))

    def _safe(self, container: "Container", seqs: list[int]) -> None:
        if not self._unsaid:
            self._server.loop.call_later(SAY, self._say_kept)
        self._unsaid.setdefault(container, []).extend(seqs)

    def _say_kept(self) -> None:
        unsaid, self._unsaid = self._unsaid, {}
        for container, seqs in unsaid.items():
            if container.control is not None:
                container.control.send(Kept(seqs))

    # ---- beginning ----

    def find(self, then: Callable[[], None]) -> None:
        """Know which containers the last server had; ``then`` is called once that is known."""

        def found(done: "Future[list[ContainerRow]]") -> None:
            rows = done.result()

            def printed(done: Future[dict[str, int]]) -> None:
                sizes = done.result() if done.exception() is None else {}
                for row in rows:
                    self._left.setdefault(row.app_id, []).append((row, sizes.get(row.id, 0)))
                then()

            self._server.disk.do(lambda: printed_by(self._server.home, [(row.app, row.id) for row in rows]), printed)

        self._store.read_at_last(self._rows.all_containers, found)

    def expects(self, app_id: str) -> bool:
        """Whether containers of that app may come back."""
        return app_id in self._left

    def expects_of_others(self, app: "App") -> bool:
        """Whether containers of other apps of its name may come back, which are not defined yet."""
        return any(row.app == app.name and row.app_id != app.id for rows in self._left.values() for row, _ in rows)

    @property
    def unclaimed(self) -> list[str]:
        """Ids of apps whose containers may come back, and that are not defined."""
        return [app_id for app_id in self._left if app_id]

    def expect(self, app: "App") -> None:
        """It is defined: have a container for each that may come back."""
        lifecycle = self._server.lifecycle
        for row, printed in self._left.pop(app.id, ()):
            function = function_of(self._server, app, row.function_id.removeprefix(f"{app.id}/"))
            if function is None or (row.binding == "" and "" not in function.pools):
                self._left.setdefault("", []).append((row, printed))
                continue
            pool = function.pools.get(row.binding)
            if pool is None:
                pool = function.pools[row.binding] = Pool(function, row.arguments, lifecycle)
            container = lifecycle.containers.restore(pool, row.id, row.created_at)
            container.log_bytes = printed
            self._by_hash[row.token] = container
            self._missing.add(container)
            lifecycle.await_return(container, self.window + LATE, partial(self._not_back, container))

    def begin(self) -> "list[Container]":
        """All apps are there: those that are expected. Nothing that may have been handed out is, until they have been heard."""
        gone = [row.id for rows in self._left.values() for row, _ in rows]
        self._left.clear()
        self._store.write(lambda c: self._rows.remove_containers(c, gone), _unheard)
        self._server.lifecycle.calls.hold()
        self.begun = True
        return list(self._missing)

    def restored(self) -> None:
        """All calls that were kept are there."""
        self._ready = True
        waiting, self._to_resume = self._to_resume, []
        for resume in waiting:
            resume()
        self._maybe_met()

    # ---- coming back ----

    def by_token(self, token: str) -> "Container | None":
        """The container with that token, of those that the last server had."""
        container = self._by_hash.get(_hash(token)) if self._by_hash else None
        if container is not None and not container.token:
            container.token = token
            self._server.lifecycle.containers.by_token[token] = container
        return container

    def came_back(self, container: "Container", message: Returning) -> None:
        """It says what it has; raises ProtocolError."""
        if container not in self._missing or container.state is not ContainerState.ENTERING:
            raise ProtocolError("it comes back, and was not away")
        check(container, message)
        self._when_here(message, lambda: self._take_back(container, message))

    def _when_here(self, message: Returning, then: Callable[[], None]) -> None:
        """``then`` is called once the inputs that a container speaks of are here, as far as they were kept."""
        if self._ready:
            self._fetch(message, then)
        else:
            self._to_resume.append(lambda: self._fetch(message, then))

    def _fetch(self, message: Returning, then: Callable[[], None]) -> None:
        durable, by_id = self._server.durable, self._server.lifecycle.calls.by_id
        last: dict[Call, int] = {}
        for _, call_id, index, _, _ in message.items:
            call = by_id.get(call_id)
            if call is not None and call.stored:
                last[call] = max(index, last.get(call, -1))
        left = len(last)

        def loaded() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        if not last or durable is None:
            then()
            return
        for call, index in last.items():
            durable.load_until(call, index, loaded)

    def _take_back(self, container: "Container", message: Returning) -> None:
        if container.state is not ContainerState.ENTERING or container.data is None:
            return  # it has gone meanwhile, or is to
        self._claim(container, message)
        container.outlives = True
        container.data.send(Resume())
        app, stopping = container.pool.function.app, container.stop_reason
        if not stopping:
            stopping = (
                f"another version of {app.name} was deployed" if app.replaced else TOLD if message.stopping else ""
            )
        self._server.lifecycle.came_back(container, stopping)
        self._settled(container)

    def _claim(self, container: "Container", message: Returning) -> None:
        """What it has is its own from now on."""
        container.next_seq = message.next_seq
        for seq, call_id, index, method, shape in message.items:
            item = self._input(container, call_id, index, method, shape)
            same = item is not None and in_memory(item.call.pool.binding) == in_memory(container.pool.binding)
            if item is None or not same or not self._server.lifecycle.calls.claim(item, container, seq):
                container.let_go.add(seq)

    def died(self, container: "Container", message: "ContainerEnded", payloads: list[Payload]) -> None:
        """It has ended, and its worker says what it had begun and finished."""
        if container in self._dead:
            return
        self._dead.add(container)
        had = Returning(message.items, 1 + max((_number(item) for item in message.items), default=-1))
        try:
            check(container, had)
        except ProtocolError:  # user code may have written there
            had = Returning([], 0)
        lifecycle = self._server.lifecycle

        def here() -> None:
            if container in self._missing and container.live:
                self._claim(container, had)
            finished = list(zip(message.finished, message.statuses, payloads, strict=True))
            lifecycle.settle(container, -1, finished)
            if not message.reason:  # it ended in order, for want of a server: what it broke off has cost nothing
                stopped = [seq for seq, status, _ in finished if status == Status.CANCELLED]
                lifecycle.calls.requeue([container.running.pop(seq) for seq in stopped if seq in container.running])
            lifecycle.gone(container, message.reason, message.started)

        self._when_here(had, here)

    def _input(self, container: "Container", call_id: str, index: int, method: str, shape: str) -> Input | None:
        """What it runs, of a call that was kept or whose caller has come back; else of one that waits for its caller."""
        call = self._server.lifecycle.calls.by_id.get(call_id)
        if call is not None and ((found := call.inputs.get(index)) is not None or not call.again):
            return found
        if shape in _PASSING:
            return None
        orphan = self.orphans.get(call_id)
        if orphan is None:
            orphan = self.orphans[call_id] = Orphan(call_id, container.pool, method, shape)
            if call is not None:
                call.before = orphan
        return orphan.add(index)

    def _not_back(self, container: "Container") -> None:
        self._server.lifecycle.not_back(container)
        self._settled(container)

    def _settled(self, container: "Container") -> None:
        if container in self._missing:
            self._missing.discard(container)
            self._maybe_met()

    def _maybe_met(self) -> None:
        if not self._ready or self._missing or self._server.lifecycle.calls.held is None:
            return
        self._by_hash.clear()
        heard(self._server)
        self._server.lifecycle.calls.release()
        for app in [app for app in self._server.apps.values() if app.replaced]:
            self._server.maybe_stopped(app)
        self._server.loop.call_later(self.window + LATE, self._forget_orphans)

    def _forget_orphans(self) -> None:
        """Their callers have had their time."""
        orphans, self.orphans = self.orphans, {}
        for orphan in orphans.values():
            self._server.lifecycle.calls.cancel(orphan.call, "its caller did not come back")


def check(container: "Container", message: Returning) -> None:
    """Whether it can be so; raises ProtocolError."""
    if message.next_seq < 0 or len(message.items) > MOST:
        raise ProtocolError("it comes back with what can't be")
    methods = {method.name for method in container.pool.function.spec.methods}
    seen: set[int] = set()
    for item in message.items:
        if type(item) is not list or [type(part) for part in item] != [int, str, int, str, str]:
            raise ProtocolError("an input that it has is no list of its number, call, index, method and shape")
        seq, call_id, index, method, shape = item
        if not 0 <= seq < message.next_seq or seq in seen or index < 0 or len(call_id) > MOST_CALL_ID:
            raise ProtocolError(f"it can't have an input {seq}")
        if method not in methods or shape not in _SHAPES:
            raise ProtocolError(f"it has an input of {method[:40]!r}, a {shape[:40]!r} call")
        seen.add(seq)


def _number(item: Any) -> int:
    return item[0] if type(item) is list and item and type(item[0]) is int else -1


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _unheard(done: "Future[Any]") -> None:
    """What can't be kept costs a container no more than that it ends with this server."""
