"""What Python 3.10, the oldest that a container may run on, lacks of newer ones.

Type checkers know ``sys.version_info``: ``make check`` reads what goes into a container as 3.10 does, too.
"""

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

__all__ = ["StrEnum", "add_note", "dataclass_transform", "group", "parts_of_group", "qualname"]

T = TypeVar("T")

if sys.version_info >= (3, 11):
    from enum import StrEnum
    from typing import dataclass_transform
else:
    from enum import Enum

    class StrEnum(str, Enum):
        """Members are text."""

        __str__ = str.__str__

        def __format__(self, format_spec: str) -> str:
            return str.__format__(self, format_spec)

    def dataclass_transform(**told: Any) -> Callable[[T], T]:
        """It tells type checkers alone."""
        return lambda decorated: decorated


def qualname(code: CodeType) -> str:
    """A code object's qualified name; its bare one where it doesn't know that."""
    if sys.version_info >= (3, 11):
        return code.co_qualname
    return code.co_name


def add_note(error: BaseException, note: str) -> None:
    """As ``error.add_note(note)``; what prints it may not know of notes."""
    if sys.version_info >= (3, 11):
        error.add_note(note)
    else:
        error.__dict__.setdefault("__notes__", []).append(note)


def parts_of_group(error: BaseException) -> tuple[str, tuple[BaseException, ...]] | None:
    """Message and members of an exception group; None: it is none."""
    if sys.version_info >= (3, 11) and isinstance(error, BaseExceptionGroup):  # noqa: F821 - guarded
        return error.message, error.exceptions
    return None


def group(message: str, members: list[BaseException]) -> BaseException | None:
    """An exception group; None: there are none here."""
    if sys.version_info >= (3, 11):
        return BaseExceptionGroup(message, members)  # noqa: F821 - guarded
    return None
