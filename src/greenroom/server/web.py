"""The server's side towards the web: nothing, until some app has an endpoint."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from greenroom.model.errors import Error, InvalidError, NotFoundError

if TYPE_CHECKING:
    from asyncio import Task
    from concurrent.futures import Future

    from greenroom.server.apps import App
    from greenroom.server.core import Server
    from greenroom.server.http.ingress import Ingress
    from greenroom.server.http.listener import Listener
    from greenroom.server.pools import Function


class Web:
    """One server's. An HTTP library is loaded with the first endpoint."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._ingress: Ingress | None = None
        self._listener: Listener | None = None
        self._serving: Task[None] | None = None
        self._waiting: list[tuple[Function, Callable[[dict[str, str], Error | None], None]]] = []

    def publish(self, function: "Function", then: Callable[[dict[str, str], Error | None], None]) -> None:
        """Serve a function's endpoints; ``then`` is called with their URLs, by method, or why they can't be served."""
        if not function.spec.is_web:
            then({}, None)
        elif self._ingress is not None:
            try:
                urls = self._ingress.publish(function)
            except InvalidError as error:
                then({}, error)
            else:
                then(urls, None)
        else:
            self._waiting.append((function, then))
            if len(self._waiting) == 1:  # libraries of HTTP take long to load
                self._server.disk.do(self._open, self._opened)

    def _open(self) -> "tuple[Ingress, Listener]":
        from greenroom.server.http.ingress import Ingress
        from greenroom.server.http.listener import Listener

        ingress = Ingress(self._server)
        return ingress, Listener(ingress, self._server.settings)

    def _opened(self, done: "Future[tuple[Ingress, Listener]]") -> None:
        waiting, self._waiting = self._waiting, []
        try:
            self._ingress, self._listener = done.result()
        except OSError as error:
            for _, then in waiting:
                then({}, InvalidError(f"web endpoints can't be served: {error.strerror or error}"))
            return
        self._serving = self._server.loop.create_task(self._listener.serve())
        for function, then in waiting:
            if function.app.id in self._server.apps:
                self.publish(function, then)
            else:
                then({}, NotFoundError(f"the app {function.app.name} has ended"))

    def switch(self, old: "App | None", new: "App") -> None:
        """From now on ``new`` answers, and nothing of ``old`` does; what waits for a container of that waits for the other's."""
        if self._ingress is not None:
            self._ingress.switch(set(old.functions.values()) if old is not None else set(), set(new.functions.values()))

    def withdraw(self, app: "App") -> None:
        """An app's endpoints answer nothing any more."""
        if self._ingress is not None:
            self._ingress.withdraw(set(app.functions.values()))

    def close(self) -> None:
        """The server ends."""
        if self._listener is not None:
            self._listener.close()
