"""Containers of deployed apps that outlive their server, and have this one after it.

**While a server lives** it keeps, of each such container, who it is, and tells it which of its results are safe.
**When it has died** a container goes on for the reconnect window and looks for the next server. That has made a
:class:`Container` of each that was kept, STARTING, and waits until all of them have said what they run, or have ended, or
the window is over. Meanwhile whatever the last server may have handed out stays in hand: inputs that are kept, and calls
that their callers send again. What a container says it runs is taken from there; the rest has not begun, or its container
has died, and is run.

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
from greenroom.server.pools import Pool
from greenroom.server.variants import function_of
from greenroom.wire.payload import Payload, in_memory
from greenroom.wire.returning_messages import Kept, Resume, Returning

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.containers import Container
    from greenroom.server.core import Server
    from greenroom.server.store.containers import ContainerRow
    from greenroom.server.store.database import Database

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
        self._to_resume: list[tuple[Container, Returning]] = []
        """Those that have come back before all that was kept was there."""
        self._ready = False
        """All that was kept is there."""
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
        if not app.deployed or not self.window:
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
        if container.outlives:
            self._store.write(lambda c: self._rows.remove_containers(c, [container.id]), _unheard)
        self._settled(container)

    def came(self, container: "Container", seqs: list[int]) -> None:
        """Results of it have come, and what has to be kept of them will be by the end of this turn's commit."""
        if (durable := self._server.durable) is not None:
            durable.when_kept(lambda: self._safe(container, seqs))

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

        self._store.read(self._rows.all_containers, found)

    def expects(self, app: "App") -> bool:
        """Whether containers of that app may come back."""
        return app.id in self._left

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
        return list(self._missing)

    def restored(self) -> None:
        """All calls that were kept are there."""
        self._ready = True
        waiting, self._to_resume = self._to_resume, []
        for container, message in waiting:
            self._resume(container, message)
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
        if self._ready:
            self._resume(container, message)
        else:
            self._to_resume.append((container, message))

    def _resume(self, container: "Container", message: Returning) -> None:
        """Its inputs, where they are not here yet, are fetched; then it goes on."""
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
                self._take_back(container, message)

        if not last or durable is None:
            self._take_back(container, message)
        for call, index in last.items():
            assert durable is not None
            durable.load_until(call, index, loaded)

    def _take_back(self, container: "Container", message: Returning) -> None:
        if container.state is not ContainerState.ENTERING or container.data is None:
            return  # it has gone meanwhile, or is to
        calls = self._server.lifecycle.calls
        container.next_seq = message.next_seq
        for seq, call_id, index, method, shape in message.items:
            item = self._input(container, call_id, index, method, shape)
            if item is None or not calls.claim(item, container, seq):
                container.let_go.add(seq)
        container.outlives = True
        container.data.send(Resume())
        self._server.lifecycle.came_back(container)
        self._settled(container)

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
        self._server.lifecycle.calls.release()
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


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _unheard(done: "Future[Any]") -> None:
    """What can't be kept costs a container no more than that it ends with this server."""
