"""Where requests come in."""

import asyncio
import email.utils
import logging
import socket
import ssl
import time
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.server import ServerState

from greenroom.model.settings import Settings
from greenroom.server.http.connection import Connection
from greenroom.server.http.websocket import MESSAGE, Socket

if TYPE_CHECKING:
    from greenroom.server.http.ingress import Ingress

PORTS = range(8000, 8100)
"""Tried in this order, where none is asked for."""


class Listener:
    """One port."""

    def __init__(self, ingress: "Ingress", settings: Settings) -> None:
        self._tls = _tls(settings)
        self.socket = _bound(settings.web_host, settings.web_port)
        self.socket.listen(1024)
        self.socket.setblocking(False)
        host, port = self.socket.getsockname()[:2]
        ingress.base = f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        config = Config(
            ingress, lifespan="off", http=Connection, ws=Socket, access_log=False, log_config=None, server_header=False,
            proxy_headers=bool(settings.web_trusted), forwarded_allow_ips=settings.web_trusted.split(","), ws_max_size=MESSAGE,
            timeout_keep_alive=75,
        )  # fmt: skip
        config.load()
        # What clients send that is no HTTP is theirs to hear of; a log of it would grow as they like.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._config = config
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._date: asyncio.TimerHandle | None = None

    async def serve(self) -> None:
        """Take connections, until :meth:`close`."""
        loop = asyncio.get_running_loop()
        self._tell_date(loop)
        self._server = await loop.create_server(
            lambda: Connection(config=self._config, server_state=self._state, app_state={}),
            sock=self.socket,
            ssl=self._tls,
        )

    def _tell_date(self, loop: asyncio.AbstractEventLoop) -> None:
        self._state.default_headers = [(b"date", email.utils.formatdate(time.time(), usegmt=True).encode())]
        self._date = loop.call_later(1.0, self._tell_date, loop)

    def close(self) -> None:
        """No more connections; those that are there end with what they are at."""
        if self._date is not None:
            self._date.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """What connections are wrapped in; raises OSError, where a file can't be read, or is none."""
    if not settings.web_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.web_certificate, settings.web_key or None)
    except (OSError, ssl.SSLError) as error:
        what = f"{settings.web_certificate} {settings.web_key}".strip()
        raise OSError(0, f"{what} is no certificate with its key: {error.strerror or error}") from None
    return context


def _bound(host: str, port: int) -> socket.socket:
    """A socket at that port; 0: at the first that is free of those we prefer, else at any. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for wanted in (port,) if port else (*PORTS, 0):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, wanted))
        except (OSError, OverflowError, UnicodeError) as error:  # taken; or no port, or no host, at all
            sock.close()
            if port or not wanted:
                why = getattr(error, "strerror", None) or error
                raise OSError(getattr(error, "errno", None), f"can't listen on {host}:{wanted}: {why}") from None
        else:
            return sock
    raise AssertionError
