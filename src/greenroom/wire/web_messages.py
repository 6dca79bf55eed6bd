"""The messages of one request from the web, between server and agent. See ``messages.py``; apart, since few containers need them.

A request is an input of the shape ``web``. Its payload is a head and what there is of its body, its result a response that was
complete at once (``web_heads.py``); all else travels in messages of its own, each way no more than :data:`WINDOW` bytes ahead of
who takes them.
"""

from typing import Any, NamedTuple

from greenroom.wire.schema import message

WINDOW = 1 << 20
"""Bytes that either side may send before the other has taken them; a single message may exceed what is left of it."""
_OVERHEAD = 256


def cost(size: int) -> int:
    """What a message of that many bytes takes of a window: an empty one isn't nothing to whoever keeps it."""
    return size + _OVERHEAD


@message
class TakeOver(NamedTuple):
    """An app that ``replaces`` another is defined: have it answer the requests from the web, as soon as it can. Answered then,
    or, where it can't, with the reason; the other stays in its place then."""

    rid: int
    app_id: str


@message
class WhereServed(NamedTuple):
    """Answered with ``{"url": str}``, where a function's, or a class's method's, endpoint answers; ``""``: it is none."""

    rid: int
    function_id: str
    method: str


@message
class WebIn(NamedTuple):
    """Server → agent. ``kind``: ``body``; ``end``, its last part; ``text`` or ``bytes`` of a WebSocket; ``gone``, the client has
    left, of a WebSocket with ``code``. The payload is its content."""

    seq: int
    kind: str
    code: int
    sizes: list[int]


@message
class WebOut(NamedTuple):
    """Agent → server. ``kind``: ``body`` or ``end`` of a response, the first of them with ``head``; ``text`` or ``bytes`` of a
    WebSocket; ``accept`` or ``close``, with ``head``; ``cut``, the response won't be completed. The payload is its content."""

    seq: int
    kind: str
    head: dict[str, Any]
    sizes: list[int]


@message
class WebTaken(NamedTuple):
    """Agent → server: so many bytes of the request's body were taken, or (the first) may be sent."""

    seq: int
    size: int


@message
class Requested(NamedTuple):
    """To who follows an app: a line about a request that it has answered."""

    text: str
