"""The time in which an app runs: at home alone."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from greenroom.model.errors import InvalidError
from greenroom.sdk.output import current_sink, enable_output
from greenroom.usercode.context import StopImport, inside
from greenroom.usercode.importing import is_imported_anew, is_importing

if TYPE_CHECKING:
    from greenroom.sdk.app import App


class AppRun:
    """The time in which an app runs; for ``with`` and ``async with``."""

    def __init__(self, app: "App", *, show: bool = False, detach: bool = False) -> None:
        self._app = app
        self._detach = detach
        self._show = show
        """Show what it does, unless something does already."""
        self._shown: AbstractContextManager[None] | None = None

    def __enter__(self) -> "App":
        self._begin()
        return self._app

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()
        _say_remote_end(error)

    def _begin(self) -> None:
        if self._show and inside() is None and current_sink() is None:
            self._shown = enable_output()
            self._shown.__enter__()
        try:
            self._app.start(detach=self._detach)
        except BaseException:
            self._hide()
            raise

    def _end(self) -> None:
        try:
            self._app.stop()
        finally:
            self._hide()

    def _hide(self) -> None:
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.__exit__(None, None, None)

    async def __aenter__(self) -> "App":
        refuse_inside()
        import asyncio

        await asyncio.to_thread(self._begin)
        return self._app

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.to_thread(self._end)
        _say_remote_end(error)


def _say_remote_end(error: BaseException | None) -> None:
    """A container's ``sys.exit()`` that nobody catches ends this process too, and Python says nothing of it."""
    if isinstance(error, SystemExit | KeyboardInterrupt):
        from greenroom.usercode.exceptions import is_remote, print_exception

        if is_remote(error):
            print_exception(error, "greenroom: raised in a container, and ends this program too:")


def refuse_inside() -> None:
    """An app runs at home. A program's own top level ends here when a container imports it."""
    if inside() is None:
        if is_imported_anew():
            raise InvalidError(
                "app.run() where multiprocessing imports the program once more, for a process that it starts: put it under "
                'if __name__ == "__main__":'
            )
        return
    if is_importing():
        raise StopImport
    raise InvalidError("app.run() inside a container: the app runs already; call its functions with .remote()")
