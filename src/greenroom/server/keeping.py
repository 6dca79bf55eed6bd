"""What is to be kept of many calls: gathered while the store is busy, since all of it at once costs little more than one."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import StoreError
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from sqlite3 import Connection

    from greenroom.server.store.calls import CallRow, OutputRow
    from greenroom.server.store.database import Database
    from greenroom.server.store.many import Finished, Whole

Then = Callable[[Future[Any]], None]


class Begun:
    """A change: a call has come."""

    __slots__ = __match_args__ = ("row", "binding", "again")

    def __init__(self, row: "CallRow", binding: Payload, again: bool) -> None:
        self.row = row
        self.binding = binding
        self.again = again
        """The server before this one was cut short when it came."""

    def __call__(self, connection: "Connection") -> None:
        from greenroom.server.store.calls import add_call, forget

        if self.again:
            forget(connection, [self.row.id])
        add_call(connection, self.row, self.binding)


class Added:
    """A change: inputs of it have."""

    __slots__ = __match_args__ = ("call_id", "first", "payloads")

    def __init__(self, call_id: str, first: int, payloads: list[Payload]) -> None:
        self.call_id = call_id
        self.first = first
        self.payloads = payloads

    def __call__(self, connection: "Connection") -> None:
        from greenroom.server.store.calls import add_inputs

        add_inputs(connection, self.call_id, self.first, self.payloads)


class Keeping:
    """One server's. What is put is kept in the order in which it came: calls before their outputs, those before their end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: "Database") -> None:
        from greenroom.server.store.many import keep_all

        self._keep_all = keep_all
        self._loop = loop
        self._store = store
        self._waiting: list[tuple[Whole | OutputRow | Finished, Then]] = []
        self._soon = False
        self._given = 0
        """Batches that the store has and that aren't kept yet."""
        self.pending = 0
        """Of what was put, so much isn't kept yet."""

    def put(self, thing: "Whole | OutputRow | Finished", then: Then) -> None:
        """Keep something; ``then`` is called once it is, or can't be (see :meth:`Database.write`)."""
        self._waiting.append((thing, then))
        self.pending += 1
        if not self._given and not self._soon:
            self._soon = True
            self._loop.call_soon(self._turn_ends)

    def after(self, then: Then) -> bool:
        """``then`` is called once all that was put in this turn is kept, or can't be; False: nothing was."""
        if not self._waiting:
            return False
        thing, first = self._waiting[-1]

        def both(done: Future[Any]) -> None:
            first(done)
            then(done)

        self._waiting[-1] = thing, both
        return True

    def _turn_ends(self) -> None:
        self._soon = False
        if not self._given:
            self.flush()

    def flush(self) -> None:
        """Give the store all that waits: before anything else that it must come before."""
        batch, self._waiting = self._waiting, []
        if batch:
            self._write(batch)

    def _write(self, batch: "list[tuple[Whole | OutputRow | Finished, Then]]") -> None:
        self._given += 1
        self._store.write(
            lambda connection: self._keep_all(connection, [thing for thing, _ in batch]),
            lambda done: self._told(batch, done),
        )

    def _told(self, batch: "list[tuple[Whole | OutputRow | Finished, Then]]", done: Future[Any]) -> None:
        self._given -= 1
        error = done.exception()
        if error is not None and not isinstance(error, StoreError) and len(batch) > 1:
            for each in batch:  # something is wrong with one of them: the others are kept all the same
                self._write([each])
            return
        if not self._given:
            self.flush()
        self.pending -= len(batch)
        for _, then in batch:
            try:
                then(done)
            except Exception as raised:  # noqa: BLE001 - the others are told all the same
                self._loop.call_exception_handler({"message": "told of what is kept", "exception": raised})
