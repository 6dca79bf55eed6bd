"""How the heads of requests and of whole responses lie in payloads: as lines, which cost less than JSON, both ways.

The server believes nothing of a response that it hasn't looked at; a container may believe all of a request.
"""

import re
import struct
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

# ---- a request on its way to its container ----

_PREFIX = struct.Struct(">I?")


class Head(NamedTuple):
    """What a container is told of a request before its headers: each part as it came, and none with a line break."""

    kind: bytes
    """``http`` or ``websocket``."""
    version: bytes
    method: bytes
    """Empty for a WebSocket."""
    raw_path: bytes
    query: bytes
    root: bytes
    """The part of the path by which it was found, in UTF-8."""
    scheme: bytes
    client: bytes
    """Its address; empty: nobody knows."""
    client_port: bytes
    server: bytes
    server_port: bytes
    subprotocols: bytes
    """That a WebSocket offers, with commas between them."""


def join_head(parts: Iterable[bytes], headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A request's head for :func:`pack_request`; ``parts`` are those of a :class:`Head`.

    Raises:
        ValueError: there is a line break in one, so that it would be read as something else.
    """
    lines = [*parts, *chain.from_iterable(headers)]
    head = b"\n".join(lines)
    if head.count(b"\n") != len(lines) - 1:
        raise ValueError("a line break in a request's head")
    return head


def pack_request(head: bytes, more: bool, body: bytes) -> bytes:
    """A request in one payload. ``more``: its body goes on in messages of its own."""
    return b"".join((_PREFIX.pack(len(head), more), head, body))


def unpack_request(data: bytes) -> tuple[Head, list[tuple[bytes, bytes]], bool, bytes]:
    """Head, headers, ``more`` and body, as the server has packed them."""
    size, more = _PREFIX.unpack_from(data)
    end = _PREFIX.size + size
    lines = data[_PREFIX.size : end].split(b"\n")
    rest = iter(lines[_PARTS:])
    return Head._make(lines[:_PARTS]), list(zip(rest, rest, strict=True)), more, data[end:]


_PARTS = len(Head._fields)


# ---- a whole response on its way back ----

_STATUS = struct.Struct(">HI")


def pack_response(status: int, block: bytes, body: bytes) -> bytes:
    """A response in one payload. ``block``: its headers as HTTP has them, a line each, their names in small letters."""
    known = status if 0 <= status < 1 << 16 else 0
    return b"".join((_STATUS.pack(known, len(block)), block, body))


def unpack_response(data: bytes) -> tuple[int, bytes, bytes]:
    """Status, block of headers and body; raises ValueError. The block may be anything: see :func:`is_block`."""
    if len(data) < _STATUS.size:
        raise ValueError("no response")
    status, size = _STATUS.unpack_from(data)
    end = _STATUS.size + size
    if end > len(data):
        raise ValueError("no whole response")
    return status, data[_STATUS.size : end], data[end:]


is_block = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9a-z]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n)*").fullmatch
"""Whether bytes are lines of headers, and nothing else. Source: RFC 9110, 5.1 and 5.5, as uvicorn has them."""


def headers_of(block: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a block that is one."""
    found = []
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        found.append((name, value))
    return found
