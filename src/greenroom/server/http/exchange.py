"""One request from the web on its way through the server: an input of its function, and what comes back of it.

It is the call's receiver. What its container says of it is checked by ``container_peer.py``; heads are checked here, where
they become HTTP again.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any

from greenroom.server.call import Call, Input
from greenroom.server.http.request import Request
from greenroom.wire.messages import AddCredit, Outputs, Status
from greenroom.wire.payload import Payload, in_memory
from greenroom.wire.web_heads import headers_of, is_block, unpack_response
from greenroom.wire.web_messages import WINDOW, WebIn, WebOut, cost

if TYPE_CHECKING:
    from greenroom.server.calls import Calls
    from greenroom.server.pools import Pool

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Gathered = Callable[[], contextlib.AbstractContextManager[None]]
_ACKNOWLEDGE = WINDOW // 4
"""Bytes that a client has taken of a response until its container is told."""
MOST_WHOLE = 16 * WINDOW
"""Bytes of a response that comes with its input's result: an agent has a small one there."""
BACKLOG = 16 * WINDOW
"""Bytes that a container hasn't read, whatever it says that it has taken, until requests pass it no more of their bodies."""
_LOOK = 0.02
"""Seconds between two looks whether it has."""
SOON = 1.0
"""Seconds in which some of a request's body should have come; its container is asked without it then."""
_AGAIN = frozenset({"GET", "HEAD"})
"""Methods that may be tried once more."""
_CODES = {
    Status.TIMEOUT: 504, Status.CRASHED: 502, Status.CANCELLED: 503, Status.REFUSED: 503, Status.ERROR: 502,
}  # fmt: skip
_GOING_AWAY = 1012
RESPONSE = {"http": "http.response", "websocket": "websocket.http.response"}
"""How ASGI calls a response, to a request and to a WebSocket that isn't accepted."""


def _drawn() -> Iterator[str]:
    """As those of other ids, 64 bits of the kernel's random source each; of many at once, since requests are many."""
    while True:
        text = os.urandom(8 * 256).hex()
        yield from (text[at : at + 16] for at in range(0, len(text), 16))


_numbers = _drawn()


class Exchange:
    """One request.

    Args:
        say: told a line that a person who looks after the app should read.
    """

    def __init__(self, calls: "Calls", pool: "Pool", method: str, request: Request, say: Callable[[str], None]) -> None:
        self.calls: set[Call] = set()
        self.request = request
        self._calls = calls
        self._pool = pool
        self._method = method
        self._say = say
        self._call: Call | None = None
        self._body = b""
        """What its container is told of its body with its head."""
        self._out: deque[tuple[str, dict[str, Any], bytes]] = deque()
        """What has come back: ``(kind, head, content)``."""
        self._then: Callable[[], None] | None = None
        """Called when something comes back, once."""
        self._ended: tuple[str, str] | None = None
        """Status and detail of the input."""
        self._room = 0
        """Bytes of the request that its container takes now."""
        self._more_room: asyncio.Event | None = None
        """Set when there may be room for more, while somebody waits for that."""
        self._successor: Pool | None = None
        """Of the version that took the place of the one that was asked."""
        self._moves = False
        self._left = False
        """The client has."""
        self._taken = 0
        """Bytes of the response that the client has taken, and its container doesn't know of."""

    # ---- its call ----

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """What the call says."""
        if isinstance(message, WebOut):
            assert payloads is not None
            self._out.append((message.kind, message.head, in_memory(payloads[0])))
        elif isinstance(message, Outputs):
            (_, status, detail) = message.items[0]
            if status == Status.OK and payloads and len(payloads[0]):
                try:
                    if len(payloads[0]) > MOST_WHOLE:
                        raise ValueError
                    number, block, body = unpack_response(in_memory(payloads[0]))
                    if not is_block(block):
                        raise ValueError
                    self._out.append(("end", {"status": number, "headers": block}, body))
                except ValueError:
                    status, detail = Status.CRASHED, "the container sent what is no response"
            self._ended = (status, detail)
        self._came()

    def _came(self) -> None:
        """Something has: whoever waits for it goes on."""
        then, self._then = self._then, None
        if then is not None:
            then()

    def follow(self, pool: "Pool | None") -> None:
        """Another version answers from now on: what no container has begun with goes there."""
        if pool is not None and self._call is None:  # some of its body is still to come
            self._pool = pool
            return
        self._successor = pool
        item = self._item
        if pool is not None and item is not None and item.container is None:
            self._moves = True
            self._calls.cancel(item.call)

    def takes(self, size: int) -> None:
        """The container takes so many bytes more of the request."""
        self._room += size
        self._has_room()

    def _has_room(self) -> None:
        if self._more_room is not None:
            self._more_room.set()

    async def _wait_for_room(self) -> None:
        self._more_room = asyncio.Event()
        await self._more_room.wait()
        self._more_room = None

    def _begin(self) -> None:
        call_id = f"rq-{next(_numbers)}"
        self._ended = None
        self._call = self._calls.begin(call_id, self._pool, self._method, "web", self)
        function = self._pool.function
        if function.app.stopping is not None:  # nobody would ever take it
            self._call.refusal = f"NotFoundError: the app {function.app.name} is ending and takes no more requests"
        else:
            self._call.refusal = function.refusal
        self._calls.add(self._call, 0, [self.request.packed(self._body)])

    @property
    def _item(self) -> "Input | None":
        return self._call.inputs.get(0) if self._call is not None else None

    async def _pass(self, kind: str, data: bytes) -> None:
        """Some of the request, to its container."""
        self._room -= cost(len(data))
        self._tell(kind, data)
        while (item := self._item) is not None and item.container is not None and item.container.data is not None:
            if item.container.data.backlog <= BACKLOG:
                break
            await asyncio.sleep(_LOOK)

    def _tell(self, kind: str, data: bytes = b"", code: int = 0) -> None:
        """The container, about its input; once some of it has gone, another one can't be told all."""
        item = self._item
        if item is None or item.container is None or item.container.data is None:
            return
        item.yielded += 1
        item.container.data.send(WebIn(item.seq, kind, code, []), [data])

    def _acknowledge(self, size: int) -> None:
        self._taken += size
        item = self._item
        if self._taken >= _ACKNOWLEDGE and item is not None:
            item.credited += self._taken
            if item.container is not None and item.container.control is not None:
                item.container.control.send(AddCredit(item.seq, self._taken))
            self._taken = 0

    def gone(self) -> None:
        """The client has left."""
        self._left = True
        if self._call is not None and self._ended is None:
            self._tell("gone", code=1006)
            self._calls.cancel(self._call)
        self._came()

    def broken(self) -> None:
        """What its container says can't be sent, so that nobody hears what it says after that."""
        if self.request.is_http:
            self.gone()
        else:
            self._tell("gone", code=1006)

    def over(self) -> None:
        """It has been answered. It and its call hold each other: without this the collector of garbage would have to find both."""
        self._call = None

    def left(self) -> None:
        """The client of a WebSocket has; what it had said goes on to the container, whether or not that takes it."""
        self._left = True
        self._has_room()

    async def _next(self) -> tuple[str, dict[str, Any], bytes] | None:
        """What comes back next; None: there is no more."""
        while not self._out:
            if self._ended is not None:
                return None
            waits = asyncio.get_running_loop().create_future()
            self._then = partial(_wake, waits)
            await waits
        return self._out.popleft()

    # ---- HTTP ----

    def begin(self, body: bytes, then: Callable[[], None]) -> None:
        """Have a request answered of which all has come. ``then`` is called, once, when something of its response has, or the
        client has left: what has is :meth:`whole`, or takes :meth:`go_on`."""
        self._body = body
        self._begin()
        self._then = then
        if self._ended is not None:  # nobody will answer it
            self._came()

    def whole(self) -> tuple[int, bytes, bytes] | None:
        """Status, headers and body of the response, where all of it has come at once, and it is one."""
        if not self._out or self._out[0][0] != "end":
            return None
        _, head, body = self._out[0]
        status, block = head.get("status"), head.get("headers")
        if type(status) is not int or not 200 <= status <= 599 or type(block) is not bytes:
            return None
        return status, block, body

    @property
    def has_left(self) -> bool:
        """Whether the client has."""
        return self._left

    async def answer(self, receive: Receive, send: Send, gathered: Gathered) -> None:
        """Be an HTTP request and its response. What is sent while ``gathered()`` is entered leaves at once."""
        first: asyncio.Future[Event] | None = None
        event: Event = {"type": "http.request", "more_body": True}
        if self.request.may_have_body:
            first = asyncio.ensure_future(receive())
            await asyncio.wait({first}, timeout=SOON)
            if first.done():
                event, first = first.result(), None
        else:
            event = await receive()
        if event["type"] == "http.disconnect" or self._left:  # perhaps after some of its body had come
            return
        self._body = event.get("body", b"")
        self.request.more = bool(event.get("more_body", False))
        self._begin()
        pump = None
        if self.request.more:
            pump = asyncio.ensure_future(self._pump(receive, first))
        try:
            await self.go_on(send, gathered)
        finally:
            if first is not None:
                first.cancel()
            if pump is not None:
                pump.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await pump

    async def go_on(self, send: Send, gathered: Gathered) -> None:
        """Pass on the response of a request that has begun."""
        begun = await self._respond(send, gathered)
        while not begun and self._goes_on_elsewhere():
            self._begin()
            begun = await self._respond(send, gathered)
        if not begun and self._may_try_again():
            self._say(f"{self._title} is tried once more: {self._why}")
            self._begin()
            begun = await self._respond(send, gathered)
        if not begun:
            await self._fail(send)

    async def _respond(self, send: Send, gathered: Gathered) -> bool:
        """Pass the response on; whether there is one."""
        begun = False
        while (found := await self._next()) is not None:
            kind, head, content = found
            if kind == "cut":
                break
            more = kind == "body"
            if not begun and not more:  # all of it
                with gathered():
                    await send({"type": "http.response.start", **_start(head)})
                    await send({"type": "http.response.body", "body": content, "more_body": False})
                return True
            if not begun:
                begun = True
                await send({"type": "http.response.start", **_start(head)})
            await send({"type": "http.response.body", "body": content, "more_body": more})
            self._acknowledge(cost(len(content)))
            if not more:
                return True
        if begun:
            raise CutShort(self._why)
        return False

    async def _pump(self, receive: Receive, first: "asyncio.Future[Event] | None") -> None:
        """Send the rest of the request's body, of which ``first`` comes first, no faster than its container takes it."""
        while True:
            while self._room <= 0:
                await self._wait_for_room()
            event = await (receive() if first is None else first)
            first = None
            if event["type"] == "http.disconnect":
                return
            body, more = event.get("body", b""), event.get("more_body", False)
            await self._pass("body" if more else "end", body)
            if not more:
                return

    @property
    def _title(self) -> str:
        number = self._call.id if self._call is not None else ""
        return f"request {number}: {self.request.title}"

    @property
    def _why(self) -> str:
        status, detail = self._ended or ("", "")
        return detail.partition(": ")[2] if status == Status.REFUSED else detail or "it failed"

    def _goes_on_elsewhere(self) -> bool:
        """Whether it was cancelled because there is another version, and all of it can be sent there."""
        cancelled = self._ended is not None and self._ended[0] == Status.CANCELLED
        if self._left or not cancelled or self._successor is None or (self.request.more and not self._moves):
            return False
        self._pool, self._successor, self._moves = self._successor, None, False
        return True

    def _may_try_again(self) -> bool:
        crashed, request = self._ended is not None and self._ended[0] == Status.CRASHED, self.request
        return crashed and not self._left and not self._body and not request.more and request.method in _AGAIN

    async def _fail(self, send: Send) -> None:
        if self._left:
            return
        status, _ = self._ended or ("", "")
        self._say(f"{self._title} failed: {self._why}")
        text = f"{self._why}\n{self._call.id if self._call is not None else ''}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
        kind = RESPONSE["http" if self.request.is_http else "websocket"]
        await send({"type": f"{kind}.start", "status": _CODES.get(status, 502), "headers": headers})
        await send({"type": f"{kind}.body", "body": text, "more_body": False})

    # ---- WebSockets ----

    async def converse(self, receive: Receive, send: Send) -> None:
        """Be a WebSocket."""
        event = await receive()
        if event["type"] != "websocket.connect":
            return
        self._begin()
        pump = asyncio.ensure_future(self._pump_messages(receive))
        try:
            while not (begun := await self._pass_on(send)) and self._goes_on_elsewhere():
                self._begin()
            if not begun:
                await self._fail(send)
        except OSError:  # uvicorn's: the client has left. What it had said, and that it has left, goes to the container
            self.left()
            await pump
        finally:
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pump

    async def _pass_on(self, send: Send) -> bool:
        """Pass on what its container says; whether it has said anything."""
        accepted, denied, cut = False, False, False
        while (found := await self._next()) is not None:
            kind, head, content = found
            if kind == "accept" and not accepted:
                accepted = True
                headers = _headers(head.get("headers", []))
                await send({"type": "websocket.accept", "subprotocol": head.get("subprotocol"), "headers": headers})
            elif kind in ("text", "bytes"):
                value = content.decode(errors="replace") if kind == "text" else content
                await send({"type": "websocket.send", kind: value})
                self._acknowledge(cost(len(content)))
            elif kind == "close":
                await send(
                    {"type": "websocket.close", "code": head.get("code", 1000), "reason": head.get("reason", "")}
                )
                return True
            elif kind in ("body", "end") and not accepted:
                if not denied:
                    denied = True
                    await send({"type": "websocket.http.response.start", **_start(head)})
                await send({"type": "websocket.http.response.body", "body": content, "more_body": kind == "body"})
                if kind == "end":
                    return True
            else:
                cut = True
                break
        if accepted:
            status = (self._ended or ("", ""))[0]
            code = 1011 if cut else 1000 if status == Status.OK else _GOING_AWAY if status == Status.CANCELLED else 1011
            await send({"type": "websocket.close", "code": code, "reason": ""})
        return accepted or denied

    async def _pump_messages(self, receive: Receive) -> None:
        self._room = WINDOW
        while True:
            while self._room <= 0 and not self._left:
                await self._wait_for_room()
            event = await receive()
            if event["type"] == "websocket.disconnect":
                if (item := self._item) is not None and item.container is None:
                    self._calls.cancel(item.call)  # nobody has begun to answer
                self._tell("gone", code=int(event.get("code") or 1005))
                return
            text = event.get("text")
            data = text.encode() if text is not None else event["bytes"]
            await self._pass("text" if text is not None else "bytes", data)


class CutShort(Exception):
    """A response that had begun, and won't be completed."""


def _wake(waits: "asyncio.Future[None]") -> None:
    if not waits.done():
        waits.set_result(None)


def _start(head: dict[str, Any]) -> dict[str, Any]:
    status = head.get("status")
    if type(status) is not int or not 200 <= status <= 599:
        return {"status": 502, "headers": []}
    return {"status": status, "headers": _headers(head.get("headers", []))}


def _headers(given: Any) -> list[tuple[bytes, bytes]]:
    if isinstance(given, bytes):
        return headers_of(given)
    if not isinstance(given, list):
        return []
    return [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in given]
