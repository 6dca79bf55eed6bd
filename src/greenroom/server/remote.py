"""Programs on other machines: one port, TLS, and a token of ``greenroom token create --client``.

What comes through TLS goes into a socket pair, whose other end is a visitor like any other: it speaks the same protocol, says
who it is with a client's token and with none else, and is from then on a program like any other but for what needs this machine.
"""

import asyncio
import contextlib
import socket
import ssl
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.model.client_tokens import Token, find, read
from greenroom.model.errors import InvalidError
from greenroom.server.peers import ClientPeer, Visitor
from greenroom.wire import messages as m
from greenroom.wire.far import keep_alive
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.server.core import Server

HANDSHAKE = 10.0
"""Seconds that TLS may take to come about."""
SHUTDOWN = 5.0
"""Seconds that it may take to end."""
MOST_SHAKING = 128
"""Connections that TLS hasn't come about on; the oldest goes when there is another."""
ACCEPTS = 16
"""Connections taken in one go."""
CROWDED = 0.1
"""Seconds until connections are taken again after there were no descriptors left for one."""
REFRESH = 1.0
"""Seconds between two looks at the tokens: a revoked one is of use for that long at the most."""
LEAVE = 5.0
"""Seconds in which who is refused may read what was said to it."""
UNKNOWN = (
    "its token is none of this server's client tokens, or no more; `greenroom token create --client NAME` on the server's machine "
    "makes one"
)
BLOCK = 256 * 1024
HELD = 1024**2
"""Bytes that wait for a client that is slow, until no more are taken from its visitor."""


class Remote:
    """One server's."""

    def __init__(self, server: "Server", listener: socket.socket, context: ssl.SSLContext) -> None:
        self.server = server
        self._listener = listener
        self._context = context
        self._shaking: dict[socket.socket, asyncio.Task[None]] = {}
        """Oldest first."""
        self.strangers: dict[Visitor, None] = {}
        """Those that haven't said who they are, oldest first."""
        self._tokens: list[Token] = []
        self._unknown: list[tuple[Visitor, str]] = []
        """Who has shown a token that is not among them."""
        self._looking = False
        self._links: dict[Visitor, Link] = {}
        self._admitted: dict[Visitor, str] = {}
        """The id of the token that each has shown."""
        self._closed = False
        listener.setblocking(False)
        self._listen()
        self._refresh()

    # ---- connections ----

    def _listen(self) -> None:
        if not self._closed:
            self.server.loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.server.log(f"can't accept a connection from another machine: {error.strerror or error}")
                self.server.loop.remove_reader(self._listener)
                self.server.loop.call_later(CROWDED, self._listen)
                return
            host = str(address[0])
            sock.setblocking(False)
            with contextlib.suppress(OSError):  # it has gone by itself, which its handshake finds
                keep_alive(sock)
            if len(self._shaking) >= MOST_SHAKING:
                self._give_up(next(iter(self._shaking)))
                self.note(host, f"closed a connection: {MOST_SHAKING} newer ones have not begun TLS")
            self._shaking[sock] = self.server.loop.create_task(self._shake_hands(sock, host))

    def _give_up(self, sock: socket.socket) -> None:
        """Its handshake fails by that, and whatever it has is given back; to cancel that is not safe at every moment."""
        del self._shaking[sock]
        with contextlib.suppress(OSError):  # it has gone by itself
            sock.shutdown(socket.SHUT_RDWR)

    async def _shake_hands(self, sock: socket.socket, host: str) -> None:
        try:
            await self.server.loop.connect_accepted_socket(
                lambda: Link(self, host),
                sock,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE,
                ssl_shutdown_timeout=SHUTDOWN,
            )
        except (OSError, TimeoutError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or "it was closed"
            if sock not in self._shaking:
                return  # that was said
            self.note(host, f"closed a connection from {host}: TLS did not come about: {why}")
        finally:
            self._shaking.pop(sock, None)

    def note(self, host: str, text: str) -> None:
        """A line about somebody on another machine."""
        self.server.peer_log.say(host, text)

    def come(self, visitor: Visitor, link: "Link") -> None:
        """It has come by that."""
        self._links[visitor] = link

    def gone(self, visitor: Visitor) -> None:
        """Its connection is closed: what was said to it may still leave, but not for ever."""
        self.strangers.pop(visitor, None)
        self._admitted.pop(visitor, None)
        if (link := self._links.pop(visitor, None)) is not None:
            self.server.loop.call_later(LEAVE, link.abort)

    # ---- who they are ----

    def identify(self, visitor: Visitor, hello: m.Hello) -> None:
        """Admit it, or refuse it: by the tokens that are known, else by those that the file has now."""
        if hello.role != "client":
            visitor.refuse("from another machine, programs connect, and no containers or workers")
        elif (token := find(self._tokens, hello.token)) is not None:
            self._admit(visitor, token)
        else:
            visitor.hold()
            self._unknown.append((visitor, hello.token))
            if len(self._unknown) == 1 and not self._looking:
                self._look()

    def _look(self) -> None:
        """For those whose tokens are not known, into the file as it is now; who comes meanwhile waits for the next look."""
        asked, self._unknown = self._unknown, []
        self._looking = bool(asked)
        if not asked:
            return

        def looked(done: "Future[list[Token]]") -> None:
            self._tokens = done.result() if done.exception() is None else self._tokens
            for visitor, word in asked:
                if visitor.connection.closed or visitor not in self.strangers:
                    continue  # it has gone, or newer ones have crowded it out
                if (found := find(self._tokens, word)) is not None:
                    self._admit(visitor, found)
                else:
                    visitor.refuse(UNKNOWN)
            self._look()

        self.server.disk.do(lambda: read(self.server.home), looked)

    def _admit(self, visitor: Visitor, token: Token) -> None:
        self._admitted[visitor] = token.id
        visitor.admit(RemotePeer(self.server, visitor.connection))

    def _refresh(self) -> None:
        """Look who may still be here."""
        if self._closed:
            return

        def looked(done: "Future[list[Token]]") -> None:
            if (error := done.exception()) is not None:
                self.note("tokens", f"the client tokens can't be read, and nobody new is let in: {error}")
            else:
                self._tokens = done.result()
                there = {token.id for token in self._tokens}
                for visitor in [v for v, token_id in self._admitted.items() if token_id not in there]:
                    del self._admitted[visitor]
                    visitor.refuse("its token was revoked")
                    self.server.loop.call_later(LEAVE, visitor.connection.abort)  # should it not read that
            self.server.loop.call_later(REFRESH, self._refresh)

        self.server.disk.do(lambda: read(self.server.home), looked)

    # ---- the end ----

    def close(self) -> None:
        """The server ends: no more connections come, those that are there are closed by what they lead to."""
        self._closed = True
        self.server.loop.remove_reader(self._listener)
        self._listener.close()
        for sock in list(self._shaking):
            self._give_up(sock)


class Link(asyncio.Protocol):
    """One TLS connection, and its end of the socket pair."""

    def __init__(self, remote: Remote, host: str) -> None:
        self._remote = remote
        self._loop = remote.server.loop
        self._host = host
        self._sock: socket.socket | None = None
        self._transport: Any = None
        self._come = bytearray()
        """From the client, and not yet taken."""
        self._over = False
        """Nothing more comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = transport
        self._transport.set_write_buffer_limits(HELD)
        self._sock, other = socket.socketpair()
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._from_visitor)
        self._remote.come(Visitor(self._remote.server, other, self._remote, self._host), self)

    def abort(self) -> None:
        """End it now, if it hasn't ended."""
        self._transport.abort()

    # ---- from the client ----

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._sock is None:
            return
        sent = 0
        if not self._come:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                pass
            except OSError:
                return  # the visitor has closed, which is read below
            if sent < len(data):
                self._transport.pause_reading()
                self._loop.add_writer(self._sock, self._to_visitor)
        self._come += data[sent:]

    def _to_visitor(self) -> None:
        if self._sock is None:
            return
        try:
            del self._come[: self._sock.send(self._come)]
        except BlockingIOError:
            return
        except OSError:
            self._come.clear()
        if self._come:
            return
        self._loop.remove_writer(self._sock)
        if self._over:
            self._end()
        else:
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self._over = True
        if not self._come:
            self._end()

    def _end(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_reader(sock)
            self._loop.remove_writer(sock)
            sock.close()

    # ---- from the visitor ----

    def _from_visitor(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._transport.write(data)
            return
        self._loop.remove_reader(self._sock)
        self._come.clear()
        self._transport.close()  # what was said before still leaves

    def pause_writing(self) -> None:
        """See asyncio."""
        if self._sock is not None:
            self._loop.remove_reader(self._sock)

    def resume_writing(self) -> None:
        """See asyncio."""
        if self._sock is not None:
            self._loop.add_reader(self._sock, self._from_visitor)


class RemotePeer(ClientPeer):
    """A program on another machine: it may do what one of this machine's user may, but for what is done on this machine."""

    def __init__(self, server: "Server", connection: Any) -> None:
        super().__init__(server, connection)
        self._handlers[m.EnterContainer] = self._not_from_afar
        del self._handlers[m.Shutdown]

    def _not_from_afar(self, message: m.EnterContainer, payloads: list[Payload]) -> None:
        raise InvalidError(
            f"a container is entered on the machine that it is on: run `greenroom container exec {message.container_id[:40]}` there"
        )
