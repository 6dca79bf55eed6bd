"""The server as a whole: connections, apps, the worker, and how it ends."""

import asyncio
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from greenroom.model.container_state import ContainerEvent, ContainerState
from greenroom.model.errors import InvalidError, NotFoundError
from greenroom.model.settings import Settings
from greenroom.server import detached
from greenroom.server.app_logs import AppLogs
from greenroom.server.apps import App
from greenroom.server.bundles import Bundles
from greenroom.server.call import Receiver
from greenroom.server.clock import Clock, LoopClock
from greenroom.server.containers import Container
from greenroom.server.deployments import Deployments
from greenroom.server.disk import Disk
from greenroom.server.durable import Durable
from greenroom.server.firing import Firing
from greenroom.server.images import Images
from greenroom.server.lifecycle import Lifecycle
from greenroom.server.machine import Machine
from greenroom.server.peer_log import PeerLog
from greenroom.server.peers import ClientPeer, Visitor
from greenroom.server.pools import Function
from greenroom.server.records import Records
from greenroom.server.returning import Returns
from greenroom.server.secrets import Secrets
from greenroom.server.spawn import spawn_worker
from greenroom.server.web import Web
from greenroom.server.worker_peer import WorkerPeer
from greenroom.server.worker_process import END as WORKER_END
from greenroom.server.worker_process import WorkerProcess
from greenroom.wire.loop_connection import Turn
from greenroom.wire.messages import ContainerChanged, Done, Notice, Shutdown, WorkerReady

if TYPE_CHECKING:
    from greenroom.server.remote import Remote
    from greenroom.server.store.database import Database

DRAIN = 10.0
"""Seconds that inputs may take to finish once the server was told to end."""
READERS = 5.0
"""Seconds in which programs may read what containers have printed, before that is left in files: after ``DRAIN``, and once
somebody has had a container stopped."""
ACCEPTS = 64
"""Connections taken in one go, so that whoever opens them without end keeps nobody waiting."""
CROWDED = 0.1
"""Seconds until connections are taken again after there were no descriptors left for one."""
ALONE = 20.0
"""Seconds that an ephemeral server waits for its first client."""


class Server:
    """One control plane. Must be made on a running loop."""

    remote: "Remote | None" = None
    """Where programs on other machines come in."""

    def __init__(
        self,
        *,
        home: Path,
        run: Path,
        server_id: str,
        token: str,
        settings: Settings,
        machine: Machine,
        lock: int,
        clock: Clock | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = server_id
        self.token = token
        self.settings = settings
        self.machine = machine
        self.home = home
        self.run = run
        self._lock = lock
        self.socket_path = str(run / "server.sock")
        self.turn = Turn(loop)
        self.lifecycle = Lifecycle(clock or LoopClock(loop), settings, machine, self._publish)
        self.lifecycle.say = lambda container, text: container.pool.function.app.say_once(text)
        self.lifecycle.ended = self._container_ended
        self.sandbox = WorkerReady("", "", "")
        """What the worker says that containers run in."""
        self.bundles = Bundles(home / "code")
        self.images = Images()
        self.images.settled = self._image_settled
        self.secrets = Secrets(self)
        self.lifecycle.can_start = lambda container: (
            self.images.ready(container.pool.function.spec.image) and self.secrets.ready(container)
        )
        self.apps: dict[str, App] = {}
        self._stopping: dict[str, list[tuple[ClientPeer, int]]] = {}
        """Who asked for the stop of a container, and the number of the request."""
        self.functions: dict[str, Function] = {}
        self.visitors: set[Visitor] = set()
        self.strangers: dict[Visitor, None] = {}
        """Those that haven't said who they are, oldest first."""
        self.peer_log = PeerLog(self.log, loop.call_later)
        self.finished: asyncio.Future[None] = loop.create_future()
        self.disk = Disk(loop)
        self.records = Records(home / "containers")
        self.loop = loop
        self._listener: socket.socket | None = None
        self.web = Web(self)
        self.deployments = Deployments(self)
        self.app_logs = AppLogs(self)
        self.store: Database | None = None
        """Where deployed apps and their calls are kept; None: this server ends with its programs."""
        self.durable: Durable | None = None
        """Its calls that are kept."""
        self.returns: Returns | None = None
        """Its containers that may outlive it."""
        self.firing: Firing | None = None
        """Its schedules."""
        self.worker_process = WorkerProcess(self.loop)
        self._worker: WorkerPeer | None = None
        self._worker_losses = self._clients = 0
        self._ephemeral = False
        self.ending: list[Callable[[], None]] | None = None  # called just before the end
        self._finishing = False

    def log(self, text: str) -> None:
        """A line for whoever runs this server; a log that is full, or that nobody reads, costs that line and nothing else."""
        with suppress(OSError):
            print(f"greenroom server: {text}", file=sys.stderr, flush=True)

    # ---- beginning ----

    def use_store(self, store: "Database", then: Callable[[], None]) -> None:
        """Keep apps that stay and their calls there, and have again what an earlier server had; ``then`` is called once it is."""

        def complete() -> None:
            returns.restored()
            detached.go_on(self)
            self.secrets.look_for_key()

        def restored() -> None:
            assert self.durable is not None
            assert self.firing is not None
            expected = returns.begin()
            if self._worker is not None:
                self._worker.adopt(expected, self.settings.cancel_grace + self.settings.exit_grace + WORKER_END)
            self.durable.restore(complete)
            self.firing.restore(list(self.deployments.current.values()))
            then()

        self.store, self.durable, self.firing = store, Durable(self, store), Firing(self, store)
        returns = self.returns = Returns(self, store)
        self.lifecycle.came = returns.came
        returns.find(lambda: self.deployments.restore(lambda: detached.restore(self, restored)))

    def serve(self, listener: socket.socket, *, ephemeral: bool) -> None:
        """Take connections; an ephemeral server ends with its last client."""
        self._ephemeral = ephemeral
        self._listener = listener
        listener.setblocking(False)
        self._listen()
        if ephemeral:
            self.loop.call_later(ALONE, self._end_when_alone)

    def _listen(self) -> None:
        if self._listener is not None and not self._finishing:
            self.loop.add_reader(self._listener, self._accept)

    def use_worker(self, sock: socket.socket, pid: int) -> None:
        """Speak to a worker that was just started."""
        self._worker = WorkerPeer(self, sock)
        self.worker_process.pid = pid
        self.lifecycle.worker = self._worker
        self.images.use_worker(self._worker.connection.send)
        self.lifecycle.place()

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(ACCEPTS):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.log(f"can't accept a connection: {error.strerror or error}")
                self.loop.remove_reader(self._listener)
                self.loop.call_later(CROWDED, self._listen)
                return
            Visitor(self, sock)

    def client_came(self) -> None:
        """A program connected."""
        self._clients += 1

    def client_left(self) -> None:
        """A program's connection closed."""
        self._clients -= 1
        self._end_when_alone()

    def container_by_token(self, token: str) -> Container | None:
        """The live container with that token."""
        container = self.lifecycle.containers.by_token.get(token)
        if container is None and self.returns is not None:
            container = self.returns.by_token(token)
        return container if container is not None and container.live else None

    # ---- apps ----

    def app(self, app_id: str) -> App:
        """The running app of that id; raises :class:`NotFoundError`."""
        try:
            return self.apps[app_id]
        except KeyError:
            raise NotFoundError(f"no app {app_id} runs on this server") from None

    def create_app(self, app_id: str, name: str, replaces: str = "") -> None:
        """A new app, without functions yet."""
        if app_id in self.apps:
            raise InvalidError(f"the app {app_id} exists already")
        if self.ending is not None:
            raise InvalidError("this server is shutting down")
        self.apps[app_id] = App(app_id, name, replaces, self.lifecycle.clock.wall())

    def stop_app(
        self,
        app: App,
        reason: str,
        request: tuple[Receiver, int] | None = None,
        *,
        kill: bool = False,
        drain: float = 0.0,
    ) -> None:
        """Cancel an app's calls, stop its containers; answer ``request`` once they have ended.

        ``drain``: seconds in which inputs that run may finish before they are cancelled.
        """
        first = app.stopping is None
        app.stopping = app.stopping or []
        self.deployments.stop(app)
        if request is not None:
            app.stopping.append(request)
        if first:
            if app.kept and self.ending is None:
                detached.forget(self, app)
            for function in app.functions.values():
                for pool in function.pools.values():
                    pool.close()
        if drain:
            app.drained = self.lifecycle.clock.call_later(drain, lambda: self.stop_app(app, reason))
        for call in [c for c in self.lifecycle.calls.by_id.values() if c.pool.function.app is app]:
            if self.ending is None or not call.goes_on:
                self.lifecycle.calls.cancel(call, f"the call was cancelled: {reason}", running=not drain)
        for container in self.containers_of(app):
            if kill and container.state is not ContainerState.PENDING:
                self.lifecycle.stop(container, "killed", cancel=True)
                self.lifecycle.kill(container)
            else:
                self.lifecycle.stop(
                    container, reason, cancel=not drain, requeue=app.replaced or self.ending is not None
                )
        self.maybe_stopped(app)

    def containers_of(self, app: App) -> list[Container]:
        """Those of it that live."""
        return [c for c in self.lifecycle.containers.live() if c.pool.function.app is app]

    def maybe_stopped(self, app: App) -> None:
        """Forget an app that is to stop, once no container of it is left."""
        if app.stopping is None or app.id not in self.apps or self.containers_of(app) or self.deployments.awaits(app):
            return
        del self.apps[app.id]
        if app.drained is not None:
            app.drained.cancel()  # it would keep all of it in memory until then
        self.deployments.ended(app)
        self.images.forget(app)
        self.web.withdraw(app)
        for function_id in app.functions:
            del self.functions[function_id]
        calls = self.lifecycle.calls.by_id
        for call in [c for c in calls.values() if c.pool.function.app is app]:
            if call.keeper is None:
                self.lifecycle.calls.drop(call, f"the app {app.name} has ended, and its calls with it")
        for peer, rid in app.stopping:
            peer.send(Done(rid, {}))
        if self.ending is not None and not self.apps:
            self._end_worker()
        else:
            self._end_when_alone()

    def say_what_is_missing(self, function: Function) -> None:
        """What a function asked for that its containers don't have here, said once."""
        if self.sandbox.lacks:
            function.app.say_once(self.sandbox.lacks)
        limits = function.spec.limits
        if not self.sandbox.keeps_limits:
            return
        if limits.cpu_limit or limits.memory_limit:
            function.app.say_once(f"limits of cpu= and memory= are not kept: {self.sandbox.keeps_limits}")
        elif self.sandbox.sandbox == "oci":
            function.app.say_once(f"the number of processes has no limit: {self.sandbox.keeps_limits}")

    # ---- containers ----

    def _publish(self, container: Container, event: ContainerEvent) -> None:
        function = container.pool.function
        reason = container.fault or container.stop_reason
        function.app.tell(ContainerChanged(container.id, function.spec.name, str(container.state), str(event), reason))

    def stop_container(self, container: Container, request: tuple[ClientPeer, int]) -> None:
        """Stop it in order; answer ``request`` once it has ended."""
        self._stopping.setdefault(container.id, []).append(request)
        self.lifecycle.stop(container, "stopped by `greenroom container stop`", cancel=True)
        self.leave_output_soon(container)

    def leave_output_soon(self, container: Container) -> None:
        """Whoever has a container stopped waits for those who don't read what it prints no longer than an ending server does."""

        def look() -> None:
            if container.live:
                if self._worker is not None:
                    self._worker.leave_output(container)
                self.leave_output_soon(container)

        self.loop.call_later(READERS, look)

    def settled(self, container_id: str) -> None:
        """What followed from the end of a container is safe, whatever becomes of this server."""
        if self._worker is not None:
            self._worker.settled(container_id)

    def _container_ended(self, container: Container) -> None:
        self.lifecycle.containers.forget(container)
        self.app_logs.ended(container)
        if self.returns is not None:
            self.returns.ended(container)
        for peer, rid in self._stopping.pop(container.id, ()):
            peer.send(Done(rid, {"reason": container.fault or container.stop_reason}))
        if container.pid:
            record = container.record(self.id)
            self.disk.do(lambda: self.records.write(record), self._record_written)
        app = container.pool.function.app
        for error in container.errors:
            app.tell(Notice(f"{container.pool.function.spec.name}: exit hook failed: {error}"))
        self.maybe_stopped(app)

    def _image_settled(self, image_id: str, error: str) -> None:
        """Containers may wait for it: for those of apps that had it, it was made again by another worker."""
        if error:
            self.lifecycle.unstartable(image_id, error)
        self.lifecycle.place()

    def _record_written(self, done: Future[str]) -> None:
        if problem := done.result():
            self.log(problem)

    def worker_gone(self, reason: str) -> None:
        """The worker's connection closed: once its process has ended, there is another, or this server's end."""
        self.lifecycle.worker = self._worker = None
        self.images.use_worker(None)
        self.worker_process.when_ended(lambda: self._worker_ended(reason))

    def _worker_ended(self, reason: str) -> None:
        """The containers of a lost worker live on; they are stopped in order, under a new one."""
        if self.ending is not None and not self.apps:
            self._finish()
            return
        self._worker_losses += 1
        self.log(f"the worker was lost ({reason or 'its process ended'})")
        if self._worker_losses > 20:
            self.log("giving up: workers keep dying")
            self._finish()
            return
        stays, settings = self.store is not None, self.settings.environment()
        self.use_worker(*spawn_worker(str(self.home), str(self.run), self._lock, settings, stays=stays))
        assert self._worker is not None
        if self.returns is not None and not self.returns.begun:
            return  # it will be told with what the server before this one had
        placed = [c for c in self.lifecycle.containers.live() if c.state is not ContainerState.PENDING]
        self._worker.adopt(placed)
        for container in placed:
            if not container.returning:
                self.lifecycle.adopted(container)

    # ---- ending ----

    def shut_down(self, reason: str, then: Callable[[], None] | None = None, drain: float = 0.0) -> None:
        """Stop every app, then the worker, then this server; ``then`` is called just before the end."""
        if self.ending is not None:
            if then is not None:
                self.ending.append(then)
            return
        self.ending = [then] if then is not None else []
        if drain and self.lifecycle.containers.live():
            self.log(f"ends, since {reason}: what runs may finish, for {drain:g} s; then exit hooks run")
        if self.firing is not None:
            self.firing.close()
        for app in list(self.apps.values()):
            self.stop_app(app, f"the server shuts down: {reason}", drain=drain)
        self.loop.call_later(drain + READERS, self._leave_output)
        if not self.apps:
            self._end_worker()

    def _leave_output(self) -> None:
        if self._worker is not None:
            self._worker.leave_output()

    def _end_when_alone(self) -> None:
        if self._ephemeral and self._clients == 0 and not self.apps:
            self.shut_down("its program has ended")

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.connection.send(Shutdown(0))
        elif not self.worker_process.pid:
            self._finish()

    def _finish(self) -> None:
        if self._finishing:
            return
        self._finishing = True
        for then in self.ending or []:
            then()
        if self._listener is not None:
            self.loop.remove_reader(self._listener)
            self._listener.close()
        self.web.close()
        if self.remote is not None:
            self.remote.close()
        for visitor in list(self.visitors):
            visitor.connection.close()
        if self.store is not None:
            if self.durable is not None:
                self.durable.flush()
            if self.returns is not None:
                self.returns.flush()
            self.store.close(self._clear)
        else:
            self._clear()

    def _clear(self) -> None:
        self.disk.do(lambda: shutil.rmtree(self.run, ignore_errors=True), self._cleared)

    def _cleared(self, done: Future[None]) -> None:
        done.result()
        for visitor in list(self.visitors):
            visitor.connection.abort()  # what it hasn't read by now it can't have
        self.disk.close()
        self.finished.set_result(None)

    def install_signals(self) -> None:
        """SIGTERM and SIGINT end the server in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.shut_down, f"it got {number.name}", None, DRAIN)
