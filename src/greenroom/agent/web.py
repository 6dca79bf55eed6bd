"""Requests from the web: each is an input, and an ASGI application answers it.

Source: the ASGI specification 3.0, HTTP and WebSocket 2.3, lifespan 2.0. What the specification leaves open is as uvicorn has it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from greenroom.agent.garbage import collect_as_usual, collect_rarely
from greenroom.agent.lifespan import Lifespan
from greenroom.model.errors import ConnectionError, InputCancellation
from greenroom.model.spec import MethodSpec
from greenroom.usercode.context import current_input
from greenroom.wire.payload import Payload, as_payload, in_memory
from greenroom.wire.web_heads import Head, headers_of, is_block, pack_response, unpack_request
from greenroom.wire.web_messages import WINDOW, WebIn, WebOut, WebTaken, cost

if TYPE_CHECKING:
    from greenroom.agent.serve import Agent, Item

Event = MutableMapping[str, Any]
Application = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]
PIECE = 1 << 16
"""Bytes of a body that leave in one message: few enough to stay in a processor's cache on their way."""
WHOLE = 1 << 18
"""Bytes of a body that leave with its head, where all of it is there at once."""
_FAILED = (500, b"content-type: text/plain; charset=utf-8\r\n", b"Internal Server Error")
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Web:
    """What one container serves to the web."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self._applications: dict[str, Application] = {}
        self._lifespans: dict[str, Lifespan] = {}
        self._exchanges: dict[int, _Exchange] = {}
        self._turn = False
        """Requests that have come are about to be begun with, one after the other."""
        self._whole: list[_Exchange] = []
        """Those whose response is complete, of this turn."""

    def start(self, methods: list[MethodSpec]) -> None:
        """Make the applications, and run their start-up; raises what that raises."""
        agent = self._agent
        assert agent.service is not None
        assert agent.loop is not None
        for method in methods:
            if not method.web:
                continue
            target = agent.service.web_target(method.name)
            if method.web["kind"] == "server":
                from greenroom.agent.port import passing_on, started

                port = method.web["port"]
                agent.run_coroutine(started(target, port, method.web["startup_timeout"]))
                self._applications[method.name] = passing_on(port)
                continue
            collect_rarely()  # it imports what it is made of
            with agent.main_thread.user_code:
                application = _application(target, method)
            collect_as_usual()
            self._applications[method.name] = application
            if method.web["kind"] == "asgi":
                lifespan = self._lifespans[method.name] = Lifespan(application, agent.loop)
                agent.run_coroutine(lifespan.start())

    def stop(self) -> list[str]:
        """Run their shutdown, within the container's grace; what went wrong, a line each."""
        errors = []
        for lifespan in self._lifespans.values():
            try:
                self._agent.run_coroutine(lifespan.stop())
            except BaseException as error:  # noqa: BLE001 - exit hooks still run
                errors.append(f"lifespan shutdown: {error}")
        return errors

    def turn_begins(self) -> None:
        """Requests have come, and the loop is about to begin with them: their responses may wait for the end of that."""
        if not self._turn:
            self._turn = True
            assert self._agent.loop is not None
            self._agent.loop.call_soon(self._turn_ends)

    def _turn_ends(self) -> None:
        self._turn = False
        whole, self._whole = self._whole, []
        for exchange in whole:
            exchange.let_go()

    def let_go_soon(self, exchange: "_Exchange") -> None:
        """Its response is complete; should its application go on after that, it waits no longer than this turn."""
        if self._turn:
            self._whole.append(exchange)
        else:
            assert self._agent.loop is not None
            self._agent.loop.call_soon(exchange.let_go)

    def takes(self, message: Any) -> bool:
        """Whether it is about a request."""
        return isinstance(message, WebIn)

    def arrived(self, message: WebIn, payload: Payload) -> None:
        """More of a request, on the loop."""
        if (exchange := self._exchanges.get(message.seq)) is not None:
            exchange.arrived(message, payload)

    async def serve(self, item: "Item") -> None:
        """Answer one request, to the end of all that its application does for it."""
        agent = self._agent
        current_input.set((item.call_id, item.index))
        payload, item.payload = item.payload, b""
        head, headers, more, body = unpack_request(in_memory(payload))
        exchange = self._exchanges[item.seq] = _Exchange(self, agent, item, head, more, body)
        scope = _scope(head, headers)
        if (lifespan := self._lifespans.get(item.method)) is not None:
            scope["state"] = lifespan.state.copy()
        try:
            if item.cancelled:
                raise InputCancellation
            with agent.elsewhere:
                await self._applications[item.method](scope, exchange.receive, exchange.send)
            rest = exchange.returned()
        except (Exception, asyncio.CancelledError, InputCancellation) as error:  # noqa: BLE001 - the request's own
            if item.cancelled:
                exchange.end()
                item.delivered = True
                agent.failed(item, InputCancellation())
                return
            rest = exchange.raised(error)
        finally:
            del self._exchanges[item.seq]
        exchange.end()
        agent.succeeded(item, rest)


class _Exchange:
    """One request and its response."""

    def __init__(self, web: Web, agent: "Agent", item: "Item", head: Head, more: bool, body: bytes) -> None:
        self._web = web
        self._agent = agent
        self._item = item
        self._head = head
        self._is_http = head.kind == b"http"
        self._inbox: deque[Event] = deque()
        self._arrival: asyncio.Event | None = None
        """Set when something has, or nothing more will, while somebody waits for that."""
        self._gone = False
        self._response: tuple[int, bytes] | None = None
        """Its status and its block of headers, as soon as they are known."""
        self._begun = False
        """Something of it has left."""
        self._complete = False
        self._over = False
        """Its input has ended: what a thread or a task of the application still says is nobody's."""
        self._whole: tuple[int, bytes, bytes] | None = None
        """A response that was complete at once: it leaves with the input's result, or soon."""
        self._room = WINDOW
        self._credit: asyncio.Event | None = None
        """Set when there may be room, while somebody waits for that."""
        if self._is_http:
            self._inbox.append({"type": "http.request", "body": body, "more_body": more})
            if more:
                self._say(WebTaken(item.seq, WINDOW))
        else:
            self._inbox.append({"type": "websocket.connect"})
        assert agent.loop is not None
        self._loop = agent.loop
        item.credit = 0
        item.on_credit = self._credited

    # ---- what comes ----

    def arrived(self, message: WebIn, payload: Payload) -> None:
        """A part of the request."""
        if message.kind == "gone":
            self._gone = True
            if not self._is_http:
                self._inbox.append({"type": "websocket.disconnect", "code": message.code, "reason": ""})
        else:
            data = in_memory(payload)
            event: Event
            if self._is_http:
                event = {"type": "http.request", "body": data, "more_body": message.kind == "body"}
            elif message.kind == "text":
                event = {"type": "websocket.receive", "text": data.decode()}
            else:
                event = {"type": "websocket.receive", "bytes": data}
            self._inbox.append({**event, "size": cost(len(data))})
        self._arrived()

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.set()

    async def receive(self) -> Event:
        """See the specification."""
        while not self._inbox:
            if self._is_http and (self._gone or self._complete):
                return {"type": "http.disconnect"}
            if self._arrival is None:
                self._arrival = asyncio.Event()
            self._arrival.clear()
            await self._arrival.wait()
        event = self._inbox.popleft()
        if size := event.pop("size", 0):
            self._say(WebTaken(self._item.seq, size))
        return event

    # ---- what goes ----

    async def send(self, event: Event) -> None:
        """See the specification."""
        self._check_over()
        if self._gone:
            await asyncio.sleep(0)  # nothing holds it up any more, and its cancellation must get through
            if event["type"] == "websocket.send":  # as uvicorn has it: who only speaks would not know otherwise
                raise ConnectionResetError("the client has left")
        if self._is_http:
            await self._send_http(event)
        else:
            await self._send_websocket(event)

    async def _send_http(self, event: Event) -> None:
        if self._complete:
            raise RuntimeError(f"Unexpected ASGI message '{event['type']}' sent, after response already completed.")
        if self._response is None:
            if event["type"] != "http.response.start":
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{event['type']}'.")
            self._response = (int(event["status"]), _block(event))
            return
        if event["type"] != "http.response.body":
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{event['type']}'.")
        body, more = bytes(event.get("body", b"")), bool(event.get("more_body", False))
        if not more and not self._begun and len(body) <= WHOLE:
            self._complete = True
            self._whole = (*self._response, body)
            self._web.let_go_soon(self)
        else:
            await self._stream(body, "body" if more else "end")
            self._complete = not more
        self._arrived()

    def let_go(self) -> None:
        """The application goes on after its response, which waits no longer."""
        if (whole := self._whole) is not None:
            self._whole = None
            self._out("end", whole[2], _told(*whole[:2]))

    async def _stream(self, body: bytes, kind: str) -> None:
        """Piece by piece, no faster than the client takes it."""
        at = 0
        while True:
            piece = body[at : at + PIECE]
            at += PIECE
            last = at >= len(body)
            await self._wait_for_room(cost(len(piece)))
            head = {} if self._begun or self._response is None else _told(*self._response)
            self._out(kind if last else "body", piece, head)
            if last:
                return

    async def _send_websocket(self, event: Event) -> None:
        kind = event["type"]
        if self._complete:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")
        if kind == "websocket.accept":
            self._out(
                "accept", b"", {"subprotocol": event.get("subprotocol"), "headers": _told(0, _block(event))["headers"]}
            )
        elif kind == "websocket.close":
            code, reason = int(event.get("code", 1000)), event.get("reason") or ""
            self._out("close", b"", {"code": code, "reason": reason})
            self._closed(code, reason)
        elif kind == "websocket.send":
            text = event.get("text")
            data = text.encode() if text is not None else bytes(event["bytes"])
            await self._wait_for_room(cost(len(data)))
            if self._gone:
                raise ConnectionResetError("the client has left")
            self._out("text" if text is not None else "bytes", data)
        elif kind == "websocket.http.response.start":
            self._response = (int(event["status"]), _block(event))
        elif kind == "websocket.http.response.body" and self._response is not None:
            more = bool(event.get("more_body", False))
            await self._stream(bytes(event.get("body", b"")), "body" if more else "end")
            if not more:
                self._closed(1006, "")
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}'.")

    def _closed(self, code: int, reason: str) -> None:
        """The application has ended its WebSocket; whoever of it still listens hears that."""
        self._complete = True
        self._inbox.append({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._arrived()

    async def _wait_for_room(self, size: int) -> None:
        self._more_room()
        while self._room <= 0 and not self._gone:
            if self._credit is None:
                self._credit = asyncio.Event()
            self._credit.clear()
            await self._credit.wait()
            self._check_over()
            self._more_room()
        self._room -= size

    def _check_over(self) -> None:
        if self._over:
            raise ConnectionResetError("the request is over")

    def _credited(self) -> None:
        """On the control thread."""
        self._loop.call_soon_threadsafe(self._more_room)

    def _more_room(self) -> None:
        item = self._item
        if item.credit:
            taken, item.credit = item.credit, 0
            self._room += taken
            if self._credit is not None:
                self._credit.set()

    def _out(self, kind: str, data: bytes, head: dict[str, Any] | None = None) -> None:
        self._begun = True
        self._say(WebOut(self._item.seq, kind, head or {}, []), [as_payload(data, self._agent.begin.inline_limit)])

    def _say(self, message: Any, payloads: list[Payload] | None = None) -> None:
        if self._over:
            return
        with contextlib.suppress(ConnectionError):  # whoever reads notices
            self._agent.outbox.send(message, payloads)

    # ---- the end ----

    def returned(self) -> bytes:
        """The application has; what is left of its response, for the input's result."""
        whole, self._whole = self._whole, None
        if whole is not None:
            return pack_response(*whole)
        if not self._complete and not self._gone:
            text = "without completing response" if self._begun else "without starting response"
            return self._fault(f"ASGI callable returned {text}.")
        return b""

    def raised(self, error: BaseException) -> bytes:
        """The application has raised."""
        from greenroom.usercode.exceptions import print_exception

        self.let_go()
        head = self._head
        if not (self._gone and isinstance(error, OSError)):
            print_exception(
                error, f"{(head.method or b'WebSocket').decode()} {head.raw_path.decode('latin-1')} failed:"
            )
        return b"" if self._complete else self._fault("")

    def _fault(self, text: str) -> bytes:
        if text:
            import sys

            print(text, file=sys.stderr, flush=True)
        if self._begun:
            self._out("cut", b"")
        elif self._is_http:
            return pack_response(*_FAILED)
        else:
            self._out("end", _FAILED[2], _told(*_FAILED[:2]))
        return b""

    def end(self) -> None:
        """Its input has ended; a thread of the application that waits to say more needn't."""
        self._over = True
        if self._credit is not None:
            self._credit.set()


def _application(target: Callable[..., Any], method: MethodSpec) -> Application:
    """What answers the requests of a method."""
    kind = method.web["kind"]
    if kind == "endpoint":
        from greenroom.agent.endpoint import endpoint

        made: Application = endpoint(target, method.web)
        return made
    if kind == "wsgi":
        from greenroom.agent.wsgi import adapted

        return adapted(target())
    application: Application = target()
    if not callable(application):
        raise TypeError(f"{method.name or 'the function'} returned {application!r:.80}, which is no ASGI application")
    return application


def _scope(head: Head, headers: list[tuple[bytes, bytes]]) -> Event:
    """What an application is called with."""
    path = head.raw_path.decode("latin-1")
    if "%" in path:
        from urllib.parse import unquote

        path = unquote(path)
    scope: Event = {
        "type": head.kind.decode(),
        "asgi": _ASGI,
        "http_version": head.version.decode(),
        "scheme": head.scheme.decode(),
        "path": path,
        "raw_path": head.raw_path,
        "query_string": head.query,
        "root_path": head.root.decode(),
        "headers": headers,
        "client": (head.client.decode(), int(head.client_port)) if head.client else None,
        "server": (head.server.decode(), int(head.server_port)) if head.server else None,
        "state": {},
    }
    if head.method:
        scope["method"] = head.method.decode()
    else:
        scope["subprotocols"] = head.subprotocols.decode("latin-1").split(",") if head.subprotocols else []
        scope["extensions"] = {"websocket.http.response": {}}
    return scope


def _block(event: Event) -> bytes:
    """The headers of an event, as HTTP has them; raises RuntimeError where they can't be any, as uvicorn does."""
    headers = [(bytes(name).lower(), bytes(value)) for name, value in event.get("headers", ())]
    names = [name for name, _ in headers]
    if not all(names) or b"".join(names).translate(None, _TOKEN):
        raise RuntimeError("Invalid HTTP header name.")
    block = b"".join([b"%b: %b\r\n" % header for header in headers])
    if not is_block(block) or block.count(b"\n") != len(headers):
        raise RuntimeError("Invalid HTTP header value.")
    return block


def _told(status: int, block: bytes) -> dict[str, Any]:
    """The head of a response that isn't whole, for a message."""
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers_of(block)]
    return {"status": status, "headers": headers}
