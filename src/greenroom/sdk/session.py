"""This process's link to a server while apps run: requests, and the events that come back.

A thread of its own reads events and hands them to the display; calls don't pass here (see ``channel.py``).
"""

import os
import threading
from collections.abc import Callable
from typing import Any

from greenroom.model.errors import AuthError, ConnectionError, ProtocolError
from greenroom.sdk import address as addresses
from greenroom.sdk import last_words
from greenroom.sdk.address import Address
from greenroom.sdk.channel import next_rid, raise_failed
from greenroom.sdk.output import OutputSink, current_sink, say
from greenroom.sdk.server_process import ServerProcess
from greenroom.sdk.streams import warn
from greenroom.usercode.service import one_line
from greenroom.wire import messages as m
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.image_messages import ImageLog, ImageStep
from greenroom.wire.payload import Payload
from greenroom.wire.web_messages import Requested


class _Answer:
    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.message: Any = None


class Session:
    """A connection for requests and events."""

    def __init__(self, to: Address, process: ServerProcess | None) -> None:
        self.users = 0
        self._process = process
        self._connection = BlockingConnection(to.connect())
        self._answers: dict[int, _Answer] = {}
        self._lock = threading.Lock()
        self._lost: Exception | None = None
        self._heard: dict[str, int] = {}
        """Bytes of each container's output that have come."""
        self._functions: dict[str, str] = {}
        """Which function or class each container is of."""
        self._not_shown: Exception | None = None
        """What the display first failed with."""
        self._connection.send(m.Hello(to.role, to.token, m.PROTOCOL_VERSION))
        self._thread = threading.Thread(target=self._read, name="greenroom-events", daemon=True)
        self._thread.start()

    def send(self, message: Any, payloads: list[Payload] | None = None) -> _Answer:
        """Send a request; :meth:`wait` for its answer."""
        answer = _Answer()
        with self._lock:
            if isinstance(self._lost, AuthError):
                raise self._lost
            if self._lost is not None:
                raise ConnectionError(f"the Greenroom server went away: {self._lost}")
            self._answers[message.rid] = answer
            try:
                self._connection.send(message, payloads)
            except ConnectionError:
                self._shut_down()  # the server may have said why: whoever reads tells it
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
        lost: Exception = ConnectionError("its messages are read no longer")
        try:
            while True:
                self._take(*self._connection.receive())
        except (ConnectionError, ProtocolError, AuthError, OSError) as error:
            lost = error
        finally:
            # Whatever ended it: nobody may wait for ever.
            with self._lock:
                self._lost = lost
                answers, self._answers = list(self._answers.values()), {}
            for answer in answers:
                answer.message = lost
                answer.arrived.set()
        if self._process is not None and self._process.has_containers() and current_sink() is not None:
            last_words.relay(self._process, self._heard, self._show_log)

    def _take(self, message: Any, payloads: list[Payload]) -> None:
        if isinstance(message, m.Done | m.Failed):
            with self._lock:
                answer = self._answers.pop(message.rid, None)
            if answer is not None:
                answer.message = message
                answer.arrived.set()
        elif isinstance(message, m.Refused):
            raise AuthError(f"the server refused the connection: {message.reason}")
        elif isinstance(message, m.Notice):
            self._show(lambda: say(message.text))
        elif isinstance(message, Requested):
            self._show_on(lambda sink: sink.requested(message.text))
        elif isinstance(message, m.Log):
            data = payloads[0]
            assert isinstance(data, bytes)
            self._heard[message.container_id] = self._heard.get(message.container_id, 0) + len(data)
            self._functions[message.container_id] = message.function
            self._show_log(message.container_id, data)
        elif isinstance(message, ImageStep):
            self._show_on(lambda sink: sink.image_step(*message))
        elif isinstance(message, ImageLog):
            data = payloads[0]
            assert isinstance(data, bytes)
            self._show_on(lambda sink: sink.image_log(message.image_id, data))
        elif isinstance(message, m.ContainerChanged):
            self._functions[message.container_id] = message.function
            self._show_on(
                lambda sink: sink.container_changed(
                    message.container_id, message.function, message.state, message.reason
                )
            )

    def _show_log(self, container_id: str, data: bytes) -> None:
        self._show_on(lambda sink: sink.log(container_id, self._functions.get(container_id, ""), data))

    def _show_on(self, show: Callable[[OutputSink], None]) -> None:
        if (sink := current_sink()) is not None:
            self._show(lambda: show(sink))

    def _show(self, show: Callable[[], None]) -> None:
        """What shows it may be the program's, a stream of its own say: its failure must not stop us from reading."""
        try:
            show()
        except Exception as error:  # noqa: BLE001 - told when the session ends
            self._not_shown = self._not_shown or error

    def abandon(self) -> None:
        """In a forked child: it is the parent's, whose server and whose thread that reads it are not ours to end."""
        self._lock, self._lost, self._process = threading.Lock(), ConnectionError("it is the parent process's"), None
        os.close(self._connection.sock.detach())

    def close(self) -> None:
        """End the connection, and with it an ephemeral server; returns once that has ended."""
        self._shut_down()
        self._thread.join()
        self._connection.close()
        if self._process is not None:
            self._process.wait()
        if (error := self._not_shown) is not None:
            warn(f"greenroom: not all that happened could be shown: {one_line(error)}")

    def _shut_down(self) -> None:
        try:
            self._connection.sock.shutdown(2)
        except OSError:
            pass  # the server was faster


_current: Session | None = None
_lock = threading.RLock()
_running: list[tuple[Session, str]] = []


def _connected(to: Address) -> Session | None:
    """A session with a server that is there already; None: it has died, and nobody has cleared up after it."""
    try:
        return Session(to, None)
    except ConnectionError:
        if to.far is not None or to == addresses.configured():
            raise
        return None


def open_session(*, stays: bool = False) -> Session:
    """The session that this process has, or a new one, with a server of its own where none is set and none stays.

    Args:
        stays: it must be with one that stays.

    Raises:
        ConnectionError: none does.
    """
    global _current
    with _lock:
        if _current is None or _current.lost:
            given = addresses.configured()
            if given is None and (stays or not addresses.wants_its_own()):
                given = addresses.chosen() or addresses.standing()
            _current = _connected(given) if given is not None else None
            if _current is None and stays:
                raise ConnectionError("no server stays here that could keep the app: start one with `greenroom server`, or choose one "
                                      "on another machine: `greenroom profile`")  # fmt: skip
            if _current is None:
                process = ServerProcess()
                given, _current = process.address, Session(process.address, process)
            addresses.set_address(given, own=_current._process is not None)
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
