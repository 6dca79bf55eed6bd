"""What can be read from a function's code, without ``inspect``, which is slow to import."""

from typing import Any

_VARARGS = 0x04
_VARKEYWORDS = 0x08
_COROUTINE = 0x80
_ASYNC_GENERATOR = 0x200
_GENERATOR = 0x20


def code_flags(function: Any) -> int:
    """The flags of a function's code; 0 for what has none."""
    while hasattr(function, "__wrapped__") and not hasattr(function, "__code__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    return code.co_flags if code is not None else 0


def is_async(function: Any) -> bool:
    """A coroutine function or an async generator function."""
    return bool(code_flags(function) & (_COROUTINE | _ASYNC_GENERATOR))


def is_generator(function: Any) -> bool:
    """A generator function, async or not."""
    return bool(code_flags(function) & (_GENERATOR | _ASYNC_GENERATOR))


def required_parameters(function: Any, skip: int = 0) -> list[str]:
    """Names of the parameters without defaults, after the first ``skip``."""
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    positional = list(code.co_varnames[: code.co_argcount])
    defaults = len(function.__defaults__ or ())
    required = positional[skip : len(positional) - defaults]
    keyword = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return [*required, *(name for name in keyword if name not in (function.__kwdefaults__ or {}))]


def parameters_after(count: int, function: Any) -> list[str]:
    """Names of all parameters after the first ``count``, with defaults or without, ``*args`` and ``**kwargs`` included."""
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    plain = code.co_argcount + code.co_kwonlyargcount
    found = list(code.co_varnames[:plain])[count:]
    if hasattr(function, "__wrapped__"):
        return found  # a decorator's function takes whatever the one below may take
    rest = iter(code.co_varnames[plain:])
    if code.co_flags & _VARARGS:
        found.append(f"*{next(rest)}")
    if code.co_flags & _VARKEYWORDS:
        found.append(f"**{next(rest)}")
    return found
