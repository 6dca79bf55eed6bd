"""What a program that can't see this machine's files may ask about containers: what they have printed, and who has ended."""

import os
import re
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from greenroom.model.app_logs import BLOCK, read_on
from greenroom.model.errors import Error, ProtocolError
from greenroom.server.messages import Handler
from greenroom.wire.far_messages import ListEnded, Printed, ReadAppLog, ReadContainerLog
from greenroom.wire.messages import Done, Failed
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.server.core import Server
    from greenroom.server.peers import ClientPeer

_ID = re.compile(r"[A-Za-z0-9-]{1,60}")


class LogHandlers:
    """Of one program's connection."""

    def __init__(self, server: "Server", peer: "ClientPeer") -> None:
        self._server = server
        self._peer = peer
        self.table: dict[type, Handler] = {
            ReadAppLog: self._read_app_log,
            ReadContainerLog: self._read_container_log,
            ListEnded: self._list_ended,
        }

    def _read(self, rid: int, work: Callable[[], tuple[bytes, dict[str, Any]]]) -> None:
        def read(done: Future[tuple[bytes, dict[str, Any]]]) -> None:
            try:
                data, answer = done.result()
            except Error as error:
                self._peer.send(Failed(rid, type(error).__name__, str(error)))
            except OSError as error:
                self._peer.send(Failed(rid, "NotFoundError", f"that can't be read: {error.strerror or error}"))
            else:
                self._peer.send(Printed(rid, []), [data])
                self._peer.send(Done(rid, answer))

        self._server.disk.do(work, read)

    def _read_app_log(self, message: ReadAppLog, payloads: list[Payload]) -> None:
        place = message.place
        if place and not (len(place) == 2 and all(type(n) is int and n >= 0 for n in place)):
            raise ProtocolError("a place in a log that can't be one")
        if len(message.app) > 200:
            raise ProtocolError(f"an app whose name has {len(message.app)} characters")

        def read() -> tuple[bytes, dict[str, Any]]:
            data, after = read_on(self._server.home, message.app, place)
            return data, {"place": after}

        self._read(message.rid, read)

    def _read_container_log(self, message: ReadContainerLog, payloads: list[Payload]) -> None:
        if not _ID.fullmatch(message.container_id) or message.offset < 0:
            raise ProtocolError("a container's id, or a place in its output, that can't be one")
        live = self._server.run / "containers" / message.container_id / "output"
        kept = self._server.home / "logs" / f"{message.container_id}.log"
        self._read(message.rid, lambda: read_container_log(live, kept, message.offset))

    def _list_ended(self, message: ListEnded, payloads: list[Payload]) -> None:
        def read(done: Future[list[dict[str, Any]]]) -> None:
            self._peer.send(Done(message.rid, {"containers": done.result()}))

        self._server.disk.do(self._server.records.read, read)


def read_container_log(live: Path, kept: Path, offset: int) -> tuple[bytes, dict[str, Any]]:
    """What a container has printed from there on, as far as it is kept.

    Raises:
        OSError: there is no such file.
    """
    try:
        file, over = open(live, "rb"), False
    except FileNotFoundError:
        try:
            file, over = open(kept, "rb"), True
        except FileNotFoundError:
            return b"", {"offset": offset, "over": True}  # it printed nothing
    with file:
        size = os.fstat(file.fileno()).st_size
        if size < offset:
            offset = 0  # a program cut its output
        if offset < size:
            try:
                offset = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                offset = size  # what was printed there is kept no more
        data = os.pread(file.fileno(), BLOCK, offset)
        return data, {"offset": offset + len(data), "over": over}
