"""One deployment, step by step: kept as pending, warm, kept as the one that serves; and only then it serves."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.server.replacing import Replacement
from greenroom.server.versions import KEPT, Contents, contents_of

if TYPE_CHECKING:
    from sqlite3 import Connection

    from greenroom.server.apps import App
    from greenroom.server.core import Server
    from greenroom.server.store.database import Database


class Deploying:
    """Of ``app``, in the place of ``before``. A crash on the way leaves that.

    Args:
        switch: called when it is to serve, with its number.
        then: called once, with ``""``, or with the reason why it doesn't serve.
    """

    def __init__(
        self,
        server: "Server",
        store: "Database",
        app: "App",
        before: "App | None",
        switch: Callable[[int], None],
        then: Callable[[str], None],
    ) -> None:
        from greenroom.server.store import versions

        self._versions: Any = versions
        self._server = server
        self._store = store
        self._app = app
        self._before = before
        self._switch = switch
        self._then = then
        self._number = 0

    def begin(self) -> None:
        """Keep it, and go on."""
        self._server.disk.do(contents_of(self._server, self._app), self._read)

    def _read(self, done: Future[Contents]) -> None:
        if (error := done.exception()) is not None:
            self._end(str(error))
            return
        app, (functions, images) = self._app, done.result()
        self._store.write(
            lambda c: self._versions.add_version(c, app.name, app.id, app.created_at, functions, images), self._added
        )

    def _added(self, done: Future[int]) -> None:
        if (error := done.exception()) is not None:
            self._end(str(error))
            return
        self._number = done.result()
        if self._app.held:
            self._warm("")
        else:
            Replacement(self._server, self._before, self._app, self._warm).begin()

    def _warm(self, why: str) -> None:
        if why:
            self._end(why)
        else:
            self._store.write(self._serve, self._kept)

    def _serve(self, connection: "Connection") -> None:
        self._versions.set_state(connection, self._app.id, self._versions.VersionState.CURRENT)
        self._versions.forget_beyond(connection, self._app.name, KEPT)

    def _kept(self, done: Future[None]) -> None:
        if (error := done.exception()) is not None:
            self._end(str(error))
        elif self._app.stopping is not None:
            self._end("it was stopped before it could serve")
        else:
            self._switch(self._number)
            self._then("")

    def _end(self, why: str) -> None:
        failed = self._versions.VersionState.FAILED
        if self._number:
            self._store.write(lambda c: self._versions.set_state(c, self._app.id, failed), lambda done: None)
        self._server.stop_app(self._app, f"it could not be deployed: {why}")
        self._then(why)
