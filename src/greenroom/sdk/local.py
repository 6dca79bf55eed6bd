"""A class's instance in this process, for ``.local()`` and ``with Model() as m:``: entered once, whoever asks first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import ExecutionError
from greenroom.usercode.definition import ClassDefinition
from greenroom.usercode.service import Service, drive, drive_async

if TYPE_CHECKING:
    from concurrent.futures import Future


class LocalInstance:
    """Made and entered when first needed; those that come meanwhile wait, from any thread or loop."""

    def __init__(
        self, definition: ClassDefinition, args: tuple[Any, ...], kwargs: dict[str, Any], made: Callable[[Any], None]
    ) -> None:
        self._definition = definition
        self._arguments = (args, kwargs)
        self._note_made = made
        self._lock = threading.Lock()
        self._service: Service | None = None
        self._entering: Future[Any] | None = None
        self._entering_thread = 0

    @property
    def made(self) -> bool:
        """Whether there is an instance already."""
        return self._service is not None

    def entered(self) -> Any:
        """The instance, its enter hooks done; raises what the constructor or a hook raises. The next call begins anew."""
        future, first = self._begin()
        if first:
            try:
                service = self._construct()
                drive(service.enter(_silent), _run_here)
            except BaseException as error:
                self._failed(future, error)
                raise
            future.set_result(service.instance)
        elif not future.done() and self._entering_thread == threading.get_ident():
            raise ExecutionError(
                f"{self._definition.cls.__name__} is being entered by this very thread: await its .local() from async code"
            )
        return future.result()

    async def entered_async(self) -> Any:
        """The same, on a loop."""
        import asyncio

        future, first = self._begin()
        if first:
            try:
                service = self._construct()
                await drive_async(service.enter(_silent))
            except BaseException as error:
                self._failed(future, error)
                raise
            future.set_result(service.instance)
        # Shielded: one that waits and is cancelled must not cancel it for all.
        return await asyncio.shield(asyncio.wrap_future(future))

    def enter_or_exit(self) -> None:
        """For ``with``, which exits nothing that wasn't entered: a failed start closes what it had opened."""
        try:
            self.entered()
        except BaseException:
            self.exit()
            raise

    async def enter_or_exit_async(self) -> None:
        """The same, on a loop."""
        try:
            await self.entered_async()
        except BaseException:
            await self.exit_async()
            raise

    def exit(self) -> None:
        """Run the exit hooks that are owed."""
        if self._service is not None:
            drive(self._service.exit(_silent), _run_here)

    async def exit_async(self) -> None:
        """The same, on a loop."""
        if self._service is not None:
            await drive_async(self._service.exit(_silent))

    def _begin(self) -> tuple[Future[Any], bool]:
        from concurrent.futures import Future

        with self._lock:
            if self._entering is not None:
                return self._entering, False
            self._entering = Future()
            self._entering_thread = threading.get_ident()
            return self._entering, True

    def _construct(self) -> Service:
        service = self._service = Service.for_class(self._definition)
        args, kwargs = self._arguments
        self._note_made(service.construct(args, kwargs))
        return service

    def _failed(self, future: Future[Any], error: BaseException) -> None:
        with self._lock:
            self._entering = None
        future.set_exception(error)


def _silent(phase: str, name: str, seconds: float, error: str) -> None:
    """Nobody keeps a timeline of what runs here."""


def _run_here(awaitable: Any) -> object:
    import asyncio

    async def complete() -> object:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(complete())
    awaitable.close()
    raise ExecutionError("this class has async hooks: from async code, `async with` it, or `await obj.method.local(…)`")
