"""How a program reaches a server on another machine: TLS over TCP, with the server's certificate pinned as ssh pins a host's key.

A connection (``connection.py``) wants a socket that it can poll and read by itself, which TLS has none of. So it gets one
end of a socket pair, and a thread moves bytes between the other end and the TLS connection.
"""

import atexit
import binascii
import fcntl
import os
import select
import socket
import sys
import termios
import threading
import time
import weakref
from typing import TYPE_CHECKING, NamedTuple

from greenroom.model.errors import AuthError, ConnectionError, InvalidError
from greenroom.wire.connection import FarSocket

if TYPE_CHECKING:
    import ssl

PATIENCE = 10.0
"""Seconds that a server may take to be reached, and again to say who it is."""
LEAVE = 5.0
"""Seconds in which what was said last may leave."""
KEEPALIVE = (30, 10, 3)
"""Seconds of silence until the other side is asked whether it is there, seconds between such questions, and how many."""
_LOOK = 0.001
"""Seconds between two looks whether all has left."""
_BLOCK = 256 * 1024
_HELD = 1024**2
"""Bytes that are held for a side that is slow, until no more are read from the other."""


class Far(NamedTuple):
    """A server on another machine."""

    host: str
    port: int
    fingerprint: str = ""
    """Of its certificate, as ``SHA256:…``; ``""``: it is signed by an authority that this machine trusts."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(what: str, text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, or ``[HOST]:PORT``; ``what``: where it stands, for the message.

    Raises:
        InvalidError: it is no such thing.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535 or any(c.isspace() for c in host):
        raise InvalidError(f"{what}: {text!r} is no HOST:PORT, such as build.example.org:7100 or [::1]:7100")
    return host, int(port)


def fingerprint_of(certificate: bytes) -> str:
    """What a certificate (DER) is known by: ``SHA256:`` and its digest, as ssh writes it."""
    import hashlib

    digest = hashlib.sha256(certificate).digest()
    return "SHA256:" + binascii.b2a_base64(digest, newline=False).decode().rstrip("=")


def check_fingerprint(what: str, text: str) -> str:
    """That text, if it can be a fingerprint; raises InvalidError."""
    if not (text.startswith("SHA256:") and len(text) == 50):
        raise InvalidError(
            f"{what}: {text!r} is no fingerprint: give what the server has said, SHA256: and 43 characters"
        )
    return text


def keep_alive(sock: socket.socket) -> None:
    """Have the kernel notice when the other side's machine is gone; and send what there is at once."""
    idle, between, count = KEEPALIVE
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, between)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)


def connect_far(to: Far) -> FarSocket:
    """A socket whose bytes travel to and from that server.

    Raises:
        ConnectionError: it can't be reached.
        AuthError: it is not the one that is meant.
    """
    tls = _shake_hands(to)
    near, own = socket.socketpair()
    made = FarSocket(fileno=near.detach())
    Pump(tls, own, made)
    return made


def certificate_at(host: str, port: int) -> tuple[str, bool]:
    """The fingerprint of the certificate that a server shows, and whether an authority that this machine trusts vouches for it.

    Raises:
        ConnectionError: it can't be reached, or speaks no TLS.
    """
    try:
        _shake_hands(Far(host, port)).close()
    except _UnknownError as error:
        return error.fingerprint, False
    return "", True


class _UnknownError(AuthError):
    def __init__(self, text: str, fingerprint: str) -> None:
        super().__init__(text)
        self.fingerprint = fingerprint


def _shake_hands(to: Far) -> "ssl.SSLSocket":
    import ssl

    tcp = _reach(to)
    try:
        tls = _context(bool(to.fingerprint)).wrap_socket(tcp, server_hostname=to.host)
    except ssl.SSLCertVerificationError as error:
        shown = _shown_by(to)
        raise _UnknownError(
            f"nobody whom this machine trusts vouches for the certificate of {to} ({error.verify_message}): if it is {shown}, as "
            f"`greenroom server` has printed it there, pin it: GREENROOM_FINGERPRINT={shown}, or `greenroom profile set`",
            shown,
        ) from None
    except OSError as error:
        raise _no_server(to, error) from None
    if to.fingerprint:
        shown = fingerprint_of(tls.getpeercert(binary_form=True) or b"")
        if shown != to.fingerprint:
            tls.close()
            raise AuthError(
                f"{to} is not the server that is meant: its certificate is {shown}, and {to.fingerprint} was expected; nothing "
                "was sent to it. If it was made anew there, give the new one: GREENROOM_FINGERPRINT, or `greenroom profile set`"
            )
    return tls


def _shown_by(to: Far) -> str:
    """The fingerprint of what it shows, whoever vouches for that."""
    try:
        with _context(pinned=True).wrap_socket(_reach(to), server_hostname=to.host) as tls:
            return fingerprint_of(tls.getpeercert(binary_form=True) or b"")
    except OSError as error:
        raise _no_server(to, error) from None


def _reach(to: Far) -> socket.socket:
    try:
        tcp = socket.create_connection((to.host, to.port), PATIENCE)
        keep_alive(tcp)
    except (OSError, UnicodeError, OverflowError) as error:
        raise _no_server(to, error) from None
    return tcp


def _no_server(to: Far, error: Exception) -> ConnectionError:
    import ssl

    if isinstance(error, TimeoutError):
        why = f"nothing came back within {PATIENCE:g} s"
    elif isinstance(error, ssl.SSLError):
        why = f"what listens there doesn't speak TLS as it should: {error.reason or error}"
    elif isinstance(error, OSError):
        why = error.strerror or str(error) or "the connection was closed"
    else:
        why = str(error)
    return ConnectionError(
        f"no Greenroom server answers at {to}: {why}; see that `greenroom server --listen` runs there, or choose another by "
        "GREENROOM_SERVER or `greenroom profile activate`"
    )


_contexts: "dict[bool, ssl.SSLContext]" = {}


def _context(pinned: bool) -> "ssl.SSLContext":
    import ssl

    if pinned not in _contexts:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if pinned:  # by a digest that we compare ourselves, before anything is sent
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        else:
            context.load_default_certs()
        _contexts[pinned] = context
    return _contexts[pinned]


class Pump:
    """A thread that moves bytes between a socket pair's end and a TLS connection. When either side ends, so does the other,
    once it has what was said before."""

    def __init__(self, tls: "ssl.SSLSocket", own: socket.socket, near: FarSocket) -> None:
        self._tls = tls
        self._own = own
        self._near = weakref.ref(near)
        """The program's end."""
        self._out = bytearray()
        """For the server."""
        self._come = bytearray()
        """For the program."""
        self._program_ended = False
        self._sending = threading.Lock()
        """Held between taking what the program says and having it in ``_out``, or sent."""
        tls.setblocking(False)
        own.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="greenroom-far", daemon=True)
        _pumps.add(self)
        self._thread.start()

    def finish(self, until: float) -> None:
        """This process ends: wait until what has been said is sent, to that time (of ``time.monotonic``) at the most. The
        connection stays: what else is done at the end may need it."""
        while self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            if self._is_open():
                with self._sending:
                    if not self._out and not self._unread():
                        return
                time.sleep(min(left, _LOOK))
            else:
                self._thread.join(left)  # it ends by itself

    def _is_open(self) -> bool:
        near = self._near()
        return near is not None and near.fileno() >= 0

    def _unread(self) -> int:
        """Bytes that the program has written, and that the thread hasn't taken."""
        near = self._near()
        try:
            return int.from_bytes(fcntl.ioctl(near or -1, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except (OSError, ValueError):
            return 0  # it was closed just now

    def abandon(self) -> None:
        """In a forked child: let go of both, which are the parent's; the server notices nothing."""
        for sock in (self._tls, self._own):
            if (fd := sock.detach()) >= 0:
                os.close(fd)

    def _run(self) -> None:
        try:
            if self._move():
                self._leave()
        except OSError:
            pass  # the connection was lost: whoever reads it finds it closed
        finally:
            _pumps.discard(self)
            self._own.close()
            self._tls.close()

    def _move(self) -> bool:
        """Until one side has ended; whether the program has, and the server has all that it said."""
        tls, own, out, come = self._tls, self._own, self._out, self._come
        while True:
            before = len(come), len(out)
            if len(come) < _HELD and not self._hear_server():
                self._hand_over()
                return False
            heard = len(come), len(out)
            self._tell_program()
            with self._sending:
                if len(out) < _HELD:
                    self._hear_program()
                heard = heard[0], len(out)
                wants_write = self._tell_server()
            if self._program_ended and not out:
                return True
            if before == heard == (len(come), len(out)) or self._program_ended:
                poll = select.poll()
                # Of a socket that nothing is wanted of, an end would be told again and again.
                if for_server := select.POLLIN * (len(come) < _HELD) | select.POLLOUT * wants_write:
                    poll.register(tls.fileno(), for_server)
                for_program = select.POLLIN * (len(out) < _HELD) | select.POLLOUT * bool(come)
                if for_program and not self._program_ended:
                    poll.register(own.fileno(), for_program)
                poll.poll()

    def _hear_server(self) -> bool:
        """Take what has come from there; False: it has ended."""
        import ssl

        try:
            data = self._tls.recv(_BLOCK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            return False
        self._come += data
        return bool(data)

    def _tell_program(self) -> None:
        try:
            if self._come:
                del self._come[: self._own.send(self._come)]
        except BlockingIOError:
            pass
        except OSError:
            self._come.clear()  # it reads no more

    def _hear_program(self) -> None:
        try:
            data = self._own.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._out += data
        self._program_ended = not data

    def _tell_server(self) -> bool:
        """Send what there is; whether that waits for room."""
        import ssl

        try:
            if self._out:
                del self._out[: self._tls.send(self._out)]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        return False

    def _hand_over(self) -> None:
        """The server has ended the connection: the program gets what had come."""
        self._own.setblocking(True)
        self._own.sendall(self._come)

    def _leave(self) -> None:
        """Say that nothing more comes, and read on for a while: to close with something unread would cut off what we said."""
        import ssl

        try:
            self._tls.unwrap()
        except (ssl.SSLError, OSError):
            pass  # it has not said the same yet
        with socket.socket(fileno=self._tls.detach()) as tcp:
            tcp.settimeout(LEAVE)
            tcp.shutdown(socket.SHUT_WR)
            while tcp.recv(_BLOCK):
                pass


_pumps: "set[Pump]" = set()


def _finish_all() -> None:
    until = time.monotonic() + LEAVE
    for pump in list(_pumps):
        pump.finish(until)


def _forget_after_fork() -> None:
    for pump in list(_pumps):
        pump.abandon()
    _pumps.clear()


atexit.register(_finish_all)
os.register_at_fork(after_in_child=_forget_after_fork)
