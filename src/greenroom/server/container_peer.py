"""What a container's agent may say to the server."""

from typing import TYPE_CHECKING, Any

from greenroom.model.errors import ProtocolError
from greenroom.server.containers import Container
from greenroom.server.messages import Handler, only_payload
from greenroom.wire import messages as m
from greenroom.wire.loop_connection import LoopConnection
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.server.core import Server


class ContainerPeer:
    """An agent's ``data`` or ``control`` connection."""

    def __init__(self, server: "Server", connection: LoopConnection, container: Container, channel: str) -> None:
        self._lifecycle = server.lifecycle
        self._containers = server.lifecycle.containers
        self._connection = connection
        self._container = container
        self._channel = channel
        self._exited = False
        self._handlers: dict[type, Handler] = {
            m.Results: self._results,
            m.Yielded: self._yielded,
            m.Returned: lambda message, _: self._lifecycle.returned(container, message.seqs),
            m.HookDone: self._hook_done,
            m.Entered: lambda message, _: self._lifecycle.entered(container),
            m.StartFailed: lambda message, payloads: self._lifecycle.start_failed(
                container, message.step, message.text, only_payload(message, payloads)
            ),
            m.Stuck: lambda message, _: self._lifecycle.stuck(container, message.seq, message.main),
            m.Exiting: lambda message, _: self._lifecycle.exiting(container),
            m.Exited: self._has_exited,
        }

    def welcomed(self) -> None:
        """The connection is ours."""
        if getattr(self._container, self._channel) is not None:
            raise ProtocolError(f"the container {self._container.id} has a {self._channel} connection already")
        setattr(self._container, self._channel, self._connection)
        if self._container.data is not None and self._container.control is not None:
            self._lifecycle.connected(self._container)

    def on_message(self, message: Any, payloads: list[Payload]) -> None:
        """One message arrived."""
        handler = self._handlers.get(type(message))
        if handler is None:
            raise ProtocolError(f"{type(message).__name__} is not for a container to say")
        handler(message, payloads)

    def closed(self) -> None:
        """The connection is gone; with it, the agent, or soon."""
        if not self._exited:
            other = self._container.data if self._channel == "control" else self._container.control
            if other is not None:
                other.drain()  # what it had said there counts, whichever of its connections is seen to close first
        if not self._exited:
            self._lifecycle.agent_gone(self._container)
        if getattr(self._container, self._channel) is self._connection:
            setattr(self._container, self._channel, None)

    def _results(self, message: m.Results, payloads: list[Payload]) -> None:
        self._lifecycle.results(self._container, message.items, payloads)

    def _yielded(self, message: m.Yielded, payloads: list[Payload]) -> None:
        item = self._container.running.get(message.seq)
        if item is not None:
            self._lifecycle.calls.values(item, payloads)

    def _hook_done(self, message: m.HookDone, payloads: list[Payload]) -> None:
        self._containers.note_step(
            self._container, f"{message.phase} {message.name}".strip(), message.seconds, message.error
        )
        if message.phase == "import":
            self._lifecycle.imported(self._container)

    def _has_exited(self, message: m.Exited, payloads: list[Payload]) -> None:
        self._exited = True
        self._container.errors.extend(message.errors)
