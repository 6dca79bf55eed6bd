"""A client's connection: uvicorn parses what comes, within limits of our own."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from greenroom.server.http.ingress import Ingress

HEADERS = 64 * 1024
"""Bytes that a request's line and headers may have."""
PATIENCE = 20.0
"""Seconds in which they must have come; and what is left of a request's body, once its response is complete."""
STALL = 300.0
"""Seconds in which a client must take something of what was written."""


_FRAMING = re.compile(rb"^(content-length|transfer-encoding|connection): ([^\r]*)", re.MULTILINE)
"""Headers by which a client knows where a response ends."""


class Gathering:
    """A client's transport that can gather: two writes for one small response cost as much again, here and in the client."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held: list[bytes] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """See asyncio."""
        if self._held is None:
            self._transport.write(data)
        else:
            self._held.append(data)

    def close(self) -> None:
        """See asyncio; what was gathered leaves first."""
        self.__exit__()
        self._transport.close()

    def __enter__(self) -> None:
        self._held = []

    def __exit__(self, *_: object) -> None:
        held, self._held = self._held, None
        if held:
            self._transport.write(b"".join(held))


class Patient(asyncio.Protocol):
    """Waits for a client that takes nothing of what it asked for, but not for ever."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """The client doesn't take what was written."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL, self.cut)

    def resume_writing(self) -> None:
        """It does."""
        self._goes_on()
        super().resume_writing()

    def cut(self) -> None:
        """What has begun won't be completed, and the client must see that."""
        self.transport.abort()

    def _goes_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class _RefusedError(Exception):
    """Ends the parser's work."""


class Connection(Patient, HttpToolsProtocol):
    """One client's connection; with what uvicorn has no limits for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gone: Callable[[], None] | None = None
        """Called when the client has left."""
        self._pending = 0
        """Requests whose response isn't complete."""
        self._unread = 0
        """Bytes that came of a head, or since the last part of a body."""
        self._reading_head = True
        self._in_head = False
        """Some of it has come."""
        self._patience: asyncio.TimerHandle | None = None
        self._refusal: tuple[int, str] | None = None
        """The last that the client hears, once what it asked before is answered; nothing more is read."""
        self._idle_since: float | None = None
        """By the loop's clock: nothing has come since then, and there is nothing to answer."""
        self._parsing = False
        self._begun: tuple[RequestResponseCycle, Any] | None = None
        """A request that came with what is being parsed, and what answers it from then on."""
        whole: Ingress | None = self.config.app if self.config.app is self.config.loaded_app else None
        self._ingress = whole
        """None: a proxy's word counts, which uvicorn sees to."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came; it must say something."""
        super().connection_made(Gathering(transport))  # type: ignore[arg-type]
        self._wait(self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left."""
        self._wait_no_more()
        self._goes_on()
        super()._unset_keepalive_if_required()
        super().connection_lost(exc)
        if self.gone is not None:
            self.gone()

    # ---- what comes ----

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        if self._refusal is not None:
            return
        self._unread += len(data)
        self._parsing = True
        try:
            super().data_received(data)
        finally:
            self._parsing = False
        if (begun := self._begun) is not None:
            self._begun = None
            self._start_asgi_task(*begun)
        if self._unread > HEADERS:
            self._refuse(431, "Request Header Fields Too Large")
        elif self._reading_head and self._patience is None and (self._unread or self._in_head):
            self._wait(self._late)  # a head that is whole costs no timer

    def on_message_begin(self) -> None:
        """See httptools."""
        super().on_message_begin()
        self.scope["greenroom.connection"] = self  # type: ignore[typeddict-unknown-key]
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools, which has trailers as headers; they are ignored."""
        if self._reading_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See httptools."""
        version = self.parser.get_http_version()
        if (fault := _fault(version, self.url, self.headers)) is not None:
            self._refuse(*fault)
            raise _RefusedError
        if not self.url.startswith(b"/"):
            self._take_absolute()
        super().on_headers_complete()
        self._reading_head, self._in_head, self._unread = False, False, 0
        self._wait_no_more()
        if not (self.parser.should_upgrade() and self._should_upgrade()):
            self._pending += 1
            if version == "1.0":
                self.cycle.send = _undelimited(self.cycle)  # type: ignore[assignment,method-assign]

    def _take_absolute(self) -> None:
        """The target is a whole URL, whose host counts rather than the header's. Source: RFC 9112, 3.2.2."""
        url = httptools.parse_url(self.url)
        if url.host:
            host = url.host if url.port is None else b"%b:%d" % (url.host, url.port)
            self.headers[:] = [(name, host if name == b"host" else value) for name, value in self.headers]
            self.url = (url.path or b"/") + (b"?" + url.query if url.query else b"")

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        super().on_message_complete()
        self._reading_head, self._unread = True, 0
        if self._patience is not None:  # its response was complete before
            self._wait_no_more()
            self._is_idle()

    def handle_websocket_upgrade(self) -> None:
        """See uvicorn; the connection can't be a WebSocket's while it is still that of another request."""
        if self._pending:
            self._reading_head = True
            self._refuse(400, "Bad Request")
        else:
            self._wait_no_more()
            super().handle_websocket_upgrade()

    # ---- what goes ----

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """See uvicorn; a request all of which has come, as most have by the time, costs no task."""
        if self._parsing:
            self._begun = cycle, app
            return
        whole = not cycle.more_body and not cycle.waiting_for_100_continue and cycle.keep_alive
        if cycle.disconnected or (whole and self._ingress is not None and self._ingress.take(self, cycle)):
            return
        self.start(cycle, app)

    def start(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Answer a request by an ASGI application, in a task."""
        super()._start_asgi_task(cycle, app)

    def respond(self, cycle: RequestResponseCycle, status: int, block: bytes, body: bytes) -> bool:
        """Send a whole response, whose headers are a block of lines; False: nothing is sent, and it takes what uvicorn knows."""
        if cycle.response_started or not cycle.keep_alive or self.flow.write_paused or cycle.scope["method"] == "HEAD":
            return False
        if _FRAMING.findall(block) != [(b"content-length", b"%d" % len(body))]:
            return False
        cycle.response_started = cycle.response_complete = True
        headers = b"".join([b"%b: %b\r\n" % header for header in cycle.default_headers])
        self.transport.write(b"".join((STATUS_LINE[status], headers, block, b"\r\n", body)))
        cycle.on_response = _nothing
        self.on_response_complete()
        return True

    def gathered(self) -> contextlib.AbstractContextManager[None]:
        """What is sent while this is entered leaves in one write."""
        return self.transport  # type: ignore[return-value]

    def on_response_complete(self) -> None:
        """See uvicorn."""
        self._pending -= 1
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self._is_idle()
        if self._pending or self.transport.is_closing():
            return
        if self._refusal is not None:
            self._say_refusal(*self._refusal)
        elif not self._reading_head:  # the rest of the request that was answered may still come, for a while
            self._wait(self.transport.close)

    def _is_idle(self) -> None:
        """From now on. A timer is set where there is none, not for each request: it looks how long nothing has come by then."""
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._look_whether_idle)

    def _unset_keepalive_if_required(self) -> None:
        """See uvicorn: something has come."""
        self._idle_since = None

    def _look_whether_idle(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # it has something to answer; then there will be another timer
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self._look_whether_idle)
        else:
            self.timeout_keep_alive_handler()

    def timeout_keep_alive_handler(self) -> None:
        """See uvicorn; a client that has not taken the last response in that time won't."""
        if self.transport.get_write_buffer_size():
            self.cut()
        super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(400, "Bad Request")

    def _wait(self, then: Callable[[], None]) -> None:
        self._patience = self.loop.call_later(PATIENCE, then)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _late(self) -> None:
        self._refuse(408, "Request Timeout")

    def _refuse(self, status: int, text: str) -> None:
        """Answer so what can't be understood, after what could."""
        self._wait_no_more()
        if self._refusal is not None or self.transport.is_closing():
            return
        self._refusal = (status, text)
        if not self._reading_head and not self.cycle.response_complete:  # the fault is in the last request's body
            self._pending -= 1
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.cut()
                return
            if self.pipeline:
                self.pipeline.popleft()
        if not self._pending:
            self._say_refusal(status, text)

    def _say_refusal(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.transport.write(
            f"HTTP/1.1 {status} {text}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            + body
        )
        self.transport.close()


def _nothing() -> None:
    """What is left to do with a response that was sent."""


def _fault(version: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[int, str] | None:
    """What is wrong with a head that httptools has understood. Source: RFC 9112, 2.3, 3.2 and 6.1; RFC 6585, 5."""
    size, hosts, encodings = len(target), 0, []
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            encodings.append(value)
    if size > HEADERS:
        return 431, "Request Header Fields Too Large"
    if version not in ("1.0", "1.1"):
        return 505, "HTTP Version Not Supported"
    if hosts > 1 or (version == "1.1" and not hosts):
        return 400, "Bad Request"
    for value in encodings:
        codings = value.lower().replace(b" ", b"").split(b",")
        if version == "1.0" or codings[-1] != b"chunked":
            return 400, "Bad Request"
        if len(codings) > 1:
            return 501, "Not Implemented"
    return None


def _undelimited(cycle: RequestResponseCycle) -> Callable[[Any], Awaitable[None]]:
    """How to answer a client of HTTP/1.0, which knows no chunks: what has no length ends with the connection."""
    sized = False

    async def send(event: Any) -> None:
        nonlocal sized
        if event["type"] == "http.response.start":
            sized = any(name.lower() == b"content-length" for name, _ in event.get("headers", ()))
            if not sized:
                cycle.chunked_encoding = False
        elif not sized:
            cycle.expected_content_length = len(event.get("body", b""))
        await RequestResponseCycle.send(cycle, event)

    return send
