"""The output of deployed apps on its way to files: cut into lines, each with its time and its container."""

import json
from typing import TYPE_CHECKING

from greenroom.model import app_logs

if TYPE_CHECKING:
    from concurrent.futures import Future

    from greenroom.server.containers import Container
    from greenroom.server.core import Server

LONGEST = 64 * 1024
"""Bytes of a line; what is longer is cut into several."""
WAITING = 4 * 1024**2
"""Bytes that may wait for a slow disk; what comes beyond them is left out, and that is said."""


class AppLogs:
    """Of one server."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._rest: dict[str, bytes] = {}
        """Of each container, what has come of a line."""
        self._waiting: dict[str, list[bytes]] = {}
        """Lines by app."""
        self._size = 0
        self._left_out = 0
        self._writing = False

    def add(self, container: "Container", output: bytes) -> None:
        """A container of a deployed app has printed."""
        whole = self._rest.pop(container.id, b"") + output
        *lines, rest = whole.split(b"\n")
        end = container.log_bytes - len(whole)
        ends = []
        for line in lines:
            end += len(line) + 1
            ends.append(end)
        while len(rest) >= LONGEST:
            lines.append(rest[:LONGEST])
            end += LONGEST
            ends.append(end)
            rest = rest[LONGEST:]
        if rest:
            self._rest[container.id] = rest
        self._put(container, lines, ends)

    def ended(self, container: "Container") -> None:
        """It prints no more."""
        if rest := self._rest.pop(container.id, b""):
            self._put(container, [rest], [container.log_bytes])

    def _put(self, container: "Container", lines: list[bytes], ends: list[int]) -> None:
        function = container.pool.function
        for line, end in zip(lines, ends, strict=True):
            if self._size > WAITING:
                self._left_out += 1
                continue
            if self._left_out:
                line = b"(%d lines were left out: the disk was too slow)\n" % self._left_out + line
                self._left_out = 0
            text = line.decode(errors="replace").rstrip("\r")
            entry = {
                "at": round(self._server.lifecycle.clock.wall(), 3), "container": container.id, "function": function.spec.name,
                "text": text, "end": end,
            }  # fmt: skip
            data = json.dumps(entry, ensure_ascii=False).encode(errors="replace") + b"\n"
            self._size += len(data)
            self._waiting.setdefault(function.app.name, []).append(data)
        self._write()

    def _write(self) -> None:
        if self._writing or not self._waiting:
            return
        waiting, self._waiting, self._size, self._writing = self._waiting, {}, 0, True

        def work() -> None:
            failed: OSError | None = None
            for app, lines in waiting.items():
                try:
                    app_logs.append(self._server.home, app, b"".join(lines))
                except OSError as error:  # the others' are written all the same
                    failed = failed or error
            if failed is not None:
                raise failed

        self._server.disk.do(work, self._written)

    def _written(self, done: "Future[None]") -> None:
        self._writing = False
        if (error := done.exception()) is not None:
            self._server.peer_log.say("app logs", f"output of deployed apps can't be written: {error}")
        self._write()
