"""From what a module holds under a name (a decorated object of the SDK's) to what the user wrote."""

from collections.abc import Callable
from typing import Any

from greenroom.model.errors import ExecutionError


def raw_class(found: Any) -> type:
    """The user's class behind ``@app.cls``."""
    raw = getattr(found, "__greenroom_raw__", found)
    if not isinstance(raw, type):
        raise ExecutionError(f"{found!r} is no class inside the container")
    return raw


def raw_function(found: Any) -> Callable[..., Any]:
    """The user's function behind ``@app.function``."""
    raw: Any = getattr(found, "__greenroom_raw__", found)
    if not callable(raw):
        raise ExecutionError(f"{found!r} is no function inside the container")
    return raw  # type: ignore[no-any-return]
