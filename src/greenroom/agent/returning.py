"""A container that outlives its server: it goes on with what it has begun, looks for the next server, and tells that.

A result stays here until the server says that it is safe: committed, or on its way to the caller. What the next server
asks of the last one's work it can so be told, and nothing that has run is run again.
"""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import AuthError, ConnectionError, ProtocolError
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.lasting import Lasting
from greenroom.wire.messages import PROTOCOL_VERSION, Hello, Results, Welcome
from greenroom.wire.payload import Payload
from greenroom.wire.returning_messages import Resume

if TYPE_CHECKING:
    from greenroom.agent.serve import Agent

SLACK = 2.0
"""Seconds beyond the window for a server that is there, and hears many containers."""
AGAIN = 0.05
"""Seconds between two looks for the next server."""
BATCH = 64
"""Results that are told in one frame."""
PASSING = frozenset({"generator", "web"})
"""Shapes of calls that end with the connection that they came on."""

Told = Callable[[BlockingConnection | None], None]


class Unkept:
    """What the server has given this container, until it says that the result is safe; ``ledger`` says it when this process
    has died."""

    def __init__(self, ledger: Lasting) -> None:
        self.given: dict[int, list[Any]] = {}
        """Of each input: number, call, index, method and shape."""
        self.results: dict[int, tuple[str, Payload]] = {}
        self._ledger = ledger
        self._lock = threading.Lock()

    def take(self, items: list[list[Any]]) -> None:
        """Inputs have come."""
        with self._lock:
            for item in items:
                self.given[item[0]] = item
            self._ledger.given(items, self.given, self.results)

    def put(self, seq: int, status: str, payload: Payload) -> None:
        """An input has ended."""
        if seq in self.given:
            self.results[seq] = status, payload

    def forget(self, seqs: list[int]) -> None:
        """They are safe, or somebody else's."""
        with self._lock:
            for seq in seqs:
                self.given.pop(seq, None)
                self.results.pop(seq, None)
            self._ledger.safe(seqs, self.given, self.results)

    def tell_results(self, connection: BlockingConnection) -> None:
        """Say them to another server; raises ``ConnectionError``."""
        results = list(self.results.items())
        for first in range(0, len(results), BATCH):
            batch = results[first : first + BATCH]
            connection.send(Results([[seq, end[0], ""] for seq, end in batch], []), [end[1] for _, end in batch])


class Return(threading.Thread):
    """Looks for the next server, for as long as the container may do without one."""

    def __init__(self, agent: "Agent", told: Told) -> None:
        """``told``, on this thread: the control connection to that server, or None: there is none."""
        super().__init__(name="greenroom-return", daemon=True)
        self._agent = agent
        self._told = told
        self._until = time.monotonic() + agent.begin.reconnect

    def run(self) -> None:
        """See the class."""
        while True:
            connections: list[BlockingConnection] = []
            try:
                control, data = self._connected("control", connections), self._connected("data", connections)
                data.send(self._agent.announce())
                self._expect(Resume, data)
                self._agent.go_on_with(data)
            except AuthError:
                self._close(connections)
                break
            except (ConnectionError, ProtocolError, TimeoutError):
                self._close(connections)
            else:
                self._told(control)
                return
            if time.monotonic() + AGAIN > self._until:
                break
            time.sleep(AGAIN)
        self._told(None)

    def _close(self, connections: list[BlockingConnection]) -> None:
        for connection in connections:
            connection.close()

    def _connected(self, channel: str, opened: list[BlockingConnection]) -> BlockingConnection:
        begin = self._agent.begin
        connection = BlockingConnection(connect(begin.socket))
        opened.append(connection)
        connection.send(Hello("container", begin.token, PROTOCOL_VERSION, channel))
        self._expect(Welcome, connection)
        return connection

    def _expect(self, kind: type, connection: BlockingConnection) -> None:
        """The next message; raises ``AuthError`` where it is another: the server doesn't know us."""
        message, _ = connection.receive(max(0.0, self._until + SLACK - time.monotonic()))
        if not isinstance(message, kind):
            raise AuthError(f"the server said {message}")
