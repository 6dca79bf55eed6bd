"""One version of an app takes the place of another, request by request: the new one answers as soon as it can, and not before."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenroom.server.pools import Function, Pool
from greenroom.server.variants import function_of

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.core import Server

PATIENCE = 1.0
"""Seconds that a new version's container may wait for room beside the old one's, before that has to make room."""


class Replacement:
    """Of the app ``old`` by ``new``, whose functions are defined, and serve nothing yet.

    For each function that the old one has containers for, one is started beside them; once they are ready, requests can go
    there. ``then`` is called once, with ``""`` when all are, or with the reason why the old version must stay.
    """

    def __init__(self, server: "Server", old: "App | None", new: "App", then: Callable[[str], None]) -> None:
        self._server = server
        self._old = old
        self._new = new
        self._then: Callable[[str], None] | None = then
        self._waiting: set[Pool] = set()

    def begin(self) -> None:
        """Start what is to be warm, classes with options of their callers' included."""
        for function in list(self._old.functions.values()) if self._old is not None else ():
            if any(pool.containers for pool in function.pools.values()):
                function_of(self._server, self._new, function.spec.name)
        warm = [pool for function in self._new.functions.values() for pool in self._to_warm(function)]
        self._waiting.update(warm)
        for pool in warm:
            pool.on_start = lambda why, pool=pool: self._started(pool, why)
            pool.keep_warm(1)
        self._maybe_done()
        self._look_soon()

    def _to_warm(self, function: Function) -> list[Pool]:
        """Its pools, if the old version has containers at work for it: of each set of parameters that it has some for."""
        before = [f for f in self._old.functions.values() if f.spec.name == function.spec.name] if self._old else []
        live = {key: pool.binding for f in before for key, pool in f.pools.items() if pool.containers}
        if self._old is None or not live or function.refusal:
            return []
        if any(not function.spec.ports.isdisjoint(f.spec.ports) for f in self._old.functions.values()):
            return []  # two can't listen on one port: requests wait until the old one has left it
        parameters = _parameters(function)
        if not parameters or any(_parameters(f) != parameters for f in before):
            return list(filter(None, [function.pool("")]))
        for key, binding in live.items():
            if key not in function.pools:
                function.pools[key] = Pool(function, binding, self._server.lifecycle)
        return [function.pools[key] for key in live]

    def _started(self, pool: "Pool", why: str) -> None:
        if why:
            self._end(why)
            return
        pool.on_start = None
        self._waiting.discard(pool)
        self._maybe_done()

    def _look_soon(self) -> None:
        if self._then is not None:
            self._server.lifecycle.clock.call_later(PATIENCE, self._make_room)

    def _make_room(self) -> None:
        """If both versions don't fit, requests wait for the new one, while the old one ends."""
        if self._new.stopping is not None:
            self.give_up(f"{self._new.name} was stopped")
        elif any(c in self._server.lifecycle.placing.short for pool in self._waiting for c in pool.containers):
            self._waiting.clear()
            self._maybe_done()
        else:
            self._look_soon()

    def give_up(self, why: str) -> None:
        """The old version stays, unless the new one has taken its place already."""
        if self._then is not None:
            self._end(why)

    def _maybe_done(self) -> None:
        if not self._waiting and self._then is not None:
            self._end("")

    def _end(self, why: str) -> None:
        then, self._then = self._then, None
        for function in self._new.functions.values():
            for pool in function.pools.values():
                pool.on_start = None
                pool.keep_warm(0)
        if then is not None:
            then(why)


def _parameters(function: Function) -> Any:
    """What a class may be called with; of one that an earlier Greenroom has kept, what it takes from the query string."""
    asked = (m.web["parameters"] for m in function.spec.methods if m.web.get("parameters"))
    return function.spec.parameters or next(asked, {})
