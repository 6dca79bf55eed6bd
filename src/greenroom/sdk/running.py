"""The time in which an app runs: at home alone."""

from types import TracebackType
from typing import TYPE_CHECKING

from greenroom.model.errors import InvalidError
from greenroom.usercode.context import StopImport, inside
from greenroom.usercode.importing import is_importing

if TYPE_CHECKING:
    from greenroom.sdk.app import App


class AppRun:
    """The time in which an app runs; for ``with`` and ``async with``."""

    def __init__(self, app: "App") -> None:
        self._app = app

    def __enter__(self) -> "App":
        self._app.start()
        return self._app

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._app.stop()
        _say_remote_end(error)

    async def __aenter__(self) -> "App":
        refuse_inside()
        import asyncio

        await asyncio.to_thread(self._app.start)
        return self._app

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.to_thread(self._app.stop)
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
        return
    if is_importing():
        raise StopImport
    raise InvalidError("app.run() inside a container: the app runs already; call its functions with .remote()")
