"""An application's start-up and shutdown. Source: the ASGI specification, lifespan 2.0; one that has none serves without."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Event = MutableMapping[str, Any]


class Lifespan:
    """Of one application."""

    def __init__(self, application: Callable[..., Awaitable[None]], loop: asyncio.AbstractEventLoop) -> None:
        self._application = application
        self._loop = loop
        self.state: dict[str, Any] = {}
        """What its start-up leaves for requests."""
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._said: asyncio.Queue[Event] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._supported = False

    async def start(self) -> None:
        """Until it has started; raises RuntimeError when it says that it can't."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = self._loop.create_task(self._run(scope))
        self._inbox.put_nowait({"type": "lifespan.startup"})
        said = await self._answer()
        if said is None:
            return  # as with uvicorn's own "auto": it raises, or returns, and has no lifespan
        if said["type"] == "lifespan.startup.failed":
            raise RuntimeError(f"lifespan start-up failed: {said.get('message', '')}")
        self._supported = True

    async def stop(self) -> None:
        """Until it has shut down; raises RuntimeError when it says that it failed."""
        if not self._supported:
            return
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        said = await self._answer()
        if said is not None and said["type"] == "lifespan.shutdown.failed":
            raise RuntimeError(said.get("message", ""))

    async def _run(self, scope: Event) -> None:
        await self._application(scope, self._inbox.get, self._said.put)

    async def _answer(self) -> Event | None:
        """What it says next; None: it ended without. What it raises before it has said anything is no failure."""
        assert self._task is not None
        heard = self._loop.create_task(self._said.get())
        await asyncio.wait({heard, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if heard.done() or not self._said.empty():
            return await heard
        heard.cancel()
        if (error := self._task.exception()) is not None and self._supported:
            raise error
        return None
