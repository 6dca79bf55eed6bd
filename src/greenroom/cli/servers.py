"""The servers of this state directory, as commands ask them."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from greenroom.model import errors
from greenroom.model.container_state import LIVE
from greenroom.model.errors import AuthError, ConnectionError, Error, ProtocolError
from greenroom.model.settings import home_directory
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.messages import PROTOCOL_VERSION, Done, Failed, Hello, ListContainers, Refused

TIMEOUT = 2.0
"""Seconds that a server may take to answer."""


class Answering(NamedTuple):
    """A server, by where it listens."""

    path: str
    token: str

    def ask(self, message: Any, timeout: float | None = TIMEOUT) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            ConnectionError: it has gone, or does not answer in time.
            Error: what it says.
        """
        connection = BlockingConnection(connect(self.path))
        until = None if timeout is None else time.monotonic() + timeout
        try:
            connection.send(Hello("client", self.token, PROTOCOL_VERSION))
            connection.send(message)
            while True:
                answer, _ = connection.receive(None if until is None else max(0.0, until - time.monotonic()))
                if isinstance(answer, Refused):
                    raise AuthError(answer.reason)
                if isinstance(answer, Failed):
                    kind = getattr(errors, answer.error, Error)
                    raise kind(answer.text)
                if isinstance(answer, Done):
                    return answer.data
        except TimeoutError:
            raise ConnectionError(f"the server at {self.path} does not answer") from None
        finally:
            connection.close()

    def containers(self) -> list[dict[str, Any]]:
        """Records of those that live."""
        records: list[dict[str, Any]] = self.ask(ListContainers(1))["containers"]
        return [record for record in records if record["state"] in LIVE]


def runs() -> list[Path]:
    """The run directories of this state directory."""
    return list((home_directory() / "run").glob("*"))


def answering() -> Iterator[tuple[Answering, list[dict[str, Any]]]]:
    """Every server that answers, with its containers."""
    for run in runs():
        try:
            server = Answering(os.fspath(run / "server.sock"), (run / "token").read_text())
            yield server, server.containers()
        except (OSError, ConnectionError, ProtocolError, AuthError):
            continue  # one that has just ended, or died; its containers end by themselves
