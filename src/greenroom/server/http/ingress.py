"""Which function answers which request: by the label that its URL begins with, or its host does."""

import hashlib
import html
import pickle
import re
from collections.abc import Callable, Coroutine
from functools import lru_cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from greenroom.model.errors import InvalidError
from greenroom.model.spec import MethodSpec
from greenroom.server.http.auth import Gate
from greenroom.server.http.exchange import RESPONSE, CutShort, Event, Exchange, Receive, Send
from greenroom.server.http.request import Request
from greenroom.server.http.request_log import RequestLog
from greenroom.server.pools import Pool
from greenroom.wire.messages import Notice
from greenroom.wire.web_messages import Requested

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from greenroom.server.apps import App
    from greenroom.server.core import Server
    from greenroom.server.http.connection import Connection
    from greenroom.server.lifecycle import Lifecycle
    from greenroom.server.pools import Function

LONGEST_LABEL = 63
"""Characters, as in a name of DNS."""
MOST_POOLS = 1000
"""Sets of parameters that anybody may ask for by URL."""
_TRUTH = {"true": True, "1": True, "false": False, "0": False, "": False}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Greenroom</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#1d2b24}}
li{{margin:.4rem 0}}a{{color:#0b6b3a}}small{{color:#5b6b63}}</style>
<h1>Greenroom</h1>{0}</html>
"""


def _truth(text: str) -> bool:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise ValueError from None


_TYPES: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "bool": _truth, "bytes": str.encode}


class Endpoint(NamedTuple):
    """Something that answers requests."""

    function: "Function"
    method: MethodSpec
    label: str

    @property
    def name(self) -> str:
        """``app.Model.predict``."""
        return ".".join(filter(None, (self.function.app.name, self.function.spec.name, self.method.name)))

    def pool_for(self, query: str, lifecycle: "Lifecycle") -> "tuple[Pool | None, str]":
        """The pool of the class's parameters that a query string gives; else None, and what is wrong with them."""
        wanted: dict[str, list[Any]] = self.method.web.get("parameters", {})
        given = {}
        for name, value in parse_qsl(query, keep_blank_values=True) if wanted else ():
            if name in wanted:
                try:
                    given[name] = _TYPES[wanted[name][0]](value)
                except ValueError:
                    return None, f"{name}={value[:40]!r} is no {wanted[name][0]}"
        if missing := [name for name, (_, required) in wanted.items() if required and name not in given]:
            return None, f"the query string lacks {', '.join(f'{name}=' for name in missing)}"
        function = self.function
        if not given:
            return function.pool(""), "its constructor takes arguments, which no URL can give: use parameter()"
        binding = pickle.dumps(((), dict(sorted(given.items()))), 5)
        key = hashlib.sha256(binding).hexdigest()[:32]
        if key not in function.pools:
            if len(function.pools) >= MOST_POOLS:
                return None, f"it has been asked for with {MOST_POOLS} sets of parameters, and takes no more"
            function.pools[key] = Pool(function, binding, lifecycle)
        return function.pools[key], ""


class Ingress:
    """All that is served: an ASGI application."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._endpoints: dict[str, Endpoint] = {}
        self._next: dict[str, Endpoint] = {}
        """Those of versions that don't serve yet."""
        self._exchanges: dict[Exchange, str] = {}
        """Requests that are being answered, each with its label."""
        self._gate = Gate(server.home)
        self._domain = server.settings.web_domain.lower().strip(".")
        self.base = ""
        """The URL that all begin with."""

    def publish(self, function: "Function") -> dict[str, str]:
        """Serve a function's, or a class's, endpoints; their URLs by method.

        Raises:
            InvalidError: another endpoint has the label of one.
        """
        urls = {}
        for method in function.spec.methods:
            if method.web:
                label = method.web["label"] or label_for(
                    function.app.name, function.spec.name, method.name, "" if function.app.deployed else "-dev"
                )
                endpoint = Endpoint(function, method, label)
                if (other := self._in_the_way(endpoint)) is not None:
                    raise InvalidError(
                        f"{endpoint.name} and {other.name} would both answer at {self._url(label)}: give one a label="
                    )
                (self._next if function.app.replaces else self._endpoints)[label] = endpoint
                urls[method.name] = self._url(label)
        return urls

    def _in_the_way(self, endpoint: Endpoint) -> Endpoint | None:
        """What has its label already, and will have it still once this one answers."""
        app = endpoint.function.app
        for other in (self._endpoints.get(endpoint.label), self._next.get(endpoint.label)):
            if other is not None and other.function is not endpoint.function and other.function.app.id != app.replaces:
                return other
        return None

    def _url(self, label: str) -> str:
        if not self._domain:
            return f"{self.base}/{label}"
        scheme, _, rest = self.base.partition("://")
        return f"{scheme}://{label}.{self._domain}:{rest.rpartition(':')[2]}"

    def _route(self, scope: Event) -> tuple[str, str]:
        """The label that a request names, and the part of its path that it does so by."""
        if self._domain:
            host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
            label, _, rest = host.partition(":")[0].lower().partition(".")
            if rest == self._domain:
                return label, ""
        first, slash, rest = scope["raw_path"][1:].partition(b"/")
        label, written = _label(first)
        if written != first:
            scope["raw_path"] = b"/" + written + slash + rest
        return label, f"/{label}"

    def switch(self, old: "set[Function]", new: "set[Function]") -> None:
        """The endpoints of ``new`` take the place of those of ``old``."""
        coming = {label: e for label, e in self._next.items() if e.function in new}
        self.withdraw(old)
        self._next = {label: e for label, e in self._next.items() if label not in coming}
        self._endpoints |= coming
        for exchange, label in self._exchanges.items():
            if label in coming:
                query = exchange.request.query.decode("latin-1")
                pool, _ = coming[label].pool_for(query, self._server.lifecycle)
                exchange.follow(pool)

    def withdraw(self, functions: "set[Function]") -> None:
        """They answer nothing any more."""
        self._endpoints = {label: e for label, e in self._endpoints.items() if e.function not in functions}
        self._next = {label: e for label, e in self._next.items() if e.function not in functions}

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer one request."""
        label, root = self._route(scope)
        endpoint = self._endpoints.get(label)
        if endpoint is None:
            await self._not_found(scope, receive, send, label)
        elif (log := self._log(endpoint.function.app)) is None:
            await self._answer(endpoint, scope, receive, send, label, root)
        else:
            with log.watch(scope, send) as noted:
                await self._answer(endpoint, scope, receive, noted, label, root)

    def _log(self, app: "App") -> RequestLog | None:
        if app.requests is None and (lines := self._server.settings.web_log):
            app.requests = RequestLog(lines, lambda text: app.tell(Requested(text)), self._server.loop.call_later)
        return app.requests

    async def _answer(
        self, endpoint: Endpoint, scope: Event, receive: Receive, send: Send, label: str, root: str
    ) -> None:
        if endpoint.method.web["requires_proxy_auth"] and not await self._gate.opens(scope["headers"]):
            text = "this endpoint wants a token: the headers Modal-Key and Modal-Secret, which `greenroom token create` prints\n"
            await _refuse(scope, receive, send, 401, text)
            return
        endpoint = self._endpoints.get(label, endpoint)  # another version's, if it came while the token was looked up
        found, problem = self._exchange(endpoint, scope, root)
        if found is None:
            status = HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.BAD_REQUEST
            await _refuse(scope, receive, send, status, f"{problem or 'Bad Request'}\n")
            return
        connection: Connection = scope["greenroom.connection"]
        if scope["type"] == "http":
            await self._while(found, endpoint, label, connection, found.answer(receive, send, connection.gathered))
        else:
            await self._while(found, endpoint, label, connection, found.converse(receive, send))

    def _exchange(self, endpoint: Endpoint, scope: Event, root: str) -> tuple[Exchange | None, str]:
        """One of a request; or None, and what is wrong with its parameters, or with itself (``""``)."""
        if root and scope["path"] == root:  # its own root, however that is written
            scope["path"] += "/"
            scope["raw_path"] = scope["raw_path"] + b"/"
        pool, missing = endpoint.pool_for(scope["query_string"].decode("latin-1"), self._server.lifecycle)
        if pool is None:
            return None, f"{endpoint.name}: {missing}"
        try:
            request = Request(scope, root)
        except ValueError:
            return None, ""
        say = lambda text: endpoint.function.app.tell(Notice(text))  # noqa: E731
        return Exchange(self._server.lifecycle.calls, pool, endpoint.method.name, request, say), ""

    async def _while(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        label: str,
        connection: "Connection",
        work: Coroutine[Any, Any, None],
    ) -> None:
        """Have a request answered by ``work``."""
        self._begins(exchange, label, connection)
        try:
            await work
        except CutShort:
            connection.cut()
        except Exception as error:  # noqa: BLE001 - a response that can't be one: its container's doing, or a fault of ours
            self._unsent(exchange, endpoint, connection, error)
        finally:
            self._ends(exchange, connection)

    def _begins(self, exchange: Exchange, label: str, connection: "Connection") -> None:
        self._exchanges[exchange] = label
        connection.gone = exchange.gone if exchange.request.is_http else exchange.left

    def _unsent(self, exchange: Exchange, endpoint: Endpoint, connection: "Connection", error: Exception) -> None:
        self._server.peer_log.say(endpoint.name, f"a response of {endpoint.name} could not be sent: {error!r:.200}")
        exchange.broken()
        connection.cut()

    def _ends(self, exchange: Exchange, connection: "Connection") -> None:
        del self._exchanges[exchange]
        exchange.over()
        if connection.gone in (exchange.gone, exchange.left):  # else another request's that it has begun
            connection.gone = None

    # ---- without a task ----

    def take(self, connection: "Connection", cycle: "RequestResponseCycle") -> bool:
        """Answer a request all of which has come, without a task as long as it takes none; False: it isn't one for that."""
        scope: Event = cycle.scope  # type: ignore[assignment]
        label, root = self._route(scope)
        endpoint = self._endpoints.get(label)
        if endpoint is None or endpoint.method.web["requires_proxy_auth"] or self._server.settings.web_log:
            return False
        exchange, _ = self._exchange(endpoint, scope, root)
        if exchange is None:
            return False
        self._begins(exchange, label, connection)
        exchange.begin(bytes(cycle.body), partial(self._came, exchange, endpoint, label, connection, cycle))
        return True

    def _came(
        self,
        exchange: Exchange,
        endpoint: Endpoint,
        label: str,
        connection: "Connection",
        cycle: "RequestResponseCycle",
    ) -> None:
        """Something of a response, most often all of it: only where it isn't does it take a task."""
        over = exchange.has_left
        try:
            over = over or ((whole := exchange.whole()) is not None and connection.respond(cycle, *whole))
        except Exception as error:  # noqa: BLE001 - as above
            over = True
            self._unsent(exchange, endpoint, connection, error)
        if over:
            self._ends(exchange, connection)
            return

        async def rest(scope: Event, receive: Receive, send: Send) -> None:
            await self._while(exchange, endpoint, label, connection, exchange.go_on(send, connection.gathered))

        connection.start(cycle, rest)

    async def _not_found(self, scope: Event, receive: Receive, send: Send, label: str) -> None:
        if not label and scope["type"] == "http" and scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
            await _say(scope, send, 200, self._front_page(), "text/html; charset=utf-8")
            return
        # What is deployed may be meant for those alone who were told its label.
        there = sorted(label for label, e in self._endpoints.items() if not e.function.app.deployed)
        served = "; there are:\n" + "".join(f"  /{label}/\n" for label in there) if there else "\n"
        await _refuse(scope, receive, send, 404, f"no endpoint is called {label!r} here{served}")

    def _front_page(self) -> str:
        items = "".join(
            f'<li><a href="/{quote(label)}/">{html.escape(endpoint.name)}</a> <small>/{html.escape(label)}/</small></li>'
            for label, endpoint in sorted(self._endpoints.items())
        )
        return _PAGE.format(f"<ul>{items}</ul>" if items else "<p>Nothing is served.</p>")


def label_for(app: str, name: str, method: str, end: str = "-dev") -> str:
    """``app-model-predict``, and ``-dev`` for what isn't deployed; what is too long has a hash of all of it before that."""
    text = "-".join(filter(None, (app, name, method)))
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "app"
    if len(slug) + len(end) <= LONGEST_LABEL:
        return f"{slug}{end}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{slug[: LONGEST_LABEL - len(end) - 9].rstrip('-')}-{digest}{end}"


@lru_cache(1024)
def _label(first: bytes) -> tuple[str, bytes]:
    """The label that the first part of a path names, and that part as it is written where it could be written in several ways."""
    label = unquote(first.decode("latin-1"))
    return label, first if "/" in label else quote(label).encode()


async def _refuse(scope: Event, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()
    await _say(scope, send, status, text)


async def _say(scope: Event, send: Send, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
    body, response = text.encode(), RESPONSE[scope["type"]]
    headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Basic realm="Greenroom"'))
    await send({"type": f"{response}.start", "status": status, "headers": headers})
    await send({"type": f"{response}.body", "body": body, "more_body": False})
