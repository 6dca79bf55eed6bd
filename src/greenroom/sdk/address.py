"""Which server this process speaks to: its container's, one that was set, one on another machine that the environment or a
profile names, the one that stays here, or that ``app.run()`` started.
"""

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from greenroom.model.errors import ConnectionError, InvalidError
from greenroom.sdk.tracebacks import show_without_our_frames
from greenroom.usercode.context import inside
from greenroom.wire.connection import connect

if TYPE_CHECKING:
    from greenroom.wire.far import Far

OWN, LOCAL = "own", "local"
"""What ``GREENROOM_SERVER`` says for one that ends with its program, and for the one that stays on this machine."""


class Address(NamedTuple):
    """Where a server listens, and how to be let in."""

    path: str
    """Of a Unix socket; ``""``: it is on another machine."""
    token: str
    role: str = "client"
    far: "Far | None" = None
    """Where, on another machine."""

    def __str__(self) -> str:
        return str(self.far or self.path)

    def connect(self) -> socket.socket:
        """A stream socket that leads there.

        Raises:
            ConnectionError: it can't be reached.
            AuthError: it is another one than is meant.
        """
        if self.far is None:
            return connect(self.path)
        from greenroom.wire.far import connect_far

        return connect_far(self.far)


_current: Address | None = None
_own = False
on_change: list[Callable[[], None]] = []
"""Called when the server changes: connections to the old one are of no more use."""


def set_address(address: Address | None, *, own: bool = False) -> None:
    """From now on, speak to this server. ``own``: it ends with this process's apps."""
    global _current, _own
    before, _current, _own = _effective(), address, own
    _maybe_changed(before)


def _effective() -> Address | None:
    if _current is not None and not _own and _current.far is None and _configured is None:
        there = standing()  # this program's, unless that was started again: then it has another token
        return there if there is not None and there.path == _current.path else _current
    return _current or _configured or chosen() or standing()


def _maybe_changed(before: Address | None) -> None:
    if _effective() != before:
        for callback in on_change:
            callback()


_configured: Address | None = None


def configure(address: Address | None) -> None:
    """Use this server instead of starting one: for tests, which have theirs."""
    global _configured
    before, _configured = _effective(), address
    _maybe_changed(before)


def configured() -> Address | None:
    """The server that was set."""
    return _configured


def standing() -> Address | None:
    """The server that stays, where this user has one: asked anew each time, since it may have been started again."""
    from greenroom.model.settings import home_directory  # these take their time, and few programs ask
    from greenroom.model.standing import find

    found = find(home_directory())
    return Address(found.socket, found.token) if found is not None else None


def may_return() -> bool:
    """Whether the server, should it die, may be started again: it is the one that stays."""
    return _configured is None and not _own


def chosen() -> Address | None:
    """The one on another machine that ``GREENROOM_SERVER`` names, or the active profile; None: none does.

    Raises:
        InvalidError: what names it makes no sense; the message says where that stands, and what to write instead.
    """
    said = os.environ.get("GREENROOM_SERVER", "")
    if said in (OWN, LOCAL):
        return None
    if ":" not in said:
        from greenroom.sdk import profiles

        return profiles.address_of(said)
    from greenroom.wire.far import Far, check_fingerprint, read_address

    host, port = read_address("GREENROOM_SERVER", said)
    if not (token := os.environ.get("GREENROOM_TOKEN", "")):
        raise InvalidError(
            f"GREENROOM_SERVER={said} needs a token in GREENROOM_TOKEN: `greenroom token create --client NAME` on that machine makes "
            "one"
        )
    pinned = os.environ.get("GREENROOM_FINGERPRINT", "")
    return Address("", token, far=Far(host, port, pinned and check_fingerprint("GREENROOM_FINGERPRINT", pinned)))


def wants_its_own() -> bool:
    """Whether apps that run are not to use the server that stays: so was said, or what only a server of their own can give."""
    said = os.environ.get
    return (
        said("GREENROOM_SERVER") == OWN
        or said("GREENROOM_SANDBOX", "") not in ("", "auto")
        or bool(said("GREENROOM_RUNTIME"))
    )


def address() -> Address:
    """The server to speak to; raises :class:`ConnectionError` when there is none."""
    if (here := inside()) is not None:
        return Address(here.socket, here.token, "container")
    found = _effective()
    if found is None:
        show_without_our_frames()  # what is printed next may be this
        raise ConnectionError(
            "no app is running: call it inside `with app.run():`, or run the file with `greenroom run`; "
            "deployed apps answer once `greenroom server` runs"
        )
    return found
