"""Kept calls that the last server had not ended: this one goes on with them."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from greenroom.server.detached import function_kept, why_none
from greenroom.server.draining import pool_left
from greenroom.server.pools import Pool
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from sqlite3 import Connection

    from greenroom.server.core import Server
    from greenroom.server.durable import Durable
    from greenroom.server.store.calls import CallRow
    from greenroom.server.store.database import Database

FIRST = 1000
"""Inputs of each call that are had at once."""
CUT = "the call was cancelled: the server ended before it had all of it"


class _Call(NamedTuple):
    """A call that the last server had not ended."""

    row: "CallRow"
    binding: Payload
    inputs: list[Any]
    """The first of those that have no output."""
    waiting: int
    """How many have none."""


class Unfinished:
    """Those of one store."""

    def __init__(self, server: "Server", store: "Database", keeper: "Durable") -> None:
        """``keeper`` keeps what happens to them from now on."""
        from greenroom.server.store import calls

        self._rows: Any = calls
        self._server = server
        self._store = store
        self._keeper = keeper
        self._calls = server.lifecycle.calls

    def take_up(self, then: Callable[[], None], after: int = 0) -> None:
        """Go on with those past the one numbered ``after``; ``then`` is called once all of them are here."""

        def query(connection: "Connection") -> list[_Call]:
            return [
                _Call(
                    row,
                    self._rows.binding_of(connection, row.function_id, row.binding) if row.binding else b"",
                    self._rows.inputs_of(connection, row.id, -1, FIRST),
                    self._rows.progress_of(connection, row.id).waiting,
                )
                for row in self._rows.unfinished(connection, after, 100)
            ]

        def found(done: Future[list[_Call]]) -> None:
            for each in done.result():
                self._go_on_with(each)
            if done.result():
                self.take_up(then, done.result()[-1].row.number)
            else:
                then()

        self._store.read_at_last(query, found)

    def _go_on_with(self, left: _Call) -> None:
        row = left.row
        if self._keeper.is_fresh(row.id):
            return
        function = function_kept(self._server, row.function_id)
        pool = function.pool(row.binding) if function is not None else None
        if function is not None and pool is None and row.binding:
            pool = function.pools[row.binding] = Pool(function, left.binding, self._server.lifecycle)
        if pool is None or pool.function.spec.method(row.method) is None:
            pool = pool_left(self._server, row.function_id, row.binding, row.method)
        reason = row.cancelled
        if row.inputs is None:
            reason = CUT
        elif pool is None:
            reason = reason or f"the call was cancelled: {why_none(self._server, row.function_id)}"
        if reason or pool is None or row.inputs is None:
            self._keeper.end(row.id, reason)
            return
        call = self._calls.begin(row.id, pool, row.method, row.shape, None)
        call.keeper, call.refusal = self._keeper, pool.function.refusal
        call.count = call.added = call.next_index = row.inputs
        call.finished = row.inputs - left.waiting
        call.stored = left.waiting - len(left.inputs)
        if left.inputs:
            call.loaded_to = left.inputs[-1].idx
            self._calls.take_up(call, left.inputs)
        else:
            self._keeper.over(call)
