"""What leaves an agent on its data connection: results, many at a time where they are quick, and all else, in order."""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import ConnectionError
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.ledger import Ledger
from greenroom.wire.messages import Results, Status
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.agent.returning import Unkept

BATCH = 64
"""Results that leave in one frame at the most."""
BATCH_TIME = 0.002
"""Seconds that a result waits for further ones."""


class Outbox:
    """For any thread. To send may take as long as the peer likes.

    Args:
        ledger: keeps the results that wait, should the process die.
        at_hand: inputs that will run next: while there are any, results wait for theirs.
        unkept: where results stay until the server says that they are safe; None: they don't.
    """

    def __init__(
        self, connection: BlockingConnection, ledger: Ledger, at_hand: Sized, unkept: "Unkept | None" = None
    ) -> None:
        self.connection = connection
        self._unkept = unkept
        self._ledger = ledger
        self._at_hand = at_hand
        self._lock = threading.Lock()
        self._items: list[list[Any]] = []
        self._payloads: list[Payload] = []
        self._oldest = 0.0
        self.lost = False
        """Something could not be sent: its server has gone."""

    def put(self, seq: int, status: str, payload: Payload) -> None:
        """Keep a result until its batch leaves, which is at once unless more inputs are at hand."""
        with self._lock:
            if self._unkept is not None:
                self._unkept.put(seq, status, payload)
            if not self._items:
                self._oldest = time.monotonic()
            self._items.append([seq, status, ""])
            self._payloads.append(payload)
            waits = (
                self._at_hand
                and len(self._items) < BATCH
                and status == Status.OK
                and time.monotonic() - self._oldest < BATCH_TIME
            )
            # It waits for others only where it outlives this process.
            if (waits or self._ledger.lasting) and self._ledger.keep(seq, payload, status) and waits:
                return
            with contextlib.suppress(ConnectionError):  # whoever reads notices
                self._flush()

    def put_all(self, results: Iterable[tuple[int, str, Payload]]) -> None:
        """Results that leave together, now: sequence number, status and payload of each."""
        with self._lock, contextlib.suppress(ConnectionError):
            for seq, status, payload in results:
                if self._unkept is not None:
                    self._unkept.put(seq, status, payload)
                    self._ledger.keep(seq, payload, status)
                self._items.append([seq, status, ""])
                self._payloads.append(payload)
                if len(self._items) >= BATCH:
                    self._flush()
            self._flush()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is sent meanwhile; what waits to be is among what is not kept, and sent as such."""
        with self._lock:
            self._items, self._payloads, self.lost = [], [], False
            yield

    def flush_late(self) -> bool:
        """Send what has waited while the main thread runs on; whether to look again."""
        if not self._lock.acquire(blocking=False):
            return True
        try:
            if self._items and time.monotonic() - self._oldest >= BATCH_TIME:
                with contextlib.suppress(ConnectionError):
                    self._flush()
            return bool(self._items or self._at_hand)
        finally:
            self._lock.release()

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Send one message, after the results that wait; raises ``ConnectionError``."""
        with self._lock:
            self._flush()
            self.connection.send(message, payloads)

    def _flush(self) -> None:
        if self._items:
            items, payloads = self._items, self._payloads
            self._items, self._payloads = [], []
            try:
                self.connection.send(Results(items, []), payloads)
            except ConnectionError:
                self.lost = True
                raise
            self._ledger.clear()
