"""Which server this process speaks to: its container's, the one that ``app.run()`` started, or one that was set."""

from collections.abc import Callable
from typing import NamedTuple

from greenroom.model.errors import ConnectionError
from greenroom.sdk.tracebacks import show_without_our_frames
from greenroom.usercode.context import inside


class Address(NamedTuple):
    """Where a server listens, and how to be let in."""

    path: str
    token: str
    role: str = "client"


_current: Address | None = None
on_change: list[Callable[[], None]] = []
"""Called when the server changes: connections to the old one are of no more use."""


def set_address(address: Address | None) -> None:
    """From now on, speak to this server."""
    global _current
    _current = address
    for callback in on_change:
        callback()


_configured: Address | None = None


def configure(address: Address | None) -> None:
    """Use this server instead of starting one: for tests, which have theirs."""
    global _configured
    _configured = address


def configured() -> Address | None:
    """The server that was set."""
    return _configured


def address() -> Address:
    """The server to speak to; raises :class:`ConnectionError` when there is none."""
    if (here := inside()) is not None:
        return Address(here.socket, here.token, "container")
    if _current is None:
        show_without_our_frames()  # what is printed next may be this
        raise ConnectionError(
            "no app is running: call it inside `with app.run():`, or run the file with `greenroom run`"
        )
    return _current


def running() -> bool:
    """Whether there is a server to speak to."""
    return _current is not None or inside() is not None
