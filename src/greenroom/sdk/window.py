"""How far the inputs of a ``.map()`` may be ahead of its consumer.

What is ahead lies somewhere: inputs and results in the server, results in the consumer's own process. So inputs leave
only as outputs are taken, by their number and by their bytes. How large the results will be that are yet to come nobody
knows; they count for as much as the latest ones had on the average, the first ones for a cautious guess.

One thread may send and another take: each writes counters of its own, so neither needs a lock.
"""

from collections.abc import Sequence

from greenroom.wire.payload import Descriptor, Payload

INPUTS = 8192
"""Inputs that may be ahead of the consumer."""
BYTES = 128 * 1024**2
"""Bytes of inputs and results that may be ahead."""
FEWEST = 16
"""Inputs that may be ahead however large they are, or containers would stand idle."""
FIRST_GUESS = 512 * 1024
"""Bytes that a result is taken for while none has come."""
DESCRIPTOR = 512 * 1024
"""Bytes that a file descriptor counts for, beside those in its file: a process may have no more than some hundreds."""
_MEMORY = 64
"""Results over which their mean size is formed."""
_SMALL = 4096
"""Bytes up to which an input is not worth a record of its own."""


class Window:
    """Counts what is ahead."""

    def __init__(self) -> None:
        # Written by whoever sends.
        self.sent = 0
        self._sent_bytes = 0
        self._sizes: dict[int, int] = {}
        # Written by whoever takes.
        self.taken = 0
        self._ended_bytes = 0
        self._kept = 0
        self._kept_bytes = 0
        self._mean: float = FIRST_GUESS

    def room(self) -> int:
        """Inputs that may be sent now; 0 rather than a few, so that they leave in batches."""
        ahead = self.sent - self.taken
        known = self._sent_bytes - self._ended_bytes + self._kept_bytes
        left = BYTES - known - (ahead - self._kept) * self._mean
        room = max(min(INPUTS - ahead, int(left / self._mean)), FEWEST - ahead)
        return room if room > 0 and room * 16 >= ahead else 0

    def send(self, payload: Payload) -> None:
        """One input more is ahead."""
        if len(payload) > _SMALL:
            size = self._sizes[self.sent] = _cost(payload)
            self._sent_bytes += size
        self.sent += 1

    def arrive(self, sizes: Sequence[int]) -> None:
        """Results of these sizes have come (negative: in descriptors)."""
        if not sizes:
            return
        total = sum(map(abs, sizes))
        if min(sizes) < 0:
            total += DESCRIPTOR * sum(size < 0 for size in sizes)
        weight = min(1.0, len(sizes) / _MEMORY)
        self._mean = max(1.0, self._mean + weight * (total / len(sizes) - self._mean))

    def end(self, index: int) -> None:
        """That input has ended: its own bytes are gone."""
        if self._sizes:
            self._ended_bytes += self._sizes.pop(index, 0)

    def keep(self, payload: Payload) -> None:
        """A result has to wait for those before it."""
        self._kept += 1
        self._kept_bytes += _cost(payload)

    def release(self, payload: Payload) -> None:
        """It waits no longer."""
        self._kept -= 1
        self._kept_bytes -= _cost(payload)

    def take(self) -> None:
        """The consumer has one output more."""
        self.taken += 1


class Unlimited(Window):
    """Of a spawned call, whose outputs the server keeps anyway."""

    def room(self) -> int:
        """Always some."""
        return INPUTS


def _cost(payload: Payload) -> int:
    return len(payload) + DESCRIPTOR if isinstance(payload, Descriptor) else len(payload)
