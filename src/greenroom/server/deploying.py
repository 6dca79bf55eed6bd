"""One deployment, step by step: kept as pending, warm, kept as the one that serves; and only then it serves."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.server.replacing import Replacement
from greenroom.server.versions import KEPT, Contents, contents_of

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.core import Server
    from greenroom.server.store.database import Database


STOPPED = "it was stopped before it could serve"


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
        self.app = app
        self._before = before
        self._switch = switch
        self._then = then
        self._number = 0
        self._replacement: Replacement | None = None

    def begin(self) -> None:
        """Keep it, and go on."""
        self._server.disk.do(contents_of(self._server, self.app), self._read)

    def _read(self, done: Future[Contents]) -> None:
        if (error := done.exception()) is not None:
            self._end(str(error))
            return
        app, (functions, images) = self.app, done.result()
        self._store.write(
            lambda c: self._versions.add_version(
                c, app.name, app.id, app.created_at, functions, images, strategy=app.strategy
            ),
            self._added,
        )

    def _added(self, done: Future[int]) -> None:
        if (error := done.exception()) is not None:
            self._end(str(error))
            return
        self._number = done.result()
        if self.app.stopping is not None:
            self._end(STOPPED)
        elif self.app.held:
            self._warm("")
        else:
            self._replacement = Replacement(self._server, self._before, self.app, self._warm)
            self._replacement.begin()

    def _warm(self, why: str) -> None:
        if why:
            self._end(why)
        else:
            current = self._versions.VersionState.CURRENT
            self._store.write(lambda c: self._versions.set_state(c, self.app.id, current), self._kept)

    def _kept(self, done: Future[None]) -> None:
        if (error := done.exception()) is not None:
            self._end(str(error))
        elif self.app.stopping is not None:
            self._end(STOPPED)
        else:
            self._store.write(lambda c: self._versions.forget_beyond(c, self.app.name, KEPT), lambda done: None)
            self._switch(self._number)
            self._then("")

    def stopped(self) -> None:
        """Its app is being stopped: by whoever asked for that, or since its program has gone."""
        if self._replacement is not None:
            self._replacement.give_up(STOPPED)  # no container of it will be ready any more

    def _end(self, why: str) -> None:
        def said(done: Future[None]) -> None:
            error = done.exception()
            self._then(
                why if error is None else f"{why}; that can't be kept either, so a restart may bring it: {error}"
            )

        if self.app.stopping is None:
            self._server.stop_app(self.app, f"it could not be deployed: {why}")
        if self._number:
            before = self._before.id if self._before is not None else ""
            self._store.write(lambda c: self._versions.take_back(c, self.app.id, before), said)
        else:
            self._then(why)
