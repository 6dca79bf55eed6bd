"""The servers that commands ask: of this state directory, or the one on another machine that was chosen."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from greenroom.model import errors
from greenroom.model.container_state import LIVE
from greenroom.model.errors import AuthError, ConnectionError, Error, ProtocolError
from greenroom.model.settings import home_directory
from greenroom.sdk.address import Address, chosen, standing
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.far_messages import Printed
from greenroom.wire.messages import PROTOCOL_VERSION, Done, Failed, Hello, ListContainers, Refused
from greenroom.wire.payload import in_memory

TIMEOUT = 2.0
"""Seconds that a server may take to answer."""
FAR_TIMEOUT = 20.0
"""The same, of one on another machine."""


class Answering(NamedTuple):
    """A server, by where it listens."""

    address: Address

    def ask(self, message: Any, timeout: float | None = TIMEOUT) -> dict[str, Any]:
        """The answer to a request; for several, :class:`Conversation` connects once.

        Raises:
            ConnectionError: it has gone, or does not answer in time.
            Error: what it says.
        """
        with Conversation(self.address) as conversation:
            return conversation.ask(message, timeout)[0]

    def containers(self) -> list[dict[str, Any]]:
        """Records of those that live."""
        records: list[dict[str, Any]] = self.ask(ListContainers(1))["containers"]
        return [record for record in records if record["state"] in LIVE]


class Conversation:
    """A connection for several requests, one after another; for ``with``."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection = BlockingConnection(address.connect())

    def __enter__(self) -> "Conversation":
        self._connection.send(Hello("client", self._address.token, PROTOCOL_VERSION))
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def ask(self, message: Any, timeout: float | None = TIMEOUT) -> tuple[dict[str, Any], bytes]:
        """The answer, and the bytes that came ahead of it; raises as :meth:`Answering.ask` does."""
        if timeout is not None and self._address.far is not None:
            timeout = FAR_TIMEOUT
        until = None if timeout is None else time.monotonic() + timeout
        data = b""
        try:
            with suppress(ConnectionError):  # the server may have said why, before it went
                self._connection.send(message)
            while True:
                left = None if until is None else max(0.0, until - time.monotonic())
                answer, payloads = self._connection.receive(left)
                if isinstance(answer, Refused):
                    raise AuthError(f"the server refused the connection: {answer.reason}")
                if isinstance(answer, Failed):
                    kind = getattr(errors, answer.error, Error)
                    raise kind(answer.text)
                if isinstance(answer, Printed):
                    data = in_memory(payloads[0])
                if isinstance(answer, Done):
                    return answer.data, data
        except TimeoutError:
            raise ConnectionError(f"the server at {self._address} does not answer") from None


def runs() -> list[Path]:
    """The run directories of this state directory."""
    return list((home_directory() / "run").glob("*"))


def chosen_far() -> Answering | None:
    """The one on another machine that was chosen, if one was."""
    far = chosen()
    return Answering(far) if far is not None else None


def the_one_that_stays() -> Answering:
    """The one that was chosen, else the one that stays here; raises :class:`ConnectionError` where none does."""
    if (there := chosen() or standing()) is None:
        raise ConnectionError(
            "no server stays here: start one with `greenroom server`, or choose one on another machine: `greenroom profile`"
        )
    return Answering(there)


def answering() -> Iterator[tuple[Answering, list[dict[str, Any]]]]:
    """Every server of this machine that answers, or the one on another machine that was chosen; with its containers."""
    if (far := chosen_far()) is not None:
        yield far, far.containers()
        return
    for run in runs():
        try:
            server = Answering(Address(os.fspath(run / "server.sock"), (run / "token").read_text()))
            yield server, server.containers()
        except (OSError, ConnectionError, ProtocolError, AuthError):
            continue  # one that has just ended, or died; its containers end by themselves
