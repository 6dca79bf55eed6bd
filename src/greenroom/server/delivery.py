"""Outputs of a spawned call, on their way to whoever collects it: many in one frame."""

from collections.abc import Iterable
from typing import Any

from greenroom.server.call import Receiver
from greenroom.wire.messages import Outputs
from greenroom.wire.payload import Payload

BATCH = 1024
"""Outputs that one frame has at the most."""
BATCH_BYTES = 4 * 1024**2
"""Bytes of outputs from which on a frame is full. One that is a file goes by itself."""


def deliver(receiver: Receiver, call_id: str, outputs: Iterable[tuple[int, str, str, Payload]]) -> None:
    """Send outputs, each as ``(index, status, detail, payload)``, in their order."""
    items: list[list[Any]] = []
    payloads: list[Payload] = []
    size = 0
    for index, status, detail, payload in outputs:
        share = len(payload) + len(detail) if type(payload) is bytes else BATCH_BYTES + 1
        if items and (size + share > BATCH_BYTES or len(items) == BATCH):
            receiver.send(Outputs(call_id, items, []), payloads)
            items, payloads, size = [], [], 0
        items.append([index, status, detail])
        payloads.append(payload)
        size += share
    if items:
        receiver.send(Outputs(call_id, items, []), payloads)
