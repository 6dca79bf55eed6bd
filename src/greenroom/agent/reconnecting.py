"""The part of an agent that goes on with another server when its own has died: see ``returning.py``."""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenroom.agent.boundary import Task, keep_to_this_process
from greenroom.agent.outbox import Outbox
from greenroom.model.errors import ConnectionError
from greenroom.usercode.service import Service
from greenroom.wire.begin import Begin
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.ledger import Ledger
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.agent.control import Control
    from greenroom.agent.returning import Unkept
    from greenroom.agent.serve import Item
    from greenroom.wire.returning_messages import Returning


def _make_unkept(ledger: Ledger) -> "Unkept":
    from greenroom.agent.returning import Unkept
    from greenroom.wire.lasting import Lasting

    assert isinstance(ledger, Lasting)
    return Unkept(ledger)


class Reconnecting:
    """What an agent has of that."""

    control: "Control"
    outbox: Outbox
    service: Service | None
    startup: Task | None
    stopping: bool
    pending: "deque[Item]"
    _lock: threading.Lock
    _highest_seq: int
    _returned_ahead: set[int]
    _cancelled_ahead: set[int]

    def __init__(self, begin: Begin, data: BlockingConnection, ledger: Ledger) -> None:
        self.data = data
        self.unkept: Unkept | None = _make_unkept(ledger) if begin.reconnect else None
        """Where it may outlive its server."""
        self.to_drain = False
        """The server has said that it is to end with what it runs, which the main thread may not have read yet."""
        self.away = False
        """Its server has gone, and it looks for the next one."""
        self.leaving = False
        """All that it had begun is over, and it runs its exit hooks, or is about to."""
        self._taking = data
        """The connection that what is taken comes from."""
        self._sealed = False
        """Another server has been told what is here."""
        self._changed = threading.Condition()
        """Of ``data``: there is another, or there will be none."""
        self._on_change: Callable[[], object] | None = None

    def tell_supervisor(self, line: str) -> None:
        """A line for the supervisor."""
        raise NotImplementedError

    def _drop_waiting(self) -> "list[Item]":
        """What has not begun is not to; the lock is held."""
        raise NotImplementedError

    @property
    def may_return(self) -> bool:
        """Whether it goes on without its server, and looks for the next one."""
        return self.unkept is not None and self.service is not None and self.startup is None and not self.leaving

    def receive(self) -> tuple[Any, list[Payload]]:
        """The next message of the data connection, this server's or the next one's; raises ``ConnectionError``."""
        while True:
            data = self._taking = self.data
            try:
                return data.receive()
            except ConnectionError:
                if self.unkept is None:
                    raise
                with self._changed:
                    self._changed.wait_for(lambda: self.data is not data or self.control.abandoned)  # noqa: B023
                if self.data is data:
                    raise
                data.close()

    def takes_from(self, data: BlockingConnection) -> None:
        """For who doesn't use :meth:`receive`: what :meth:`take` gets is of that connection."""
        self._taking = data

    def when_changed(self, callback: Callable[[], object]) -> None:
        """For who can't wait in :meth:`receive`: called, from any thread, each time that ``data`` is another or will be none."""
        self._on_change = callback

    def announce(self) -> "Returning":
        """What it has, for another server. What has not begun is given back, and no more of the last server's is taken."""
        from greenroom.wire.returning_messages import Returning

        assert self.unkept is not None
        with self._lock:
            self._sealed = True
            self.unkept.forget([item.seq for item in self._drop_waiting()])
            self._returned_ahead.clear()
            self._cancelled_ahead.clear()
            stopping = self.stopping or self.to_drain
            return Returning(list(self.unkept.given.values()), self._highest_seq + 1, stopping)

    def go_on_with(self, data: BlockingConnection) -> None:
        """That server has taken it back; raises ``ConnectionError``."""
        assert self.unkept is not None
        with self.outbox.held():
            self.unkept.tell_results(data)
            self.outbox.connection = data
        with self._lock:
            self.data, self._sealed, self.away = data, False, False
        keep_to_this_process(data.sock)
        self.tell_supervisor("stay\n")
        self.connection_changed()

    def tell_all(self) -> None:
        """It is to end, and nothing runs any more: wait until what has ended is told, to this server or to the next one."""
        if self.unkept is not None:
            with self._changed:
                self._changed.wait_for(self._all_told)
        self.leaving = True

    def _all_told(self) -> bool:
        assert self.unkept is not None
        told = not self.away and not self.outbox.lost
        return told or not self.unkept.given or self.control.abandoned

    def kept(self, seqs: list[int]) -> None:
        """These results are safe."""
        if self.unkept is not None:
            self.unkept.forget(seqs)

    def connection_changed(self) -> None:
        """Wake whoever waits for that."""
        with self._changed:
            self._changed.notify_all()
        if self._on_change is not None:
            self._on_change()
