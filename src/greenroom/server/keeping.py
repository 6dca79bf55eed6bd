"""What is to be kept of many calls: gathered while the store is busy, since all of it at once costs little more than one."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import StoreError

if TYPE_CHECKING:
    from greenroom.server.store.calls import OutputRow
    from greenroom.server.store.database import Database
    from greenroom.server.store.many import Finished, Whole

    _Thing = Whole | list[OutputRow] | Finished

Then = Callable[[Future[Any]], None]


class Keeping:
    """One server's. What is put is kept in the order in which it came: calls before their outputs, those before their end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: "Database") -> None:
        from greenroom.server.store.many import keep_all

        self._keep_all = keep_all
        self._loop = loop
        self._store = store
        self._waiting: list[tuple[_Thing, Then]] = []
        self._soon = False
        self._given = 0
        """Batches that the store has and that aren't kept yet."""
        self.pending = 0
        """Of what was put, so many rows aren't kept yet."""

    def put(self, thing: "_Thing", then: Then) -> None:
        """Keep something: a call, outputs of one, or its end; ``then`` is called once it is, or can't be (see :meth:`Database.write`)."""
        self._waiting.append((thing, then))
        self.pending += _rows_of(thing)
        if not self._given and not self._soon:
            self._soon = True
            self._loop.call_soon(self._turn_ends)

    def after(self, then: Then) -> bool:
        """``then`` is called once all that was put is kept, or can't be; False: nothing is on its way."""
        if not self._waiting:
            if self._given:
                self._waiting.append(([], then))
            return bool(self._given)
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

    def _write(self, batch: "list[tuple[_Thing, Then]]") -> None:
        self._given += 1
        self._store.write(
            lambda connection: self._keep_all(connection, _one_by_one(batch)),
            lambda done: self._told(batch, done),
        )

    def _told(self, batch: "list[tuple[_Thing, Then]]", done: Future[Any]) -> None:
        self._given -= 1
        error = done.exception()
        if error is not None and not isinstance(error, StoreError) and len(batch) > 1:
            for each in batch:  # something is wrong with one of them: the others are kept all the same
                self._write([each])
            return
        if not self._given:
            self.flush()
        for thing, then in batch:
            self.pending -= _rows_of(thing)
            try:
                then(done)
            except Exception as raised:  # noqa: BLE001 - the others are told all the same
                self._loop.call_exception_handler({"message": "told of what is kept", "exception": raised})


def _one_by_one(batch: "list[tuple[_Thing, Then]]") -> "Iterator[Whole | OutputRow | Finished]":
    for thing, _ in batch:
        if isinstance(thing, list):
            yield from thing
        else:
            yield thing


def _rows_of(thing: "_Thing") -> int:
    return len(thing) if isinstance(thing, list) else 1
