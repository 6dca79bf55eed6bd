"""A database on a loop of its own, to be asked as if it answered at once."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from greenroom.server.store.database import Database
from greenroom.server.store.file import NAME


class Store:
    """``write`` and ``read`` wait; ``begin`` doesn't, and ``settle`` waits for all that has begun."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.said: list[str] = []
        self.raised: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.raised.append(context))
        try:
            self.database = Database(path, self.loop, self.said.append)
        except BaseException:
            self.loop.close()
            raise
        self.path = path

    def begin(self, change: Callable[[Any], Any], then: Callable[[Future[Any]], None] | None = None) -> Future[Any]:
        ended: Future[Any] = Future()

        def told(done: Future[Any]) -> None:
            if then is not None:
                then(done)
            if (error := done.exception()) is not None:
                ended.set_exception(error)
            else:
                ended.set_result(done.result())

        self.database.write(change, told)
        return ended

    def write(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.wait(self.begin(lambda connection: function(connection, *arguments)))

    def read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        ended: Future[Any] = Future()
        self.database.read(lambda connection: function(connection, *arguments), ended.set_result)
        return self.wait(ended).result()

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.read(lambda connection: connection.execute(statement, values).fetchall())

    def wait(self, ended: Future[Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(asyncio.wrap_future(ended, loop=self.loop), 60))

    def until(self, condition: Callable[[], Any]) -> None:
        async def met() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        self.loop.run_until_complete(asyncio.wait_for(met(), 60))

    def settle(self) -> None:
        self.until(lambda: not self.database.pending)

    @contextmanager
    def held(self, change: Callable[[Any], Any] = lambda connection: None) -> Iterator[None]:
        """The writing thread is within a transaction, after ``change``: what begins meanwhile is all in the next one."""
        entered, go = threading.Event(), threading.Event()

        def hold(connection: Any) -> None:
            change(connection)
            entered.set()
            assert go.wait(60)

        self.begin(hold)
        assert entered.wait(60)
        try:
            yield
        finally:
            go.set()

    def close(self) -> None:
        if self.loop.is_closed():
            return
        closed = self.loop.create_future()
        self.database.close(lambda: closed.set_result(None))
        self.loop.run_until_complete(asyncio.wait_for(closed, 60))
        self.loop.close()
        assert self.raised == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store(path)
    yield made
    made.close()
