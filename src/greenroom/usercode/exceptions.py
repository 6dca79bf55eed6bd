"""Exceptions as bytes and back: type, text, notes, causes, and the user's frames of the other process.

Imported only when something has failed.
"""

import pickle
import sys
import traceback
from opcode import opmap
from types import CodeType, FrameType, TracebackType
from typing import Any

from greenroom.model.errors import RemoteError
from greenroom.model.versions import group, parts_of_group, qualname
from greenroom.usercode.frames import at_home, is_event_loop, is_ours
from greenroom.usercode.serialization import PROTOCOL, ByValue

_Frame = tuple[str, int, str, int]
"""File, line, qualified name, first line of the code."""


def pack_exception(error: BaseException) -> bytes:
    """An exception as it travels."""
    try:
        packed = _pack(error, set())
    except Exception as failed:  # noqa: BLE001 - the user's own attributes, of whatever kind
        packed = _pack(
            RemoteError(f"{_type_name(type(error))}: {_text(error)} (and can't be sent whole: {failed!r})"), set()
        )
    return pickle.dumps(packed, PROTOCOL)


def _pack(error: BaseException, seen: set[int]) -> dict[str, Any]:
    seen.add(id(error))
    packed: dict[str, Any] = {
        "type": _type_name(type(error)),
        "text": _text(error),
        "frames": [_packed_frame(step, file) for step, file in _visible(error)],
        "notes": _notes(error),
        "pickle": _try_pickle(error),
        "suppress": error.__suppress_context__,
    }
    for name in ("__cause__", "__context__"):
        other = getattr(error, name)
        if other is not None and id(other) not in seen:
            packed[name] = _pack(other, seen)
    if (parts := parts_of_group(error)) is not None:
        packed["message"] = parts[0]
        packed["group"] = [_pack(member, seen) for member in parts[1]]
    return packed


def _packed_frame(step: TracebackType, file: str) -> _Frame:
    code = step.tb_frame.f_code
    return file, step.tb_lineno, qualname(code), code.co_firstlineno


def _notes(error: BaseException) -> list[str]:
    """What ``traceback`` would print of them: anything can be assigned to ``__notes__``."""
    notes = getattr(error, "__notes__", [])
    return [_text(note) for note in notes] if isinstance(notes, list | tuple) else [_text(notes)]


def _type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: Any) -> str:
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001 - the user's own __str__
        return f"<its text can't be had: {failed!r}>"


def _try_pickle(error: BaseException) -> bytes | None:
    """The exception itself, if it survives a round trip."""
    for name in ("pickle", "cloudpickle"):
        try:
            module = __import__(name)
            data: bytes = module.dumps(ByValue(error) if name == "cloudpickle" else error, PROTOCOL)
            if isinstance(pickle.loads(data), type(error)):
                return data
        except Exception:  # noqa: BLE001, S112 - what can't be pickled travels as its text
            continue
    return None


def unpack_exception(data: bytes) -> BaseException:
    """The exception, with its causes and with a traceback of the other process's frames."""
    error = _unpack(pickle.loads(data))
    if not isinstance(error, Exception):
        error.__greenroom_remote__ = True  # type: ignore[attr-defined]
    return error


def is_remote(error: BaseException) -> bool:
    """Whether a ``SystemExit`` or ``KeyboardInterrupt`` comes from a container: it asks for the end of nothing here."""
    return getattr(error, "__greenroom_remote__", False)


def _unpack(packed: dict[str, Any]) -> BaseException:
    error = _remade(packed)
    if packed["notes"] and not isinstance(getattr(error, "__notes__", None), list):
        setattr(error, "__notes__", packed["notes"])  # noqa: B010 - 3.10 has no such attribute
    error.__traceback__ = make_traceback(packed["frames"])
    for name in ("__cause__", "__context__"):
        if name in packed:
            setattr(error, name, _unpack(packed[name]))
    error.__suppress_context__ = packed["suppress"]
    return error


def _remade(packed: dict[str, Any]) -> BaseException:
    """The exception itself. A group is made anew of its members: each has causes and a traceback of its own."""
    text = f"{packed['type']}: {packed['text']}" if packed["text"] else packed["type"]
    if packed["type"] in ("ExceptionGroup", "BaseExceptionGroup"):
        return _group(packed["message"], packed) or RemoteError(text)
    try:
        loaded = pickle.loads(packed["pickle"]) if packed["pickle"] is not None else None
    except Exception:  # noqa: BLE001 - its type isn't here
        loaded = None
    if isinstance(loaded, BaseException):
        if (parts := parts_of_group(loaded)) is not None:
            for member, inner in zip(parts[1], packed["group"], strict=False):
                member.__traceback__ = make_traceback(inner["frames"])
        return loaded
    return ("group" in packed and _group(text, packed)) or RemoteError(text)


def _group(message: str, packed: dict[str, Any]) -> BaseException | None:
    return group(message, [_unpack(member) for member in packed["group"]])


def make_traceback(frames: list[_Frame]) -> TracebackType | None:
    """A traceback of frames that ran elsewhere; printing it shows file, line, name and, where the file is here, source."""
    made: TracebackType | None = None
    for frame in reversed(frames):
        made = TracebackType(made, _frame(frame), _RAISE, frame[1])
    return made


class _FrameMade(Exception):
    pass


_template = compile("raise made", "<remote>", "exec")
# Debuggers and notebooks look up the instruction that a traceback names; there must be one.
_RAISE = next(at for at in range(0, len(_template.co_code), 2) if _template.co_code[at] == opmap["RAISE_VARARGS"])


def _all_in_line(line: int) -> bytes:
    """A table of locations (``Objects/locations.md`` of CPython, entries of kind 13; of 3.10, ``Objects/lnotab_notes.txt``) that
    has all of the template's code so many lines after the first, in no column."""
    if sys.version_info < (3, 11):
        step = 127 if line >= 0 else -127
        count, rest = divmod(abs(line), 127)
        return bytes([0, step & 255]) * count + bytes([len(_template.co_code), (rest if line >= 0 else -rest) & 255])
    delta, table = line << 1 if line >= 0 else (-line << 1) | 1, b""
    for start in range(0, len(_template.co_code) // 2, 8):
        table += bytes([0x80 | 13 << 3 | min(8, len(_template.co_code) // 2 - start) - 1])
        while delta >= 64:
            table, delta = table + bytes([delta & 63 | 64]), delta >> 6
        table, delta = table + bytes([delta]), 0
    return table


def _frame(frame: _Frame) -> FrameType:
    filename, line, name, first = frame
    code: CodeType = _template.replace(
        co_filename=filename,
        co_name=name.rpartition(".")[2],
        co_firstlineno=first,
        co_linetable=_all_in_line(line - first),
    )
    if sys.version_info >= (3, 11):
        code = code.replace(co_qualname=name)
    try:
        exec(code, {"made": _FrameMade(), "__file__": filename, "__name__": name})  # noqa: S102 - our own two words
    except _FrameMade as carrier:
        step = carrier.__traceback__
        assert step is not None and step.tb_next is not None
        return step.tb_next.tb_frame
    raise AssertionError


def hide_own_frames(error: BaseException) -> None:
    """Take Greenroom's own frames out of the tracebacks of an exception and of its causes; files as they are at home."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        kept: TracebackType | None = None
        for step, file in reversed(_visible(current)):
            frame, line = step.tb_frame, step.tb_lineno
            if file == frame.f_code.co_filename:
                kept = TracebackType(kept, frame, step.tb_lasti, line)
            else:
                kept = TracebackType(kept, _frame(_packed_frame(step, file)), _RAISE, line)
        current.__traceback__ = kept
        pending += [current.__cause__, current.__context__]
        if (parts := parts_of_group(current)) is not None:
            pending += parts[1]


def _visible(error: BaseException) -> list[tuple[TracebackType, str]]:
    """The user's own steps of a traceback, each with its file at home. What led to the first of them is left out too."""
    found: list[tuple[TracebackType, str]] = []
    step = error.__traceback__
    while step is not None:
        filename = step.tb_frame.f_code.co_filename
        if not is_ours(filename) and (found or not is_event_loop(filename)):
            found.append((step, at_home(filename)))
        step = step.tb_next
    return found


def print_exception(error: BaseException, heading: str) -> None:
    """On stderr, as Python prints it, without our frames."""
    hide_own_frames(error)
    print(heading, file=sys.stderr)
    traceback.print_exception(error)
