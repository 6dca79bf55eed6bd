"""Pickling arguments, results and definitions.

The standard pickler first; what it can't do, cloudpickle does, where it is importable (the client has it; a container
gets it when something was sent by value).
"""

import pickle
import sys
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from greenroom.model.errors import DeserializationError, Error, SerializationError


class Writer(Protocol):
    """Something to pickle into."""

    def write(self, data: Any, /) -> object:
        """Take bytes."""


W = TypeVar("W", bound=Writer)

PROTOCOL = 5


def dump(value: Any, new_writer: Callable[[], W], by_value: bool = False) -> W:
    """Pickle ``value`` into a fresh writer, which is returned.

    Args:
        by_value: the program has no file (a notebook): what it defined travels by value.

    Raises:
        SerializationError: it can't be pickled.
        Whatever the writer raises of Greenroom's own.
    """
    if not by_value:
        writer = new_writer()
        try:
            pickle.Pickler(writer, PROTOCOL).dump(value)
            return writer
        except Error:
            raise
        except Exception as error:  # noqa: BLE001 - user code may run, and raise anything, while it is pickled
            first: Exception | None = error
    else:
        first = None
    try:
        import cloudpickle
    except ImportError:
        if first is None:
            raise SerializationError("sending by value needs cloudpickle; pip install cloudpickle") from None
        raise SerializationError(_explain(value, first)) from first
    writer = new_writer()
    try:
        cloudpickle.Pickler(writer, PROTOCOL).dump(ByValue(value))
    except Error:
        raise
    except Exception as error:
        raise SerializationError(_explain(value, error)) from error
    return writer


class ByValue:
    """A value with code in it, which is one minor version's: as the value itself where it is loaded, and refused by another."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _by_value, (_Version(), self._value)


class _Version:
    """Comes before the value, and is looked at before any of that is loaded."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _check_version, (list(sys.version_info[:2]),)


def _check_version(version: list[int]) -> None:
    ours = list(sys.version_info[:2])
    if version != ours:
        there, here = (".".join(map(str, numbers)) for numbers in (version, ours))
        raise DeserializationError(
            f"a value arrived that has code of Python {there} in it, and here is {here}: use the same Python on both sides, or "
            "define what it is made of in a file"
        )


def _by_value(version: None, value: Any) -> Any:
    return value


def _explain(value: Any, error: Exception) -> str:
    """Which part it was, where that can be told."""
    part = _culprit(value)
    return f"{part} can't be pickled, so it can't travel: {error}"


def _culprit(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], tuple) and isinstance(value[1], dict):
        args, kwargs = value
        for index, argument in enumerate(args):
            if not _picklable(argument):
                return f"argument {index + 1} (a {type(argument).__name__})"
        for name, argument in kwargs.items():
            if not _picklable(argument):
                return f"argument {name!r} (a {type(argument).__name__})"
    return f"a {type(value).__name__}"


def _picklable(value: Any) -> bool:
    try:
        pickle.dumps(value, PROTOCOL)
    except Exception:  # noqa: BLE001 - any failure is the answer
        return False
    return True


def load(source: Any) -> Any:
    """Unpickle bytes, or a file.

    Raises:
        DeserializationError: a module or a name is missing here, or an object's own code failed.
    """
    try:
        return pickle.loads(source) if isinstance(source, bytes) else pickle.load(source)
    except DeserializationError:
        raise
    except ModuleNotFoundError as error:
        raise DeserializationError(
            f"a value arrived that needs the module {error.name!r}, which can't be imported here"
        ) from error
    except AttributeError as error:
        raise DeserializationError(f"a value arrived that needs what isn't here: {error}") from error
    except Exception as error:
        raise DeserializationError(
            f"a value arrived that can't be loaded here: {type(error).__name__}: {error}"
        ) from error
