"""This process's link to a server while apps run: requests, and the events that come back.

A thread of its own reads events and hands them to the display; calls don't pass here (see ``channel.py``).
"""

import os
import threading
from typing import Any

from greenroom.model.errors import AuthError, ConnectionError, ProtocolError
from greenroom.sdk import address as addresses
from greenroom.sdk.address import Address
from greenroom.sdk.channel import next_rid, raise_failed
from greenroom.sdk.output import current_sink, say
from greenroom.sdk.server_process import ServerProcess
from greenroom.wire import messages as m
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.payload import Payload


class _Answer:
    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.message: Any = None


class Session:
    """A connection for requests and events."""

    def __init__(self, to: Address, process: ServerProcess | None) -> None:
        self.users = 0
        self._process = process
        self._address = to
        self._connection = BlockingConnection(connect(to.path))
        self._answers: dict[int, _Answer] = {}
        self._lock = threading.Lock()
        self._lost: Exception | None = None
        self._closing = False
        self._connection.send(m.Hello(to.role, to.token, m.PROTOCOL_VERSION))
        self._thread = threading.Thread(target=self._read, name="greenroom-events", daemon=True)
        self._thread.start()

    def send(self, message: Any, payloads: list[Payload] | None = None) -> _Answer:
        """Send a request; :meth:`wait` for its answer."""
        answer = _Answer()
        with self._lock:
            if self._lost is not None:
                raise ConnectionError(f"the Greenroom server went away: {self._lost}")
            self._answers[message.rid] = answer
            self._connection.send(message, payloads)
        return answer

    def wait(self, answer: _Answer) -> dict[str, Any]:
        """The answer's data; raises what the server said, or :class:`ConnectionError`."""
        answer.arrived.wait()
        if isinstance(answer.message, m.Done):
            return answer.message.data
        if isinstance(answer.message, m.Failed):
            raise_failed(answer.message)
        raise answer.message

    def request(self, message: Any, payloads: list[Payload] | None = None) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        return self.wait(self.send(message, payloads))

    @property
    def lost(self) -> bool:
        """Whether the server has gone."""
        return self._lost is not None

    def _read(self) -> None:
        try:
            while True:
                self._take(*self._connection.receive())
        except (ConnectionError, ProtocolError, AuthError, OSError) as error:
            with self._lock:
                self._lost = error
                answers, self._answers = list(self._answers.values()), {}
        for answer in answers:
            answer.message = self._lost
            answer.arrived.set()

    def _take(self, message: Any, payloads: list[Payload]) -> None:
        sink = current_sink()
        if isinstance(message, m.Done | m.Failed):
            with self._lock:
                answer = self._answers.pop(message.rid, None)
            if answer is not None:
                answer.message = message
                answer.arrived.set()
        elif isinstance(message, m.Refused):
            raise AuthError(f"the server refused the connection: {message.reason}")
        elif isinstance(message, m.Notice):
            say(message.text)
        elif sink is None:
            return
        elif isinstance(message, m.Log):
            assert isinstance(payloads[0], bytes)
            sink.log(message.container_id, message.function, payloads[0])
        elif isinstance(message, m.ContainerChanged):
            sink.container_changed(message.container_id, message.function, message.state, message.reason)

    def abandon(self) -> None:
        """In a forked child: it is the parent's, whose server and whose thread that reads it are not ours to end."""
        self._lock, self._lost, self._process = threading.Lock(), ConnectionError("it is the parent process's"), None
        os.close(self._connection.sock.detach())

    def close(self) -> None:
        """End the connection, and with it an ephemeral server; returns once that has ended."""
        self._closing = True
        try:
            self._connection.sock.shutdown(2)
        except OSError:
            pass  # the server was faster
        self._thread.join()
        self._connection.close()
        if self._process is not None:
            self._process.wait()


_current: Session | None = None
_lock = threading.RLock()
_running: list[tuple[Session, str]] = []


def open_session() -> Session:
    """The session that this process has, or a new one, with a server of its own where none is set."""
    global _current
    with _lock:
        if _current is None or _current.lost:
            given = addresses.configured()
            process = ServerProcess() if given is None else None
            to = process.address if process is not None else given
            assert to is not None
            _current = Session(to, process)
            addresses.set_address(to)
        _current.users += 1
        return _current


def close_session(session: Session) -> None:
    """One app less; the last one ends the session."""
    global _current
    with _lock:
        session.users -= 1
        if session.users:
            return
        if _current is session:
            _current = None
            addresses.set_address(None)
    session.close()


def note_running(session: Session, app_id: str) -> None:
    """That app runs now."""
    _running.append((session, app_id))


def note_ended(session: Session, app_id: str) -> None:
    """That app has ended."""
    if (session, app_id) in _running:
        _running.remove((session, app_id))


def kill_current() -> None:
    """SIGKILL every container of the apps that run: exit hooks don't. For a second Ctrl-C."""
    for session, app_id in list(_running):
        if not session.lost:
            session.send(m.StopApp(next_rid(), app_id, kill=True))


def _forget_after_fork() -> None:
    global _current, _lock
    _lock = threading.RLock()
    if _current is not None:
        _current.abandon()
        _current = None
    _running.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
