"""Who speaks to the server, and what each may say.

A connection begins with ``Hello``; from then on one of the classes here takes its messages, each by one method named in
a table. A message that its table lacks ends the connection.
"""

import hmac
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import Error, InvalidError, NotFoundError, ProtocolError
from greenroom.model.spec import FunctionSpec
from greenroom.server.apps import App
from greenroom.server.calls import Call as CallRecord
from greenroom.server.container_peer import ContainerPeer
from greenroom.server.containers import Container
from greenroom.server.messages import Handler, only_payload
from greenroom.server.pools import Function, Pool
from greenroom.wire import messages as m
from greenroom.wire.loop_connection import LoopConnection
from greenroom.wire.payload import INLINE_ONLY, Payload

if TYPE_CHECKING:
    from greenroom.server.core import Server

PATIENCE = 20.0
"""Seconds in which whoever connects must have said who it is."""


class Visitor:
    """A connection that hasn't said who it is."""

    def __init__(self, server: "Server", sock: socket.socket) -> None:
        self._server = server
        self._peer: ClientPeer | ContainerPeer | None = None
        self.connection = LoopConnection(sock, server.turn, self._on_message, self._on_closed)
        server.visitors.add(self)
        self._patience = server.loop.call_later(PATIENCE, self._expect_hello)

    def _expect_hello(self) -> None:
        if not self.connection.closed:
            self._refuse(f"nothing was said for {PATIENCE:g} s")

    def _on_message(self, message: Any, payloads: list[Payload]) -> None:
        self._patience.cancel()
        if not isinstance(message, m.Hello):
            raise ProtocolError(f"the first message must be Hello, not {type(message).__name__}")
        if message.version != m.PROTOCOL_VERSION:
            self._refuse(f"this server speaks protocol {m.PROTOCOL_VERSION}, the client {message.version}")
            return
        server = self._server
        container = server.container_by_token(message.token) if message.role == "container" else None
        if message.role == "client" and hmac.compare_digest(message.token.encode(), server.token.encode()):
            self._peer = ClientPeer(server, self.connection, None)
        elif container is not None and message.channel in ("data", "control") and not container.may_begin:
            # Before any of the user's code runs: from then on exit hooks could be owed, and it is about to be killed.
            self._refuse(f"{container.id} is not to start any more")
            return
        elif container is not None and message.channel in ("data", "control"):
            self._peer = ContainerPeer(server, self.connection, container, message.channel)
        elif container is not None:
            self._peer = ClientPeer(server, self.connection, container)
        else:
            self._refuse("the token is not one of this server's")
            return
        settings = server.settings
        largest, inline = settings.max_payload, settings.inline_limit
        if container is not None and server.sandbox.inline_only:
            self.connection.inline_only = True
            largest = inline = min(INLINE_ONLY, largest)
        self.connection.send(m.Welcome(server.id, largest, inline))
        self.connection.on_message = self._peer.on_message
        self._peer.welcomed()

    def _refuse(self, reason: str) -> None:
        self._server.log(f"refused a connection: {reason}")
        self.connection.send(m.Refused(reason))
        self.connection.close()

    def _on_closed(self, reason: str) -> None:
        self._server.visitors.discard(self)
        self._patience.cancel()
        if reason:
            self._server.log(f"closed a connection: {reason}")
        if self._peer is not None:
            self._peer.closed()


class ClientPeer:
    """A program that defines apps and calls functions; or a container that calls functions of its own app."""

    def __init__(self, server: "Server", connection: LoopConnection, inside: Container | None) -> None:
        self._server = server
        self._connection = connection
        self._inside = inside
        self._only_app = inside.pool.function.app if inside is not None else None
        self.calls: set[CallRecord] = set()
        self._following: list[App] = []
        self._spawning: dict[str, CallRecord] = {}
        """Spawned calls that more inputs may come of."""
        calls: dict[type, Handler] = {
            m.Bind: self._bind,
            m.Call: self._call,
            m.Inputs: self._inputs,
            m.EndInputs: self._end_inputs,
            m.Credit: self._credit,
            m.CancelCall: self._cancel_call,
            m.Collect: self._collect,
        }
        own: dict[type, Handler] = {
            m.HasBundle: self._has_bundle,
            m.PutBundle: self._put_bundle,
            m.CreateApp: self._create_app,
            m.DefineFunction: self._define_function,
            m.FollowApp: self._follow_app,
            m.StopApp: self._stop_app,
            m.ListContainers: self._list_containers,
            m.StopContainer: self._stop_container,
            m.EnterContainer: self._enter_container,
            m.Shutdown: self._shutdown,
        }
        self._handlers = calls if inside is not None else {**calls, **own}

    def welcomed(self) -> None:
        """The connection is ours."""
        if self._only_app is None:
            self._server.client_came()

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Send one message; a client that has gone misses it."""
        self._connection.send(message, payloads)

    @property
    def backlog(self) -> int:
        """Bytes that the client has not taken."""
        return self._connection.backlog

    def on_message(self, message: Any, payloads: list[Payload]) -> None:
        """One message arrived."""
        handler = self._handlers.get(type(message))
        if handler is None:
            raise ProtocolError(f"{type(message).__name__} is not for this connection to say")
        try:
            handler(message, payloads)
        except ProtocolError:
            raise
        except Error as error:
            if (rid := getattr(message, "rid", None)) is None:
                raise ProtocolError(str(error)) from None
            self._failed(rid, error)

    def closed(self) -> None:
        """The connection is gone: so are the calls that nobody waits for, and the apps that it followed."""
        self._server.lifecycle.calls.owner_gone(self)
        for app in self._following:
            app.follower = None
            self._server.stop_app(app, "its program has gone")
        if self._only_app is None:
            self._server.client_left()

    # ---- calls ----

    def _function(self, function_id: str) -> Function | None:
        function = self._server.functions.get(function_id)
        if function is None or self._only_app not in (None, function.app):
            return None
        return function

    def _bind(self, message: m.Bind, payloads: list[Payload]) -> None:
        function = self._function(message.function_id)
        binding = only_payload(message, payloads)
        if len(binding) > self._server.settings.max_payload:
            raise ProtocolError(f"constructor arguments of {len(binding)} bytes")
        if function is not None and message.binding not in function.pools:
            function.pools[message.binding] = Pool(function, binding, self._server.lifecycle)

    def _call(self, message: m.Call, payloads: list[Payload]) -> None:
        calls = self._server.lifecycle.calls
        refusal, pool = self._pool_for(message)
        if message.call_id in calls.by_id:
            raise ProtocolError(f"the call {message.call_id} exists already")
        if pool is None:
            self.send(m.Outputs(message.call_id, [[-1, m.Status.REFUSED, refusal]], []), [b""])
            return
        owner = None if message.shape == "spawn" else self
        call = calls.begin(message.call_id, pool, message.method, message.shape, owner)
        if owner is None:
            self._spawning[call.id] = call
        call.refusal = refusal
        if self._inside is not None and owner is not None and (limit := pool.full_with(self._inside)):
            name = pool.function.spec.name
            text = f"{name} calls itself while every container that max_containers={limit} allows is busy: it waits for one"
            self._server.say_once(pool.function.app, text)
        if payloads:
            calls.add(call, 0, payloads)

    def _pool_for(self, message: m.Call) -> tuple[str, Pool | None]:
        """The reason for a refusal (``""``: none), and the pool."""
        function = self._function(message.function_id)
        if function is None:
            return f"NotFoundError: no function {message.function_id} in a running app", None
        if function.app.stopping is not None:
            return f"NotFoundError: the app {function.app.name} is ending and takes no more calls", None
        pool = function.pool(message.binding)
        method = function.spec.method(message.method)
        if pool is None or method is None:
            return f"NotFoundError: {function.spec.name} has no method {message.method!r}", None
        if message.shape == "generator" and not method.is_generator:
            return f"InvalidError: {function.spec.name} is no generator; call it with .remote()", None
        return function.refusal, pool

    def _own_call(self, call_id: str) -> CallRecord | None:
        """A call that began on this connection and still goes on. Nobody adds to another's."""
        call = self._server.lifecycle.calls.by_id.get(call_id)
        mine = call is not None and (call.owner is self or self._spawning.get(call_id) is call)
        return call if mine else None

    def _inputs(self, message: m.Inputs, payloads: list[Payload]) -> None:
        call = self._own_call(message.call_id)
        if call is not None:
            if call.count is not None or message.first < 0 or message.first in call.inputs:
                raise ProtocolError(f"inputs from {message.first} on, of a call that can't have them")
            self._server.lifecycle.calls.add(call, message.first, payloads)
        else:
            text = "NotFoundError: the call has ended, with its app"
            self.send(m.Outputs(message.call_id, [[-1, m.Status.REFUSED, text]], []), [b""])

    def _end_inputs(self, message: m.EndInputs, payloads: list[Payload]) -> None:
        call = self._own_call(message.call_id)
        self._spawning.pop(message.call_id, None)
        if call is not None:
            self._server.lifecycle.calls.end_inputs(call, message.total)
        elif message.rid:
            raise NotFoundError(f"the call {message.call_id} has ended, with its app")
        if message.rid:
            self._done(message.rid)

    def _credit(self, message: m.Credit, payloads: list[Payload]) -> None:
        call = self._own_call(message.call_id)
        for item in call.inputs.values() if call is not None else ():
            if item.container is not None and item.container.control is not None:
                item.container.control.send(m.AddCredit(item.seq, message.more))

    def _cancel_call(self, message: m.CancelCall, payloads: list[Payload]) -> None:
        call = self._server.lifecycle.calls.by_id.get(message.call_id)
        if call is not None and self._only_app in (None, call.pool.function.app):
            self._server.lifecycle.calls.cancel(call)

    def _collect(self, message: m.Collect, payloads: list[Payload]) -> None:
        call = self._server.lifecycle.calls.by_id.get(message.call_id)
        if call is None or call.owner is not None or self._only_app not in (None, call.pool.function.app):
            raise NotFoundError(f"no spawned call {message.call_id} in a running app of this server")
        self._server.lifecycle.calls.collect(call, message, self)

    # ---- apps ----

    def _done(self, rid: int, **data: Any) -> None:
        self.send(m.Done(rid, data))

    def _failed(self, rid: int, error: Error) -> None:
        self.send(m.Failed(rid, type(error).__name__, str(error)))

    def _answer(self, rid: int, data: Callable[[], dict[str, Any]]) -> None:
        """To a request whose work was done elsewhere."""
        try:
            self._done(rid, **data())
        except Error as error:
            self._failed(rid, error)

    def _has_bundle(self, message: m.HasBundle, payloads: list[Payload]) -> None:
        def answer(present: Future[bool]) -> None:
            self._answer(message.rid, lambda: {"present": present.result()})

        self._server.disk.do(lambda: self._server.bundles.has(message.digest), answer)

    def _put_bundle(self, message: m.PutBundle, payloads: list[Payload]) -> None:
        def answer(kept: Future[None]) -> None:
            self._answer(message.rid, lambda: kept.result() or {})

        bundle = only_payload(message, payloads)
        self._server.disk.do(lambda: self._server.bundles.put(message.digest, bundle), answer)

    def _create_app(self, message: m.CreateApp, payloads: list[Payload]) -> None:
        self._server.create_app(message.app_id, message.name)
        self._done(message.rid)

    def _define_function(self, message: m.DefineFunction, payloads: list[Payload]) -> None:
        try:
            spec = FunctionSpec.from_json(message.spec)
        except (TypeError, KeyError, ValueError) as error:
            raise ProtocolError(f"a function's spec has another shape: {error}") from None
        app = self._server.app(spec.app_id)
        function = app.functions[spec.function_id] = Function(app, spec, only_payload(message, payloads))
        function.refusal = self._server.machine.refuse(spec)
        self._server.functions[spec.function_id] = function
        if text := self._server.machine.mention(spec):
            self._server.say_once(app, text)
        if not (spec.is_class and spec.needs_binding):
            pool = function.pools[""] = Pool(function, b"", self._server.lifecycle)
            if spec.min_containers and not function.refusal:
                pool.scale()
        self._done(message.rid)

    def _follow_app(self, message: m.FollowApp, payloads: list[Payload]) -> None:
        app = self._server.app(message.app_id)
        if app.follower is not None:
            raise InvalidError(f"the app {app.name} is followed already")
        app.follower = self
        self._following = [app, *(other for other in self._following if other.id in self._server.apps)]
        self._done(message.rid)

    def _stop_app(self, message: m.StopApp, payloads: list[Payload]) -> None:
        self._server.stop_app(self._server.app(message.app_id), "the app ended", (self, message.rid), kill=message.kill)

    def _list_containers(self, message: m.ListContainers, payloads: list[Payload]) -> None:
        records = [c.record(self._server.id) for c in self._server.lifecycle.containers.by_id.values()]
        self._done(message.rid, containers=records)

    def _live_container(self, container_id: str) -> Container:
        container = self._server.lifecycle.containers.by_id.get(container_id)
        if container is None or not container.live:
            raise NotFoundError(f"no container {container_id} lives on this server")
        return container

    def _stop_container(self, message: m.StopContainer, payloads: list[Payload]) -> None:
        self._server.stop_container(self._live_container(message.container_id), (self, message.rid))

    def _enter_container(self, message: m.EnterContainer, payloads: list[Payload]) -> None:
        container = self._live_container(message.container_id)
        if not container.pid:
            raise InvalidError(f"the container {container.id} has not started yet; try again in a moment")
        self._done(message.rid, command=container.enter, pid=container.pid)

    def _shutdown(self, message: m.Shutdown, payloads: list[Payload]) -> None:
        self._server.shut_down("asked to by a client", lambda: self._done(message.rid))
