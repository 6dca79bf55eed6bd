"""A request's head, as the server keeps it while it is answered, and as its container is told of it."""

from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any

from greenroom.wire.web_heads import join_head, pack_request

_OF_BODIES = frozenset({b"content-length", b"transfer-encoding"})
"""Headers without which a request has no body."""


class Request:
    """One.

    Args:
        scope: as ASGI has it.
        root: the part of its path by which it was found.

    Raises:
        ValueError: its container can't be told of it, since there is a line break in a part of it.
    """

    __slots__ = ("_head", "_headers", "is_http", "method", "more", "query", "raw_path")

    def __init__(self, scope: MutableMapping[str, Any], root: str) -> None:
        self.is_http: bool = scope["type"] == "http"
        self.method: str = scope["method"] if self.is_http else ""
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.more = False
        """More of its body comes than what its container was told with the head."""
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._head = join_head(
            (
                b"http" if self.is_http else b"websocket",
                scope["http_version"].encode("latin-1"),
                self.method.encode("latin-1"),
                self.raw_path,
                self.query,
                root.encode(),
                *_ends(scope["scheme"], scope["client"], scope["server"]),
                b"" if self.is_http else ",".join(scope["subprotocols"]).encode("latin-1"),
            ),
            self._headers,
        )

    @property
    def may_have_body(self) -> bool:
        """Whether it says that it has one."""
        return any(name in _OF_BODIES for name, _ in self._headers)

    @property
    def title(self) -> str:
        """For a person."""
        return f"{self.method or 'WebSocket'} {self.raw_path.decode('latin-1')}"

    def packed(self, body: bytes) -> bytes:
        """It, with what there is of its body."""
        return pack_request(self._head, self.more, body)


@lru_cache(1024)
def _ends(scheme: str, client: tuple[str, int] | None, server: tuple[str, int] | None) -> tuple[bytes, ...]:
    """The same for all requests of a connection."""
    return (scheme.encode("latin-1"), *_address(client), *_address(server))


def _address(end: tuple[str, int] | None) -> tuple[bytes, bytes]:
    return (end[0].encode(), b"%d" % end[1]) if end else (b"", b"")
