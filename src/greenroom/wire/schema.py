"""How a message becomes a frame's header and is checked on arrival.

A message is a named tuple; its header is ``{"t": <kind>, <field>: <value>, …}``. Named tuples are as frozen and slotted
as dataclasses, and were measured against them since every cold start imports them: 0.13 ms a class against 0.63 ms.
"""

from collections.abc import Callable
from json import JSONDecoder, JSONEncoder, encoder
from typing import Any, NamedTuple, TypeVar, get_args, get_origin

from greenroom.model.errors import ProtocolError

T = TypeVar("T", bound=type)
Message = Any  # a NamedTuple registered below; NamedTuple itself is no type that mypy lets us bound by

_decode: Callable[[str, int], tuple[Any, int]] = getattr(JSONDecoder(), "scan_once")  # noqa: B009 - typeshed lacks it
_encoder = JSONEncoder(separators=(",", ":"), check_circular=False)
_string: Callable[[str], str] = getattr(encoder, "encode_basestring_ascii")  # noqa: B009 - as above
_make = getattr(encoder, "c_make_encoder", None)
# What JSONEncoder makes for each value; two thirds of a short one's time.
_chunks = _make and _make(None, _encoder.default, _string, None, ":", ",", False, False, True)


def _encode(value: Any) -> str:
    return "".join(_chunks(value, 0)) if _chunks is not None else _encoder.encode(value)


class _Schema(NamedTuple):
    kind: str
    construct: type[Any]
    keys: tuple[str, ...]
    allowed: tuple[tuple[type, ...], ...]
    known: set[tuple[type, ...]]
    """Types that the fields of some message had, and that are allowed."""
    before: tuple[str, ...]
    """What a header has before the value of each field."""


_by_kind: dict[str, _Schema] = {}
_by_type: dict[type, _Schema] = {}


def message(cls: T) -> T:
    """Register a named tuple as a message; its kind is the class's name."""
    fields = cls.__annotations__
    before = [f',"{name}":' for name in fields]
    if before:
        before[0] = f'{{"t":"{cls.__name__}"{before[0]}'
    allowed = tuple(_allowed(kind) for kind in fields.values())
    schema = _Schema(cls.__name__, cls, ("t", *fields), allowed, set(), tuple(before))
    _by_kind[schema.kind] = _by_type[cls] = schema
    return cls


def _allowed(annotation: Any) -> tuple[type, ...]:
    if args := get_args(annotation):
        if get_origin(annotation) in (list, dict):
            return (get_origin(annotation),)
        return tuple(kind for arg in args for kind in _allowed(arg))
    if annotation is float:
        return (float, int)
    return (type(None),) if annotation is None else (annotation,)


def message_types() -> dict[str, type]:
    """Every registered message type, by kind."""
    return {schema.kind: cls for cls, schema in _by_type.items()}


def to_json(value: Any) -> bytes:
    """As every header is written."""
    return _encode(value).encode()


def from_json(data: bytes) -> Any:
    """The inverse of :func:`to_json`; raises ValueError or RecursionError."""
    text = data.decode()
    try:
        value, end = _decode(text, 0)
    except StopIteration:
        raise ValueError("no JSON") from None
    if end != len(text):
        raise ValueError("more than JSON")
    return value


def encode_header(message: Message, sizes: list[int] | None = None) -> bytes:
    """The header of ``message``, with ``sizes`` in the place of its own where they are given."""
    schema = _by_type[type(message)]
    parts = []
    for before, value in zip(schema.before, message, strict=True):
        parts.append(before)
        kind = type(value)
        if kind is str:
            parts.append(_string(value))
        elif kind is int:
            parts.append(repr(value))
        elif kind is bool:
            parts.append("true" if value else "false")
        elif sizes is not None and before.endswith('"sizes":'):
            parts.append(f"[{sizes[0]}]" if len(sizes) == 1 else _encode(sizes))
        else:
            parts.append(_encode(value))
    if not parts:
        return f'{{"t":"{schema.kind}"}}'.encode()
    parts.append("}")
    return "".join(parts).encode()


def decode_header(header: bytes) -> Message:
    """The message that ``header`` describes.

    Raises:
        ProtocolError: it's no JSON object, of no known kind, or has fields that are missing, unknown or of a wrong type.
    """
    try:
        data = from_json(header)
    except (ValueError, RecursionError):
        raise ProtocolError(f"a frame's header is no JSON: {header[:40]!r}") from None
    if type(data) is not dict:
        raise ProtocolError(f"a frame's header is no JSON object: {header[:40]!r}")
    kind = data.get("t")
    schema = _by_kind.get(kind) if type(kind) is str else None
    if schema is None:
        raise ProtocolError(f"unknown message kind {kind!r}; are client and server of the same version?")
    if tuple(data) == schema.keys:  # as :func:`encode_header` has it, whose messages need no longer look
        values = tuple(data.values())[1:]
        if tuple(map(type, values)) in schema.known:
            return tuple.__new__(schema.construct, values)
    del data["t"]
    try:
        message = schema.construct(**data)
    except TypeError:
        raise ProtocolError(f"{kind} has the fields {sorted(data)}, not {list(schema.keys[1:])}") from None
    for value, allowed in zip(message, schema.allowed, strict=True):
        if type(value) not in allowed:
            raise ProtocolError(f"{kind} has a field that is {type(value).__name__}, not {allowed[0].__name__}")
    schema.known.add(tuple(map(type, message)))
    return message
