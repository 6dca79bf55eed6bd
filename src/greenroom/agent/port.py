"""``@web_server``: requests passed on to what the user's code has started on a port of the container's loopback.

Source: RFC 9112 (HTTP/1.1), RFC 6455 (WebSocket).
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import struct
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

HOST = "127.0.0.1"
LOOK = 0.02
"""Seconds between two looks whether something listens."""
HEAD = 64 * 1024
"""Bytes that a response's head may have."""
PIECE = 64 * 1024
_OF_ONE_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"transfer-encoding",
    b"upgrade",
})  # fmt: skip
_OF_A_HANDSHAKE = frozenset(
    {b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-extensions", b"sec-websocket-accept"}
)
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_BODILESS = (204, 304)


async def started(start: Callable[[], Any], port: int, timeout: float) -> None:
    """Call what starts the server, and wait until that listens.

    Raises:
        RuntimeError: something else has the port; or nothing listens there in time.
    """
    if await _listens(port):
        raise RuntimeError(
            f"port {port} is taken: containers share this machine's network, so two can't have one port; choose another, "
            "or set max_containers=1"
        )
    result = start()
    if hasattr(result, "__await__"):
        await result
    limit = time.monotonic() + timeout
    while not await _listens(port):
        if time.monotonic() > limit:
            raise RuntimeError(
                f"nothing listens on port {port} of {HOST} after {timeout:g} s: does it start in the background, on that "
                "address? startup_timeout= gives it longer"
            )
        await asyncio.sleep(LOOK)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


def passing_on(port: int) -> Callable[..., Any]:
    """An ASGI application that is that port."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            reader, writer = await asyncio.open_connection(HOST, port, limit=HEAD)
        except OSError as error:
            await _refuse(scope, send, f"nothing answers on port {port}: {error.strerror or error}\n")
            return
        try:
            if scope["type"] == "http":
                await _http(scope, receive, send, reader, writer)
            else:
                await _Socket(scope, receive, send, reader, writer).run()
        finally:
            writer.close()

    return application


async def _refuse(scope: Any, send: Any, text: str) -> None:
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1011, "reason": text.strip()})
        return
    await send({"type": "http.response.start", "status": 502, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})


# ---- HTTP ----


async def _http(
    scope: Any, receive: Any, send: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    event = await receive()
    sized = any(name == b"content-length" for name, _ in scope["headers"])
    chunked = not sized and bool(event["body"] or event["more_body"])
    headers = [(name, value) for name, value in scope["headers"] if name not in _OF_ONE_HOP]
    if chunked:
        headers.append((b"transfer-encoding", b"chunked"))
    writer.write(_request(scope, scope["method"].encode(), [*headers, (b"connection", b"close")]))
    pump = asyncio.ensure_future(_send_body(event, receive, writer, chunked=chunked))
    try:
        status, found = await _head(reader)
        kept = [(name, value) for name, value in found if name not in _OF_ONE_HOP]
        await send({"type": "http.response.start", "status": status, "headers": kept})
        if scope["method"] != "HEAD" and status not in _BODILESS:
            async for piece in _body(reader, dict(found)):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        pump.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await pump


def _request(scope: Any, method: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    root = scope["root_path"].encode()
    path = scope["raw_path"].removeprefix(root) or b"/"
    target = path + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    # Whatever a client says of these: a trusted proxy's word is in the scope already, and nobody else's counts.
    forwarded = {
        b"x-forwarded-for": (scope["client"] or ("unknown",))[0].encode(),
        b"x-forwarded-proto": {"ws": b"http", "wss": b"https"}.get(scope["scheme"], scope["scheme"].encode()),
        b"x-forwarded-prefix": root,
    }
    headers = [pair for pair in headers if pair[0] not in forwarded]
    headers += [(name, value) for name, value in forwarded.items() if value]
    return b"%b %b HTTP/1.1\r\n" % (method, target) + b"".join(b"%b: %b\r\n" % line for line in headers) + b"\r\n"


async def _send_body(event: Any, receive: Any, writer: asyncio.StreamWriter, *, chunked: bool) -> None:
    while True:
        if event["type"] != "http.request":
            return
        if body := event["body"]:
            writer.write(b"%x\r\n%b\r\n" % (len(body), body) if chunked else body)
            await writer.drain()
        if not event["more_body"]:
            if chunked:
                writer.write(b"0\r\n\r\n")
            return
        event = await receive()


async def _head(reader: asyncio.StreamReader) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Status and headers of a response, past those that only say that it goes on."""
    while True:
        try:
            text = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise RuntimeError("what listens on the port sent no HTTP response") from None
        first, *lines = text[:-4].split(b"\r\n")
        words = first.split(b" ", 2)
        if not first.startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise RuntimeError(f"what listens on the port speaks no HTTP: {first[:40]!r}")
        status = int(words[1])
        if status >= 200 or status == 101:
            pairs = (line.partition(b":") for line in lines)
            return status, [(name.strip().lower(), value.strip()) for name, _, value in pairs]


async def _body(reader: asyncio.StreamReader, headers: dict[bytes, bytes]) -> AsyncIterator[bytes]:
    if headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
        while size := int((await reader.readline()).split(b";")[0], 16):
            async for piece in _exactly(reader, size):
                yield piece
            await reader.readline()
    elif b"content-length" in headers:
        async for piece in _exactly(reader, int(headers[b"content-length"])):
            yield piece
    else:
        while piece := await reader.read(PIECE):
            yield piece


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        piece = await reader.read(min(size, PIECE))
        if not piece:
            raise RuntimeError("what listens on the port ended within its response")
        size -= len(piece)
        yield piece


# ---- WebSockets ----


class _Socket:
    """One WebSocket, to whose other side this is the client."""

    def __init__(
        self, scope: Any, receive: Any, send: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._reader = reader
        self._writer = writer
        self._closed = False

    async def run(self) -> None:
        """Until either side ends it."""
        await self._receive()  # websocket.connect
        key = base64.b64encode(os.urandom(16))
        headers = [(n, v) for n, v in self._scope["headers"] if n not in _OF_ONE_HOP and n not in _OF_A_HANDSHAKE]
        headers += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")]
        self._writer.write(_request(self._scope, b"GET", [*headers, (b"sec-websocket-key", key)]))
        status, found = await _head(self._reader)
        told = dict(found)
        if status != 101:
            kept = [(name, value) for name, value in found if name not in _OF_ONE_HOP]
            await self._send({"type": "websocket.http.response.start", "status": status, "headers": kept})
            async for piece in _body(self._reader, told):
                await self._send({"type": "websocket.http.response.body", "body": piece, "more_body": True})
            await self._send({"type": "websocket.http.response.body", "body": b""})
            return
        if told.get(b"sec-websocket-accept") != base64.b64encode(hashlib.sha1(key + _MAGIC).digest()):  # noqa: S324
            raise RuntimeError("what listens on the port answered another WebSocket's key")
        subprotocol = told.get(b"sec-websocket-protocol", b"").decode() or None
        own = _OF_ONE_HOP | _OF_A_HANDSHAKE | {b"sec-websocket-protocol"}
        kept = [(name, value) for name, value in found if name not in own]
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": kept})
        up = asyncio.ensure_future(self._up())
        try:
            await self._down()
        finally:
            up.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await up

    async def _up(self) -> None:
        """What the client says."""
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                code = event.get("code") or 1000
                self._frame(_CLOSE, struct.pack("!H", code if code not in (1005, 1006) else 1000))
                self._writer.write_eof()
                return
            text = event.get("text")
            self._frame(_TEXT if text is not None else _BINARY, text.encode() if text is not None else event["bytes"])
            await self._writer.drain()

    async def _down(self) -> None:
        """What the other side says."""
        kind, parts = 0, list[bytes]()
        try:
            while True:
                final, opcode, data = await self._read_frame()
                if opcode == _CLOSE:
                    code = struct.unpack("!H", data[:2])[0] if len(data) >= 2 else 1000
                    self._frame(_CLOSE, data[:2])
                    await self._send(
                        {"type": "websocket.close", "code": code, "reason": data[2:].decode(errors="replace")}
                    )
                    return
                if opcode == _PING:
                    self._frame(_PONG, data)
                elif opcode != _PONG:
                    kind = opcode or kind
                    parts.append(data)
                    if final:
                        whole, parts = b"".join(parts), []
                        value = {"text": whole.decode()} if kind == _TEXT else {"bytes": whole}
                        await self._send({"type": "websocket.send", **value})
        except (asyncio.IncompleteReadError, OSError):
            await self._send({"type": "websocket.close", "code": 1011})

    async def _read_frame(self) -> tuple[bool, int, bytes]:
        first, second = await self._reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
        return bool(first & 0x80), first & 0x0F, await self._reader.readexactly(size)

    def _frame(self, opcode: int, data: bytes) -> None:
        """Masked, as a client's must be; the mask hides nothing."""
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        mask = os.urandom(4)
        number = int.from_bytes(data, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        self._writer.write(head + mask + number.to_bytes(size, "big"))
