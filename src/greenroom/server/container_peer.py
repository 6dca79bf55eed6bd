"""What a container's agent may say to the server.

The user's code holds the container's token, so it may say anything, at any time. Each message is checked whole before
anything is changed; one that can't be true ends the connection, and with it the container.
"""

import math
from typing import TYPE_CHECKING, Any

from greenroom.model.container_state import ContainerState
from greenroom.model.errors import ProtocolError
from greenroom.server.call import Input
from greenroom.server.containers import Container
from greenroom.server.lifecycle import Result
from greenroom.server.messages import Handler, only_payload
from greenroom.wire import messages as m
from greenroom.wire.loop_connection import LoopConnection
from greenroom.wire.payload import Payload
from greenroom.wire.returning_messages import Returning
from greenroom.wire.web_messages import WINDOW, WebOut, WebTaken, cost

if TYPE_CHECKING:
    from greenroom.server.core import Server

MOST_TEXT = 4000
"""Characters of a text by a container that are kept; what a person should read is shorter."""
MOST_ERRORS = 1000
"""Failed exit hooks that are kept: no class has so many."""
CREDIT = 256
"""Values that a generator may be ahead of its caller, as ``agent/serve.py`` has it."""
_PHASES = frozenset({"import", "construct", "enter", "exit"})
_STATUSES = frozenset({m.Status.OK, m.Status.ERROR, m.Status.CANCELLED, m.Status.END})
_WEB_OUT = frozenset({"body", "end", "text", "bytes", "accept", "close", "cut"})
MOST_MESSAGE = 16 * 1024**2
"""Bytes of one message of a WebSocket."""
_ENDING = frozenset({ContainerState.DRAINING, ContainerState.EXITING})


class ContainerPeer:
    """An agent's ``data`` or ``control`` connection."""

    def __init__(self, server: "Server", connection: LoopConnection, container: Container, channel: str) -> None:
        self._lifecycle = server.lifecycle
        self._returns = server.returns
        self._containers = server.lifecycle.containers
        self._connection = connection
        self._container = container
        self._channel = channel
        self._exited = False
        data: dict[type, Handler] = {
            m.Results: self._results,
            Returning: self._returning,
            m.Yielded: self._yielded,
            WebOut: self._web_out,
            WebTaken: self._web_taken,
            m.HookDone: self._hook_done,
            m.Entered: lambda message, _: self._lifecycle.entered(container),
            m.StartFailed: self._start_failed,
            m.Exiting: self._exiting,
            m.Exited: self._has_exited,
        }
        control: dict[type, Handler] = {m.Returned: self._returned, m.Stuck: self._stuck}
        self._handlers = data if channel == "data" else control

    def welcomed(self) -> None:
        """The connection is ours."""
        setattr(self._container, self._channel, self._connection)
        if self._container.data is not None and self._container.control is not None:
            self._lifecycle.connected(self._container)

    def on_message(self, message: Any, payloads: list[Payload]) -> None:
        """One message arrived."""
        handler = self._handlers.get(type(message))
        if handler is None:
            raise ProtocolError(
                f"{type(message).__name__} is not for a container to say on its {self._channel} connection"
            )
        if not self._container.live:
            raise ProtocolError(f"the container {self._container.id} has ended, and has nothing to say any more")
        handler(message, payloads)

    def closed(self) -> None:
        """The connection is gone; with it, the agent, or soon."""
        container = self._container
        other = container.data if self._channel == "control" else container.control
        if not self._exited and other is not None:
            other.drain()  # what it had said there counts, whichever of its connections is seen to close first
        setattr(container, self._channel, None)
        if not self._exited:
            self._lifecycle.agent_gone(container)
            if other is not None:
                other.close()  # an agent that is still there, and said what can't be, learns that its time has come

    # ---- inputs ----

    def _returning(self, message: Returning, payloads: list[Payload]) -> None:
        if self._returns is None:
            raise ProtocolError("it comes back, and was not away")
        self._returns.came_back(self._container, message)

    def _results(self, message: m.Results, payloads: list[Payload]) -> None:
        self._lifecycle.results(self._container, checked_results(self._container, message.items, payloads))

    def _yielded(self, message: m.Yielded, payloads: list[Payload]) -> None:
        _check_seq(self._container, message.seq)
        item = self._container.running.get(message.seq)
        if item is None:
            if message.seq not in self._container.let_go:
                raise ProtocolError(f"values of the input {message.seq}, which doesn't run")
            return
        if item.call.shape != "generator" or not payloads:
            raise ProtocolError(f"{len(payloads)} values of the input {message.seq} of a {item.call.shape} call")
        if item.yielded + len(payloads) > CREDIT + item.credited:
            raise ProtocolError(f"the input {message.seq} yields faster than its caller has allowed")
        self._lifecycle.calls.values(item, payloads)

    def _web_item(self, seq: int) -> Input | None:
        """The request from the web that a message is about; None: it has been let go."""
        _check_seq(self._container, seq)
        item = self._container.running.get(seq)
        if item is None:
            if seq not in self._container.let_go:
                raise ProtocolError(f"a response to the input {seq}, which doesn't run")
        elif item.call.shape != "web":
            raise ProtocolError(f"a response to the input {seq} of a {item.call.shape} call")
        return item

    def _web_out(self, message: WebOut, payloads: list[Payload]) -> None:
        payload = only_payload(message, payloads)
        if message.kind not in _WEB_OUT:
            raise ProtocolError(f"{message.kind[:40]!r} of a response")
        item = self._web_item(message.seq)
        if item is None:
            return
        item.yielded += cost(len(payload))
        if item.yielded - item.credited > 2 * WINDOW + MOST_MESSAGE:
            raise ProtocolError(f"the response to the input {message.seq} comes faster than its client takes it")
        if item.call.owner is not None:
            item.call.owner.send(message, [payload])

    def _web_taken(self, message: WebTaken, payloads: list[Payload]) -> None:
        item = self._web_item(message.seq)
        if not 0 < message.size <= 2 * MOST_MESSAGE:
            raise ProtocolError(f"{message.size} bytes of a request were taken")
        takes = getattr(item.call.owner, "takes", None) if item is not None else None
        if takes is not None:
            takes(message.size)

    def _returned(self, message: m.Returned, payloads: list[Payload]) -> None:
        asked_back = self._container.asked_back
        seqs = message.seqs
        if not asked_back or not all(type(seq) is int and seq in asked_back[0] for seq in seqs):
            raise ProtocolError("inputs come back that were not asked for")
        if len(set(seqs)) != len(seqs):
            raise ProtocolError("an input comes back twice")
        asked_back.popleft()
        self._lifecycle.returned(self._container, seqs)

    def _stuck(self, message: m.Stuck, payloads: list[Payload]) -> None:
        if message.seq != -1:
            _check_seq(self._container, message.seq)
        self._lifecycle.stuck(self._container, message.seq, message.main)

    # ---- start and end ----

    def _hook_done(self, message: m.HookDone, payloads: list[Payload]) -> None:
        if message.phase not in _PHASES or not math.isfinite(message.seconds):
            raise ProtocolError(f"a step {message.phase[:40]!r} of {message.seconds} s")
        name = f"{message.phase} {message.name}".strip()[:MOST_TEXT]
        self._containers.note_step(self._container, name, message.seconds, message.error[:MOST_TEXT])
        if message.phase == "import" and not self._container.imported:
            self._lifecycle.imported(self._container)

    def _start_failed(self, message: m.StartFailed, payloads: list[Payload]) -> None:
        payload = only_payload(message, payloads)
        step, text = message.step[:MOST_TEXT], message.text[:MOST_TEXT]
        self._lifecycle.start_failed(self._container, step, text, payload)

    def _exiting(self, message: m.Exiting, payloads: list[Payload]) -> None:
        self._check_ending()
        self._lifecycle.exiting(self._container)

    def _has_exited(self, message: m.Exited, payloads: list[Payload]) -> None:
        self._check_ending()
        if self._exited:
            raise ProtocolError("it has exited twice")
        if not all(type(error) is str for error in message.errors):
            raise ProtocolError("an exit hook's error is no text")
        self._exited = True
        self._container.errors.extend(error[:MOST_TEXT] for error in message.errors[:MOST_ERRORS])

    def _check_ending(self) -> None:
        if self._container.state not in _ENDING:
            raise ProtocolError(f"it exits, {self._container.state}, though nobody told it to")


def _check_seq(container: Container, seq: Any) -> None:
    if type(seq) is not int or not 0 <= seq < container.next_seq:
        raise ProtocolError(f"an input {str(seq)[:40]!r}, which it never got")


def checked_results(container: Container, items: list[Any], payloads: list[Payload]) -> list[Result]:
    """What ``Results`` says, once all of it can be true.

    Raises:
        ProtocolError: it can't; nothing has changed.
    """
    if len(items) != len(payloads):
        raise ProtocolError(f"{len(items)} results with {len(payloads)} payloads")
    running, let_go = container.running, container.let_go
    results: list[Result] = []
    for entry, payload in zip(items, payloads, strict=True):
        if type(entry) is not list or len(entry) != 3:
            raise ProtocolError("a result is no list of three")
        seq, status, detail = entry
        if type(seq) is not int or type(status) is not str or status not in _STATUSES or detail != "":
            raise ProtocolError("a result has another shape")
        item = running.get(seq)
        if item is None:
            if seq not in let_go:
                raise ProtocolError(f"a result of the input {seq}, which doesn't run")
        elif status == (m.Status.OK if item.call.shape == "generator" else m.Status.END):
            raise ProtocolError(f"the input {seq} of a {item.call.shape} call ends with {status!r}")
        else:
            results.append((seq, status, payload))
    if len(results) > 1 and len({seq for seq, _, _ in results}) != len(results):
        raise ProtocolError("two results of one input")
    return results
