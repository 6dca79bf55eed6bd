"""What the server and its worker say to each other."""

import socket
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import ProtocolError
from greenroom.server.containers import Container
from greenroom.server.lifecycle import Result
from greenroom.server.messages import Handler, only_payload
from greenroom.server.slow_readers import SlowReaders
from greenroom.wire import image_messages as im
from greenroom.wire import messages as m
from greenroom.wire.loop_connection import LoopConnection
from greenroom.wire.output_messages import LeaveOutput
from greenroom.wire.payload import Payload, in_memory
from greenroom.wire.returning_messages import Settled

if TYPE_CHECKING:
    from greenroom.server.core import Server


class WorkerPeer:
    """The worker, over the socket pair that it was born with."""

    def __init__(self, server: "Server", sock: socket.socket) -> None:
        self._server = server
        self.connection = LoopConnection(sock, server.turn, self._on_message, self._on_closed)
        self._slow_readers = SlowReaders(self.connection.send, server.loop.call_later)
        self._handlers: dict[type, Handler] = {
            m.WorkerReady: self._ready,
            m.ContainerStarted: self._started,
            m.ContainerLog: self._container_log,
            m.ContainerEnded: self._ended,
            im.ImageStep: server.images.on_step,
            im.ImageLog: self._image_log,
            im.ImageMade: server.images.on_made,
        }

    # ---- what it is told ----

    def start(self, container: Container) -> None:
        """Start a container's sandbox."""
        server, function = self._server, container.pool.function
        server.say_what_is_missing(function)
        spec = function.spec
        settings = server.settings
        made = server.images.made(function.app, spec.image) if spec.image else {}
        returns = server.returns
        begin = {
            "container_id": container.id,
            "token": container.token,
            "socket": server.socket_path,
            "app_id": spec.app_id,
            "spec": spec._replace(environment={}, secrets=[]).to_json(),
            "code": "",
            "exit_grace": settings.exit_grace,
            "cancel_grace": settings.cancel_grace,
            "max_payload": settings.max_payload,
            "inline_limit": settings.inline_limit,
            "reconnect": returns.window if returns is not None and returns.starts(container) else 0.0,
            "deployed": function.app.deployed,
        }
        environment, container.environment = container.environment, None
        if environment is None:
            environment = spec.environment
        self.connection.send(
            m.StartContainer(container.id, begin, environment, spec.bundle, list(spec.limits), made, []),
            [function.definition, container.pool.binding],
        )
        self._slow_readers.began(function.app, container.id)

    def kill(self, container: Container) -> None:
        """SIGKILL a container, now."""
        self.connection.send(m.SignalContainer(container.id, "kill"))

    def kill_after(self, container: Container, seconds: float) -> None:
        """SIGKILL a container unless it is gone by then."""
        self.connection.send(m.SignalContainer(container.id, "watch", seconds))

    def adopt(self, containers: list[Container], patience: float = 0.0) -> None:
        """Take over what the worker before this one left. ``patience``: seconds that others have to end by themselves."""
        self.connection.send(m.Adopt([[c.id, c.log_bytes] for c in containers], patience))

    def settled(self, container_id: str) -> None:
        """What followed from the end of a container is safe."""
        self.connection.send(Settled(container_id))

    def leave_output(self, container: Container | None = None) -> None:
        """Let nobody's end wait any longer for those who don't read; or that of one container, whose program is told."""
        if container is None:
            self.connection.send(LeaveOutput(""))
        elif self._slow_readers.holds(container.id):
            self.connection.send(LeaveOutput(container.id))
            text = f"{container.id} ends before all of its output is read: `greenroom container logs {container.id}` has it"
            container.pool.function.app.say_once(text)

    # ---- what it says ----

    def _on_message(self, message: Any, payloads: list[Payload]) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:
            raise ProtocolError(f"{type(message).__name__} is not for a worker to say")
        try:
            handler(message, payloads)
        except Exception:
            # It would take its connection's end for ours, and clear up what its successor is to have.
            self._server.worker_process.kill()
            raise

    def _on_closed(self, reason: str) -> None:
        self._server.worker_gone(reason)

    def _container(self, container_id: str) -> Container | None:
        return self._server.lifecycle.containers.by_id.get(container_id)

    def _ready(self, message: m.WorkerReady, payloads: list[Payload]) -> None:
        self._server.sandbox = message
        for container in self._server.lifecycle.containers.live():
            self._server.say_what_is_missing(container.pool.function)

    def _started(self, message: m.ContainerStarted, payloads: list[Payload]) -> None:
        if (container := self._container(message.container_id)) is not None:
            container.pid, container.enter = message.pid, message.enter

    def _container_log(self, message: m.ContainerLog, payloads: list[Payload]) -> None:
        container, output = self._container(message.container_id), only_payload(message, payloads)
        if container is None:
            return
        container.log_bytes += len(output)
        function = container.pool.function
        function.app.tell(m.Log(container.id, function.spec.name, []), [output])
        if function.app.outlives_program:
            self._server.app_logs.add(container, in_memory(output))
        self._slow_readers.mind(
            function.app, lambda: [container.id, *(c.id for c in self._server.containers_of(function.app))]
        )

    def _image_log(self, message: im.ImageLog, payloads: list[Payload]) -> None:
        for app in self._server.images.on_log(message, payloads):
            self._slow_readers.mind(app, lambda: [message.image_id])

    def _ended(self, message: m.ContainerEnded, payloads: list[Payload]) -> None:
        if not len(message.finished) == len(message.statuses) == len(payloads):
            raise ProtocolError(f"{len(message.finished)} inputs had finished, with {len(payloads)} results")
        if (container := self._container(message.container_id)) is not None:
            # What it still said may wait behind what the worker says: its connections are not the worker's.
            for connection in (container.data, container.control):
                if connection is not None:
                    connection.drain()
            if self._server.returns is not None and container.returning:
                self._server.returns.died(container, message, payloads)
                return
            self._server.lifecycle.settle(container, message.begun, results_of(message, payloads))
            self._server.lifecycle.gone(container, message.reason, message.started)
        else:
            self.settled(message.container_id)


def results_of(message: m.ContainerEnded, payloads: list[Payload]) -> list[Result]:
    """What a container had finished, by its ledger."""
    return list(zip(message.finished, message.statuses, payloads, strict=True))
