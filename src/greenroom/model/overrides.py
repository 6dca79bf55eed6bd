"""Options of a deployed class that a caller changes for itself: ``Cls.from_name(…).with_options(…)``.

They are a part of the name that it calls the class by, as ``Model?cpu=2.0&timeout=30.0``: so nothing has to be told to the server
before, and a call means the same after a restart, or of the next version.
"""

import math
import re
from collections.abc import Callable
from json import dumps, loads
from typing import Any

from greenroom.model.spec import RetrySpec

MARK = "?"
"""What stands between a class's name and its options."""
_LONGEST = 500
"""Characters of all of them."""


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value < 2**31


def _number(value: Any, *, above: bool = False) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and (value > 0 if above else value >= 0) and value < 1e9


def _seconds(value: Any) -> bool:
    return _number(value, above=True)


def _retries(value: Any) -> bool:
    if type(value) is not list or len(value) != 4 or not _whole(0)(value[0]) or not all(map(_number, value[1:])):
        return False
    return bool(value[0] <= 10 and value[1] <= 60 and 1 <= value[2] <= 10 and value[3] <= 60)


def _gpu(value: Any) -> bool:
    return type(value) is str and re.fullmatch(r"[A-Za-z0-9:,._-]{0,60}", value) is not None


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "batch_size": _whole(1),
    "batch_wait": _number,
    "buffer_containers": _whole(0),
    "cpu": _number,
    "cpu_limit": _number,
    "gpu": _gpu,
    "max_containers": _whole(1),
    "max_inputs": _whole(1),
    "memory": _whole(0),
    "memory_limit": _whole(0),
    "retries": _retries,
    "scaledown_window": _seconds,
    "startup_timeout": _seconds,
    "target_inputs": _whole(0),
    "timeout": _seconds,
}
FIELDS = frozenset(_CHECKS)
"""Fields of a ``FunctionSpec`` that may be changed so."""


def write(fields: dict[str, Any]) -> str:
    """What stands behind the mark, always the same of the same; ``fields``: of a ``FunctionSpec``."""
    return "&".join(f"{name}={dumps(fields[name], separators=(',', ':'))}" for name in sorted(fields))


def read(text: str) -> dict[str, Any]:
    """The inverse of :func:`write`, as fields of a ``FunctionSpec``. Raises ValueError where it can't have been written so."""
    fields: dict[str, Any] = {}
    for pair in text.split("&") if len(text) <= _LONGEST else []:
        name, _, value = pair.partition("=")
        check = _CHECKS.get(name)
        try:
            fields[name] = loads(value)
        except RecursionError:
            raise ValueError(name) from None
        if check is None or not check(fields[name]):
            raise ValueError(f"{pair[:60]!r} is no option of a deployed class")
    if not fields or write(fields) != text:
        raise ValueError("these are no options of a deployed class")
    if "retries" in fields:
        fields["retries"] = RetrySpec(*fields["retries"])
    return fields
