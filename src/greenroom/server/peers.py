"""Who speaks to the server, and what each may say.

A connection begins with ``Hello``; from then on one of the classes here takes its messages, each by one method named in
a table. A message that its table lacks ends the connection.
"""

import hmac
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import Error, ExecutionError, InvalidError, NotFoundError, ProtocolError
from greenroom.model.secrets import read_stored
from greenroom.model.spec import FunctionSpec
from greenroom.server import allowance, images
from greenroom.server.apps import App
from greenroom.server.bundles import Arriving
from greenroom.server.caller_peer import CallerPeer
from greenroom.server.container_peer import ContainerPeer
from greenroom.server.containers import Container
from greenroom.server.defining import add_function
from greenroom.server.deploy_handlers import DeployHandlers
from greenroom.server.detached import left
from greenroom.server.log_handlers import LogHandlers
from greenroom.server.messages import only_payload
from greenroom.server.replacing import Replacement
from greenroom.server.secrets import variables_of
from greenroom.wire import messages as m
from greenroom.wire.image_messages import BuildImage
from greenroom.wire.loop_connection import LoopConnection
from greenroom.wire.payload import INLINE_ONLY, Payload
from greenroom.wire.secret_messages import DeleteSecret, ListSecrets, PutSecret
from greenroom.wire.web_messages import TakeOver

if TYPE_CHECKING:
    from greenroom.server.core import Server
    from greenroom.server.remote import Remote

PATIENCE = 20.0
"""Seconds in which whoever connects must have said who it is."""
HELLO = (4096, 0)
"""Bytes of header and body that the first frame of a connection may have."""
STRANGER = "a stranger"
MOST_REMOTE_STRANGERS = 128
"""Connections from other machines that haven't said who they are; the oldest goes when there is another."""
MOST_ARRIVING = 100
"""Bundles that one program may send at once."""


class Visitor:
    """A connection that hasn't said who it is."""

    def __init__(
        self, server: "Server", sock: socket.socket, remote: "Remote | None" = None, source: str = STRANGER
    ) -> None:
        self._server = server
        self._remote = remote
        """What it came by, from another machine; None: it is on this one."""
        self._peer: CallerPeer | ContainerPeer | None = None
        self._source = source
        """Whom the log is about."""
        self._held: list[tuple[Any, list[Payload]]] = []
        largest = server.settings.max_payload if remote is not None else 0
        self.connection = LoopConnection(sock, server.turn, self._on_message, self._on_closed, HELLO, largest)
        server.visitors.add(self)
        self._strangers, most = server.strangers, allowance.MOST_STRANGERS
        if remote is not None:
            self._strangers, most = remote.strangers, MOST_REMOTE_STRANGERS
        self._strangers[self] = None
        if len(self._strangers) > most:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.refuse(f"{most} newer connections haven't said who they are")
        self._patience = server.loop.call_later(PATIENCE, self._expect_hello)

    def _expect_hello(self) -> None:
        if not self.connection.closed:
            self.refuse(f"nothing was said for {PATIENCE:g} s")

    def _on_message(self, message: Any, payloads: list[Payload]) -> None:
        self._patience.cancel()
        server = self._server
        self._strangers.pop(self, None)
        if not isinstance(message, m.Hello):
            raise ProtocolError(f"the first message must be Hello, not {type(message).__name__}")
        if message.version != m.PROTOCOL_VERSION:
            self.refuse(f"this server speaks protocol {m.PROTOCOL_VERSION}, the client {message.version}")
            return
        if self._remote is not None:
            self._remote.identify(self, message)
            return
        container = server.container_by_token(message.token) if message.role == "container" else None
        if container is not None:
            self._source = container.id
            self._peer = self._of_container(container, message.channel)
        elif message.role == "client" and hmac.compare_digest(_bytes(message.token), _bytes(server.token)):
            self._peer = ClientPeer(server, self.connection)
        else:
            self.refuse("the token is not one of this server's")
        if self._peer is None:
            return
        settings = server.settings
        largest, inline = settings.max_payload, settings.inline_limit
        if container is not None and server.sandbox.inline_only:
            self.connection.inline_only = True
            largest = inline = min(INLINE_ONLY, largest)
        self._welcome(self._peer, largest, inline)

    def _welcome(self, peer: "CallerPeer | ContainerPeer", largest: int, inline: int) -> None:
        self._peer = peer
        self.connection.send(m.Welcome(self._server.id, largest, inline))
        self.connection.on_message = peer.on_message
        peer.welcomed()

    def hold(self) -> None:
        """Whether it may come in takes a while to find out: what it has said meanwhile waits, and it is read no further."""
        self._held = []
        self._strangers[self] = None
        self.connection.on_message = lambda message, payloads: self._held.append((message, payloads))
        self.connection.pause_reading()

    def admit(self, peer: "ClientPeer") -> None:
        """That is what it may be."""
        settings, held, self._held = self._server.settings, self._held, []
        self._strangers.pop(self, None)
        self._welcome(peer, settings.max_payload, settings.inline_limit)
        try:
            for message, payloads in held:
                peer.on_message(message, payloads)
        except ProtocolError as error:
            self.connection.fail(str(error))
        self.connection.resume_reading()

    def _of_container(self, container: Container, channel: str) -> "CallerPeer | ContainerPeer | None":
        """What a container may be on this connection; None where it was refused."""
        if channel not in ("data", "control"):
            if refusal := container.allowance.no_connection():
                self.refuse(refusal)
                return None
            return CallerPeer(self._server, self.connection, container)
        if not container.may_begin:
            # Before any of the user's code runs: from then on exit hooks could be owed, and it is about to be killed.
            self.refuse(f"{container.id} is not to start any more")
            return None
        if getattr(container, channel) is not None:
            self.refuse(f"the container {container.id} has a {channel} connection already")
            return None
        return ContainerPeer(self._server, self.connection, container, channel)

    def refuse(self, reason: str) -> None:
        """Say why, and close the connection."""
        whence = f" from {self._source}" if self._remote is not None else ""
        self._server.peer_log.say(self._source, f"refused a connection{whence}: {reason}")
        self.connection.send(m.Refused(reason))
        self.connection.close()

    def _on_closed(self, reason: str) -> None:
        self._server.visitors.discard(self)
        self._strangers.pop(self, None)
        if self._remote is not None:
            self._remote.gone(self)
        self._patience.cancel()
        if reason:
            self._server.peer_log.say(self._source, f"closed a connection of {self._source}: {reason}")
        if self._peer is not None:
            self._peer.closed()


def _bytes(token: str) -> bytes:
    """Of a text that may be none: JSON can hold half a surrogate pair."""
    return token.encode(errors="surrogatepass")


class ClientPeer(CallerPeer):
    """A program that defines apps and calls functions."""

    def __init__(self, server: "Server", connection: LoopConnection) -> None:
        super().__init__(server, connection, None)
        self._following: list[App] = []
        self._parts: dict[str, Arriving] = {}
        """Bundles of which more is to come."""
        self._handlers |= {
            m.HasBundle: self._has_bundle,
            m.PutBundle: self._put_bundle,
            m.CreateApp: self._create_app,
            TakeOver: self._take_over,
            m.DefineFunction: self._define_function,
            BuildImage: self._build_image,
            m.FollowApp: self._follow_app,
            m.StopApp: self._stop_app,
            m.ListContainers: self._list_containers,
            m.StopContainer: self._stop_container,
            m.EnterContainer: self._enter_container,
            m.Shutdown: self._shutdown,
            PutSecret: self._put_secret,
            ListSecrets: self._list_secrets,
            DeleteSecret: self._delete_secret,
        }
        self._handlers |= DeployHandlers(server, self).table
        self._handlers |= LogHandlers(server, self).table

    def welcomed(self) -> None:
        """The connection is ours."""
        self._server.client_came()

    def closed(self) -> None:
        """The connection is gone: so are the calls that nobody waits for, and the apps that it followed."""
        super().closed()
        for arriving in self._parts.values():
            self._server.disk.do(arriving.discard, lambda done: done.result())
        for app in self._following:
            app.follower = None
            if app.detached:
                left(self._server, app)
            elif not app.version:  # else it is deployed, and stays
                self._server.stop_app(app, "its program has gone")
        self._server.client_left()

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
            if kept.exception() is not None:
                self._parts.pop(message.digest, None)
            self._answer(message.rid, lambda: kept.result() or {})

        part = only_payload(message, payloads)
        arriving = self._parts.pop(message.digest, None) or self._server.bundles.arriving(message.digest)
        if message.more:
            if len(self._parts) >= MOST_ARRIVING:
                raise ProtocolError(f"more than {MOST_ARRIVING} bundles at once")
            self._parts[message.digest] = arriving
        self._server.disk.do(lambda: arriving.take(part, more=message.more), answer)

    def _create_app(self, message: m.CreateApp, payloads: list[Payload]) -> None:
        self._server.create_app(message.app_id, message.name, message.replaces)
        self._server.apps[message.app_id].held = message.detached  # else a container would end with this server
        self._done(message.rid)

    def _take_over(self, message: TakeOver, payloads: list[Payload]) -> None:
        app = self._server.app(message.app_id)

        def then(why: str) -> None:
            if why:
                self._failed(message.rid, ExecutionError(why))
            else:
                self._server.web.switch(old, app)
                self._done(message.rid)

        old = self._server.apps.get(app.replaces)
        Replacement(self._server, old, app, then).begin()

    def _build_image(self, message: BuildImage, payloads: list[Payload]) -> None:
        images.check(message.image, payloads)
        self._server.app(message.app_id)

        def answer(image_id: str, error: Error | None) -> None:
            if error is not None:
                self._failed(message.rid, error)
            else:
                self._done(message.rid, image_id=image_id)

        def named(found: Future[tuple[str, dict[str, Any]]]) -> None:
            try:
                app = self._server.app(message.app_id)  # unless it has ended meanwhile
                image_id, filled = found.result()
            except Error as error:
                self._failed(message.rid, error)
                return
            self._server.images.want(app, message.name, image_id, message.image, filled, payloads, answer)

        def look() -> tuple[str, dict[str, Any]]:
            return images.image_id_of(message.image, payloads), self._server.secrets.fill(message.image)

        self._server.disk.do(look, named)

    def _define_function(self, message: m.DefineFunction, payloads: list[Payload]) -> None:
        try:
            spec = FunctionSpec.from_json(message.spec)
        except (TypeError, KeyError, ValueError) as error:
            raise ProtocolError(f"a function's spec has another shape: {error}") from None
        if not spec.secrets:
            self._define(message, spec, payloads)
            return
        named = read_stored(spec.secrets)

        def found(done: Future[dict[str, str]]) -> None:
            try:
                done.result()
                self._define(message, spec, payloads)
            except Error as error:
                self._failed(message.rid, error)

        self._server.disk.do(lambda: self._server.secrets.vault.environment({}, named, used=False), found)

    def _define(self, message: m.DefineFunction, spec: FunctionSpec, payloads: list[Payload]) -> None:
        app = self._server.app(spec.app_id)
        if spec.image:
            self._server.images.made(app, spec.image)

        def served(urls: dict[str, str], error: Error | None) -> None:
            if error is not None:
                self._failed(message.rid, error)
            else:
                self._done(message.rid, urls=urls)

        add_function(self._server, app, spec, only_payload(message, payloads), served)

    def brings(self, app: App) -> None:
        """An app that ends with this connection, unless it is deployed by then."""
        self._following = [app, *(other for other in self._following if other.id in self._server.apps)]

    def leaves(self, app: App) -> None:
        """It goes on, whatever becomes of this connection; raises InvalidError where it ends with that."""
        if not app.detached or app not in self._following:
            raise InvalidError(f"the app {app.name} ends with its program")
        self._following.remove(app)
        left(self._server, app)

    def _follow_app(self, message: m.FollowApp, payloads: list[Payload]) -> None:
        app = self._server.app(message.app_id)
        if app.follower is not None:
            raise InvalidError(f"the app {app.name} is followed already")
        app.follower = self
        self.brings(app)
        self._done(message.rid)

    def _stop_app(self, message: m.StopApp, payloads: list[Payload]) -> None:
        app, request = self._server.app(message.app_id), (self, message.rid)
        self._server.stop_app(app, "the app ended", request, kill=message.kill, drain=message.drain)

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

    def _put_secret(self, message: PutSecret, payloads: list[Payload]) -> None:
        variables, vault = variables_of(only_payload(message, payloads)), self._server.secrets.vault

        def answer(done: Future[bool]) -> None:
            self._answer(message.rid, lambda: {"existed": done.result()})

        self._server.disk.do(lambda: vault.put(message.name, variables, overwrite=message.overwrite), answer)

    def _list_secrets(self, message: ListSecrets, payloads: list[Payload]) -> None:
        def answer(done: Future[list[dict[str, Any]]]) -> None:
            self._answer(message.rid, lambda: {"secrets": done.result()})

        self._server.disk.do(self._server.secrets.vault.records, answer)

    def _delete_secret(self, message: DeleteSecret, payloads: list[Payload]) -> None:
        def answer(done: Future[None]) -> None:
            self._answer(message.rid, lambda: done.result() or {})

        self._server.disk.do(lambda: self._server.secrets.vault.delete(message.name), answer)
