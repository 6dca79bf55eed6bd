"""Where this code runs: on the user's machine, or inside a container, and for which input."""

from contextvars import ContextVar
from typing import Any, NamedTuple

from greenroom.model.ids import input_id


class Inside(NamedTuple):
    """What code inside a container may know of it."""

    container_id: str
    app_id: str
    socket: str
    """Path of the server's socket."""
    token: str
    main_module: str
    """The name under which the program's ``__main__`` is imported here; ``""``: under its own."""
    outlives: bool = False
    """It goes on without its server, until the next one is there."""
    deployed: bool = False
    """Its app is: another version may run what it calls, with other defaults."""


class Own(NamedTuple):
    """What this container serves."""

    app: Any
    """The App of its function or class; None where the definition came by value, without it."""
    instance: Any
    """Of its class; None for a function."""
    binding: bytes
    """The constructor's arguments, as they came."""
    only: str = ""
    """The id of its function or class, where no other container of that may run beside it, nor a second input in it."""


_inside: Inside | None = None
_own = Own(None, None, b"")
current_input: ContextVar[tuple[str, int] | None] = ContextVar("greenroom_input", default=None)
"""Call and index of the input that runs in this context."""


def enter_container(inside: Inside) -> None:
    """Said once by the agent, before any user code is imported."""
    global _inside
    _inside = inside


def inside() -> Inside | None:
    """The container that this process is, if it is one."""
    return _inside


def set_own(own: Own) -> None:
    """Said by the agent, once before the user's code is constructed, and again after."""
    global _own
    _own = own


def own() -> Own:
    """What this container serves; nothing, anywhere else."""
    return _own


def is_local() -> bool:
    """Whether this code runs on the caller's machine, rather than inside a container."""
    return _inside is None


def current_input_id() -> str | None:
    """The id of the input that runs now (``in-…``); None outside of one."""
    found = current_input.get()
    return input_id(*found) if found is not None else None


def current_function_call_id() -> str | None:
    """The id of the call that the current input belongs to (``fc-…``); None outside of one."""
    found = current_input.get()
    return found[0] if found is not None else None


class StopImport(BaseException):
    """Raised by ``with app.run():`` inside a container: what follows is the program's, and it runs at home alone."""
