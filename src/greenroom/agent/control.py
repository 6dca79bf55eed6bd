"""The control thread: reads the control connection, keeps the agent's own deadlines, notices when others have died."""

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from greenroom.agent.boundary import RETRY, Task, keep_to_this_process
from greenroom.model.errors import ConnectionError, ProtocolError
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.messages import AddCredit, Interrupt, Returned, Revoke, Stop, Stuck

if TYPE_CHECKING:
    from greenroom.agent.serve import Agent
    from greenroom.wire.returning_messages import Kept

LOOP_ANSWERS = 1.0
"""Seconds after which an event loop that didn't answer counts as held up by user code."""
FLUSH_AFTER = 0.005
"""Seconds that a finished result may wait while the main thread runs further inputs of its batch."""


def kept_type() -> "type[Kept]":
    """The message's, which few agents need."""
    from greenroom.wire.returning_messages import Kept

    return Kept


class Control(threading.Thread):
    """See the module."""

    def __init__(self, agent: "Agent", connection: BlockingConnection, supervisor_fd: int) -> None:
        super().__init__(name="greenroom-control", daemon=True)
        self._agent = agent
        self._connection: BlockingConnection | None = connection
        """None: its server has gone, and the next one is looked for."""
        self._found: list[BlockingConnection | None] = []
        """What came of that."""
        self._supervisor_fd = supervisor_fd
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._watching = False
        self._given_up: deque[Task] = deque()
        self.abandoned = False
        """The supervisor has gone, or the server, and no other takes over."""
        self._kept_type: type[Kept] | None = kept_type() if agent.unkept is not None else None

    def watch_batch(self) -> None:
        """A batch begins on the main thread: see to it that its results don't wait long. Called by the main thread."""
        if not self._watching:
            self._watching = True
            os.write(self._wake_write, b"w")

    def has_given_up(self, task: Task) -> None:
        """Nobody waits for ``task`` any more; from any thread."""
        self._given_up.append(task)
        os.write(self._wake_write, b"g")

    def run(self) -> None:
        """Until the process ends."""
        poll = select.poll()
        assert self._connection is not None
        for fd in (self._connection.sock.fileno(), self._supervisor_fd, self._wake_read):
            poll.register(fd, select.POLLIN)
        while not self.abandoned:
            for fd, _ in poll.poll(self._timeout()):
                if fd == self._wake_read:
                    os.read(fd, 4096)
                elif fd == self._supervisor_fd:
                    self._abandon()
                elif self._connection is not None and not self._read(self._connection):
                    self._lose(poll, self._connection)
            while self._found:
                self._take_up(poll, self._found.pop())
            while self._given_up:
                self._say(Stuck(self._given_up.popleft().seq, main=False))
            self._watch()
            self._run_timers()
        self._watching = False  # nobody is left to send results to
        while True:
            self._run_timers()
            timeout = self._timeout()
            time.sleep(timeout / 1000 if timeout is not None else 3600)

    def _timeout(self) -> float | None:
        """Milliseconds until something is due."""
        due = min((when for when, _ in self._timers), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        if self._watching:
            wait = FLUSH_AFTER if wait is None else min(wait, FLUSH_AFTER)
        return None if wait is None else wait * 1000

    def _watch(self) -> None:
        if self._watching:
            # Before the look, lest a batch that begins during it goes unwatched.
            self._watching = False
            if self._agent.outbox.flush_late():
                self._watching = True

    def _run_timers(self) -> None:
        now = time.monotonic()
        due = [pair for pair in self._timers if pair[0] <= now]
        self._timers = [pair for pair in self._timers if pair[0] > now]
        for _, callback in due:
            callback()

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back, on this thread, which is where this is called too."""
        self._timers.append((time.monotonic() + seconds, callback))

    def _read(self, connection: BlockingConnection) -> bool:
        """Take what has come; False: nothing more will."""
        try:
            arrived = connection.read_once()
        except (ConnectionError, ProtocolError):
            return False
        for message, _ in arrived:
            self._take(message)
        return True

    def _take(self, message: object) -> None:
        if isinstance(message, Interrupt):
            self.interrupt(message.seq)
        elif isinstance(message, Revoke):
            self._say(Returned(self._agent.give_back(message.seqs)))
            self._watching = True  # results that waited for these must wait no longer
        elif isinstance(message, AddCredit):
            self._agent.add_credit(message.seq, message.more)
        elif self._kept_type is not None and isinstance(message, self._kept_type):
            self._agent.kept(message.seqs)
        elif isinstance(message, Stop):
            self._agent.to_drain = True

    def _say(self, message: Returned | Stuck) -> None:
        if self._connection is not None:
            with contextlib.suppress(ConnectionError):  # noticed where it is read
                self._connection.send(message)

    def _lose(self, poll: select.poll, connection: BlockingConnection) -> None:
        """The server has gone."""
        poll.unregister(connection.sock)
        if not self._agent.may_return:
            self._abandon()
            return
        from greenroom.agent.returning import PASSING, Return

        self._connection, self._agent.away = None, True
        connection.close()
        for seq in self._agent.running_of(PASSING):  # nobody will take these any more
            self.interrupt(seq)
        Return(self._agent, self._tell).start()

    def _tell(self, found: BlockingConnection | None) -> None:
        """Another server takes over, or none does; on the thread that looked for one."""
        self._found.append(found)
        os.write(self._wake_write, b"f")

    def _take_up(self, poll: select.poll, connection: BlockingConnection | None) -> None:
        if connection is None:
            self._abandon()
            return
        keep_to_this_process(connection.sock)
        self._connection = connection
        poll.register(connection.sock, select.POLLIN)
        while connection.pending():  # came with its welcome
            self._take(connection.receive()[0])

    def interrupt(self, seq: int) -> None:
        """Cancel one input, or the start-up (-1); if it doesn't stop in time, say so."""
        task = self._agent.cancel(seq)
        if task is not None:
            self._insist(task)
            self.later(self._agent.begin.cancel_grace, lambda: self._check_stopped(task))

    def _insist(self, task: Task) -> None:
        """Until the exception has been raised in it, or it is over."""
        if self._agent.is_running(task) and not task.delivered:
            self._agent.interrupt_task(task)
            self.later(RETRY, lambda: self._insist(task))

    def _check_stopped(self, task: Task) -> None:
        if not self._agent.is_running(task):
            return
        if self._agent.on_main_thread(task):
            self._say(Stuck(task.seq, main=True))
        else:
            self._agent.give_up(task)
            self.later(LOOP_ANSWERS, lambda: self._check_given_up(task))

    def _check_given_up(self, task: Task) -> None:
        if self._agent.is_running(task) and not task.given_up:
            self._say(Stuck(task.seq, main=True))

    def _abandon(self) -> None:
        """Nobody is left to tell us anything: cancel what runs, run the exit hooks, end."""
        if self.abandoned:
            return
        self.abandoned = True
        self._agent.abandon()
        for seq in self._agent.running_seqs():
            self.interrupt(seq)
