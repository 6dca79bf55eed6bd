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
from greenroom.wire.web_messages import WINDOW, WebIn, WebOut, WebTaken, cost, pack, unpack

if TYPE_CHECKING:
    from greenroom.agent.serve import Agent, Item

Event = MutableMapping[str, Any]
Application = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]
PIECE = 1 << 16
"""Bytes of a body that leave in one message: few enough to stay in a processor's cache on their way."""
WHOLE = 1 << 18
"""Bytes of a body that leave with its head, where all of it is there at once."""
_FAILED = ({"status": 500, "headers": [["content-type", "text/plain; charset=utf-8"]]}, b"Internal Server Error")
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CONTROLS = bytes(byte for byte in range(128) if (byte < 32 and byte != 9) or byte == 127)
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Web:
    """What one container serves to the web."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self._applications: dict[str, Application] = {}
        self._lifespans: dict[str, Lifespan] = {}
        self._exchanges: dict[int, _Exchange] = {}

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
        head, body = unpack(in_memory(payload))
        exchange = self._exchanges[item.seq] = _Exchange(agent, item, head, body)
        scope = exchange.scope()
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

    def __init__(self, agent: "Agent", item: "Item", head: dict[str, Any], body: bytes) -> None:
        self._agent = agent
        self._item = item
        self._head = head
        self._is_http = head["type"] == "http"
        self._inbox: deque[Event] = deque()
        self._arrival = asyncio.Event()
        self._gone = False
        self._response: dict[str, Any] | None = None
        """Its head, as soon as it is known."""
        self._begun = False
        """Something of it has left."""
        self._complete = False
        self._over = False
        """Its input has ended: what a thread or a task of the application still says is nobody's."""
        self._whole: bytes | None = None
        """A response that was complete at once: it leaves with the input's result, or soon."""
        self._room = WINDOW
        self._credit = asyncio.Event()
        if self._is_http:
            self._inbox.append({"type": "http.request", "body": body, "more_body": head["more"], "size": 0})
            if head["more"]:
                self._say(WebTaken(item.seq, WINDOW))
        else:
            self._inbox.append({"type": "websocket.connect"})
        assert agent.loop is not None
        self._loop = agent.loop
        item.credit = 0
        item.on_credit = self._credited

    def scope(self) -> Event:
        """What the application is called with."""
        head = self._head
        scope: Event = {
            "type": head["type"],
            "asgi": _ASGI,
            "http_version": head["http_version"],
            "scheme": head["scheme"],
            "path": head["path"],
            "raw_path": head["raw_path"].encode("latin-1"),
            "query_string": head["query"].encode("latin-1"),
            "root_path": head["root_path"],
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"]],
            "client": tuple(head["client"]) if head["client"] else None,
            "server": tuple(head["server"]) if head["server"] else None,
            "state": {},
        }
        if self._is_http:
            scope["method"] = head["method"]
        else:
            scope["subprotocols"] = head["subprotocols"]
            scope["extensions"] = {"websocket.http.response": {}}
        return scope

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
        self._arrival.set()

    async def receive(self) -> Event:
        """See the specification."""
        while not self._inbox:
            if self._is_http and (self._gone or self._complete):
                return {"type": "http.disconnect"}
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
            self._response = {"status": int(event["status"]), "headers": _headers(event)}
            return
        if event["type"] != "http.response.body":
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{event['type']}'.")
        body, more = bytes(event.get("body", b"")), bool(event.get("more_body", False))
        if not more and not self._begun and len(body) <= WHOLE:
            self._complete = True
            self._whole = pack(self._response, body)
            self._loop.call_soon(self._let_go)
        else:
            await self._stream(body, "body" if more else "end")
            self._complete = not more
        self._arrival.set()

    def _let_go(self) -> None:
        """The application goes on after its response, which waits no longer."""
        if (whole := self._whole) is not None:
            self._whole = None
            head, body = unpack(whole)
            self._out("end", body, head)

    async def _stream(self, body: bytes, kind: str) -> None:
        """Piece by piece, no faster than the client takes it."""
        at = 0
        while True:
            piece = body[at : at + PIECE]
            at += PIECE
            last = at >= len(body)
            await self._wait_for_room(cost(len(piece)))
            head = {} if self._begun or self._response is None else self._response
            self._out(kind if last else "body", piece, head)
            if last:
                return

    async def _send_websocket(self, event: Event) -> None:
        kind = event["type"]
        if self._complete:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")
        if kind == "websocket.accept":
            self._out("accept", b"", {"subprotocol": event.get("subprotocol"), "headers": _headers(event)})
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
            self._response = {"status": int(event["status"]), "headers": _headers(event)}
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
        self._arrival.set()

    async def _wait_for_room(self, size: int) -> None:
        self._more_room()
        while self._room <= 0 and not self._gone:
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
            return whole
        if not self._complete and not self._gone:
            text = "without completing response" if self._begun else "without starting response"
            return self._fault(f"ASGI callable returned {text}.")
        return b""

    def raised(self, error: BaseException) -> bytes:
        """The application has raised."""
        from greenroom.usercode.exceptions import print_exception

        self._let_go()
        if not (self._gone and isinstance(error, OSError)):
            print_exception(error, f"{self._head.get('method', 'WebSocket')} {self._head['raw_path']} failed:")
        return b"" if self._complete else self._fault("")

    def _fault(self, text: str) -> bytes:
        if text:
            import sys

            print(text, file=sys.stderr, flush=True)
        if self._begun:
            self._out("cut", b"")
        elif self._is_http:
            return pack(*_FAILED)
        else:
            self._out("end", _FAILED[1], _FAILED[0])
        return b""

    def end(self) -> None:
        """Its input has ended; a thread of the application that waits to say more needn't."""
        self._over = True
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


def _headers(event: Event) -> list[list[str]]:
    """Of an event; raises RuntimeError where they can't be any, as uvicorn does."""
    found = []
    for given_name, given_value in event.get("headers", ()):
        name, value = bytes(given_name), bytes(given_value)
        if not name or name.translate(None, _TOKEN):
            raise RuntimeError("Invalid HTTP header name.")
        if len(value.translate(None, _CONTROLS)) != len(value):
            raise RuntimeError("Invalid HTTP header value.")
        found.append([name.decode("latin-1"), value.decode("latin-1")])
    return found
