"""Arguments and results between Python values and payloads."""

import pickle
import sys
from typing import Any

from greenroom.model import errors
from greenroom.model.errors import (
    ConnectionError,
    ContainerCrashed,
    Error,
    ExecutionError,
    FunctionTimeoutError,
    InputCancellation,
    RemoteError,
)
from greenroom.usercode.serialization import dump, load
from greenroom.wire.messages import Status
from greenroom.wire.payload import Descriptor, Payload, PayloadWriter, as_payload

_SMALL = 65536


class Limits:
    """What the server said in its welcome."""

    inline: int = 1024**2
    payload: int = 4 * 1024**3


limits = Limits()


def encode(value: Any, by_value: bool = False) -> Payload:
    """``value`` as it travels.

    Raises:
        SerializationError: it can't be pickled.
        RequestSizeError: it is larger than the server accepts.
    """
    return dump(value, lambda: PayloadWriter(limits.inline, limits.payload), by_value).payload()


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], by_value: bool) -> Payload:
    """One input. The plain pickler first, since nearly all arguments are small and plain."""
    if not by_value:
        for value in args:
            if sys.getsizeof(value) > _SMALL:
                return encode((args, kwargs))
        for value in kwargs.values():
            if sys.getsizeof(value) > _SMALL:
                return encode((args, kwargs))
        try:
            data = pickle.dumps((args, kwargs), 5)
        except Exception:  # noqa: BLE001 - whatever it was, the thorough way tells it properly
            return encode((args, kwargs))
        if len(data) <= limits.inline:
            return data
        if len(data) <= limits.payload:
            return as_payload(data, limits.inline)
    return encode((args, kwargs), by_value)


def decode(payload: Payload) -> Any:
    """The inverse of :func:`encode`; raises ``DeserializationError``."""
    if isinstance(payload, Descriptor):
        with payload.open() as file:
            return load(file)
    return load(payload)


def outcome(status: str, detail: str, payload: Payload) -> Any:
    """The value that an output stands for, or the exception, raised."""
    __tracebackhide__ = True
    if status == Status.OK:
        return decode(payload)
    raise failure(status, detail, payload)


def failure(status: str, detail: str, payload: Payload) -> BaseException:
    """The exception that an output stands for."""
    if status == Status.ERROR:
        from greenroom.usercode.exceptions import unpack_exception

        try:
            return unpack_exception(_bytes(payload))
        except Exception as error:  # noqa: BLE001 - what a container says of itself need not make sense
            return RemoteError(f"it raised something that can't be read here: {type(error).__name__}: {error}")
    if status == Status.TIMEOUT:
        return FunctionTimeoutError(detail)
    if status == Status.CANCELLED:
        return InputCancellation(detail or "the call was cancelled")
    if status == Status.CRASHED:
        return ContainerCrashed(detail)
    name, _, text = detail.partition(": ")
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, Error):
        return kind(text)
    return ExecutionError(detail)


def _bytes(payload: Payload) -> bytes:
    if isinstance(payload, bytes):
        return payload
    with payload.open() as file:
        return file.read()


def lost() -> ConnectionError:
    """Said where the server went away in the middle of a call."""
    from greenroom.sdk.resuming import server_returns

    left = "" if server_returns() else "; its containers run their exit hooks and end"
    return ConnectionError(f"the Greenroom server went away during the call{left}")
