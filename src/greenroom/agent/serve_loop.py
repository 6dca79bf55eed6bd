"""Serving a class or function some of whose code is a coroutine: everything on one event loop, on the main thread.

With ``max_inputs`` above 1, coroutines run as tasks beside each other and sync methods in threads. With 1, one input
runs at a time; a sync method then runs on the main thread while the loop rests, so that it can be interrupted there
and may use ``asyncio.run`` itself.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from greenroom.agent.boundary import Task
from greenroom.agent.serve import Agent, Item
from greenroom.model.errors import ConnectionError, InputCancellation
from greenroom.usercode.context import current_input
from greenroom.wire.messages import Yielded

_END = object()
"""What a generator that is at its end yields to us."""


def serve(agent: Agent) -> None:
    """Until told to stop and every input has ended; raises ConnectionError when the server has gone."""
    assert agent.loop is not None
    _LoopServer(agent, agent.loop).serve()


class _LoopServer:
    def __init__(self, agent: Agent, loop: asyncio.AbstractEventLoop) -> None:
        self._agent = agent
        self._loop = loop
        self._arrived = asyncio.Event()
        self._lost: ConnectionError | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._coroutines = {m.name for m in agent.spec.methods if m.is_async or m.web}
        self._settled = asyncio.Event()
        agent.cancel_in_loop = self._cancel_soon
        agent.given_up_in_loop = self._give_up

    def serve(self) -> None:
        self._data = self._agent.data
        self._loop.add_reader(self._data.sock, self._read)
        self._agent.when_changed(lambda: self._loop.call_soon_threadsafe(self._reconnected))
        try:
            if self._agent.spec.max_inputs > 1:
                self._complete(self._serve_many())
            else:
                self._serve_one_by_one()
        finally:
            self._agent.when_changed(lambda: None)
            self._loop.remove_reader(self._data.sock)
        if self._lost is not None:
            raise self._lost

    def _complete(self, work: Coroutine[Any, Any, None] | asyncio.Task[None]) -> None:
        """On the loop, which a SystemExit in a task of the user's stops: it has ended that task, and no other."""
        task = work if isinstance(work, asyncio.Task) else self._loop.create_task(work)
        while True:
            try:
                return self._loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                from greenroom.usercode.exceptions import print_exception

                print_exception(error, "Exception in a task:")

    def _read(self) -> None:
        try:
            for message, payloads in self._data.read_once():
                self._agent.take(message, payloads)
        except ConnectionError as error:
            self._loop.remove_reader(self._data.sock)
            if self._agent.unkept is not None and not self._agent.control.abandoned:
                return  # to be told of the next
            self._end(error)
        self._look()

    def _reconnected(self) -> None:
        """There is another connection, or there will be none."""
        if self._agent.data is not self._data:
            self._loop.remove_reader(self._data.sock)
            self._data.close()
            self._data = self._agent.data
            self._agent.takes_from(self._data)
            self._loop.add_reader(self._data.sock, self._read)
            while self._data.pending():  # came with its welcome
                self._agent.take(*self._data.receive())
            self._look()
        elif self._lost is None:
            self._end(ConnectionError("no server takes over"))
            self._look()

    def _end(self, error: ConnectionError) -> None:
        self._lost = error
        self._agent.stopping = True

    def _look(self) -> None:
        if self._agent.spec.max_inputs > 1:
            self._start_pending()
            if not self._agent.stopping:
                return
        self._arrived.set()

    async def _wait(self) -> None:
        while not self._agent.pending and not self._agent.stopping:
            self._arrived.clear()
            await self._arrived.wait()

    def _serve_one_by_one(self) -> None:
        while True:
            self._complete(self._wait())
            item = self._agent.next_item()
            if item is None:
                if self._agent.stopping:
                    return
                continue  # it was asked back meanwhile
            if len(self._agent.pending) > 0:
                self._agent.control.watch_batch()
            if item.method in self._coroutines:
                self._run_alone(item)
            else:
                self._agent.run_sync(item, main=True)

    def _run_alone(self, item: Item) -> None:
        try:
            self._complete(self._start(item))
        except RuntimeError:
            if not item.given_up:
                raise
            self._complete(self._stopping())

    async def _stopping(self) -> None:
        while not self._agent.stopping:
            self._arrived.clear()
            await self._arrived.wait()

    async def _serve_many(self) -> None:
        self._start_pending()
        await self._stopping()
        while self._tasks:
            self._settled.clear()
            await self._settled.wait()

    def _start_pending(self) -> None:
        begun = False
        while (item := self._agent.next_item()) is not None:
            self._start(item)
            begun = True
        if begun and self._agent.web is not None:
            self._agent.web.turn_begins()

    def _start(self, item: Item) -> "asyncio.Task[None]":
        work = self._run(item) if item.method in self._coroutines else self._run_in_thread(item)
        task = self._tasks[item.seq] = self._loop.create_task(work)
        return task

    def _forget(self, item: Item) -> None:
        self._tasks.pop(item.seq, None)
        self._settled.set()

    def _give_up(self, item: Task) -> None:
        """It stays on the loop, and nobody waits for it."""
        if self._tasks.pop(item.seq, None) is not None and self._agent.spec.max_inputs == 1:
            self._loop.stop()
        self._settled.set()

    def _cancel_soon(self, item: Item) -> None:
        self._loop.call_soon_threadsafe(self._cancel, item)

    def _cancel(self, item: Item) -> None:
        task = self._tasks.get(item.seq)
        # One that hasn't begun would never come to say how it ended; it will see by itself that it was cancelled.
        if task is not None and item.begun and not item.delivered and item.method in self._coroutines:
            item.delivered = True
            task.cancel()

    async def _run_in_thread(self, item: Item) -> None:
        done = asyncio.Event()

        def work() -> None:
            self._agent.run_sync(item, main=False)
            self._loop.call_soon_threadsafe(done.set)

        import threading

        try:
            threading.Thread(target=work, name=f"greenroom-input-{item.seq}", daemon=True).start()
            await done.wait()
        finally:
            self._forget(item)

    async def _run(self, item: Item) -> None:
        item.begun = True
        try:
            if item.shape == "web":
                assert self._agent.web is not None
                await self._agent.web.serve(item)
            else:
                await self._call(item)
        finally:  # no callback of the task, which would cost a turn of the loop
            self._forget(item)

    async def _call(self, item: Item) -> None:
        agent = self._agent
        current_input.set((item.call_id, item.index))
        try:
            with agent.elsewhere:
                args, kwargs = agent.arguments(item)
                if item.cancelled:
                    raise InputCancellation
                value: Any = agent.target(item.method)(*args, **kwargs)
                if item.shape != "generator":
                    payload = agent.pack(item, await value)
            if item.shape == "generator":
                await self._run_generator(item, value)
                payload = agent.encode(None)
        except BaseException as error:  # noqa: BLE001 - whatever the input raised is its result
            if item.cancelled and isinstance(error, asyncio.CancelledError):
                item.delivered = True
            agent.failed(item, error)
        else:
            agent.succeeded(item, payload)

    async def _run_generator(self, item: Item, generator: AsyncIterator[Any]) -> None:
        user_code = self._agent.elsewhere
        more = asyncio.Event()
        item.on_credit = lambda: self._loop.call_soon_threadsafe(more.set)
        try:
            with user_code:
                values = aiter(generator)
            while True:
                with user_code:
                    value = await anext(values, _END)
                    if value is _END:
                        return
                    payload = self._agent.encode(value)
                while not self._agent.take_credit(item):
                    await more.wait()
                    more.clear()
                self._agent.outbox.send(Yielded(item.seq, []), [payload])
        finally:
            close = getattr(generator, "aclose", None)
            if close is not None:
                with user_code:
                    await close()
