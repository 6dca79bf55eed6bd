"""What every peer's table of handlers is made of."""

from collections.abc import Callable
from typing import Any

from greenroom.model.errors import ProtocolError
from greenroom.wire.payload import Payload

Handler = Callable[[Any, list[Payload]], None]
"""Takes a message and its payloads."""


def only_payload(message: Any, payloads: list[Payload]) -> Payload:
    """The one payload of a message that must have one; raises :class:`ProtocolError`."""
    if len(payloads) != 1:
        raise ProtocolError(f"{type(message).__name__} carries one payload, not {len(payloads)}")
    return payloads[0]
