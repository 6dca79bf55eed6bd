"""A WebSocket's connection: uvicorn speaks its protocol, within limits of our own."""

import contextlib
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from greenroom.server.http.connection import Patient

MESSAGE = 16 * 1024**2
"""Bytes of one message of a WebSocket."""


class Socket(Patient, WebSocketsSansIOProtocol):
    """A WebSocket's connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gone: Callable[[], None] | None = None
        """Called when the client has left."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left."""
        self._goes_on()
        super().connection_lost(exc)
        if self.gone is not None:
            self.gone()

    def handle_connect(self, event: Any) -> None:
        """See uvicorn: the application begins in the next turn."""
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["greenroom.connection"] = self  # type: ignore[typeddict-unknown-key]

    def gathered(self) -> contextlib.AbstractContextManager[None]:
        """Not for a WebSocket, whose messages leave by themselves."""
        return contextlib.nullcontext()

    def handle_cont(self, event: Any) -> None:
        """See uvicorn; however small its frames are, a message takes no more than its size."""
        if self.frames and not isinstance(self.frames[0], bytearray):
            self.frames = [bytearray(self.frames[0])]  # type: ignore[list-item]
        self.frames[0] += event.data
        if event.fin:
            self.frames = [bytes(self.frames[0])]
            self.send_receive_event_to_app()

    def handle_ping(self) -> None:
        """See uvicorn; who takes no answers isn't heard."""
        super().handle_ping()
        if not self.writable.is_set() and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """See uvicorn, which doesn't look whether a handshake is too large for websockets."""
        super().data_received(data)
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            self.handshake_complete = self.close_sent = True
            text = "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(text.encode())
            self.transport.close()

    def resume_writing(self) -> None:
        """The client takes what was written."""
        super().resume_writing()
        self._maybe_read()

    async def receive(self) -> Any:
        """See uvicorn."""
        message = await self.queue.get()
        self._maybe_read()
        return message

    def _maybe_read(self) -> None:
        if self.read_paused and self.queue.empty() and self.writable.is_set():
            self.read_paused = False
            self.transport.resume_reading()
