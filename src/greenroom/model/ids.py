"""Ids: a prefix that says what it names, and 64 unguessable bits.

``ap-`` app, ``fu-`` function or class, ``fc-`` function call, ``in-`` input, ``ta-`` container, ``sv-`` server.
"""

import itertools
import os

_stem = os.urandom(8).hex()
_count = itertools.count(1)


def new_id(prefix: str) -> str:
    """A fresh id such as ``ap-9f3c…``; every one comes from the kernel's random source."""
    return f"{prefix}-{os.urandom(8).hex()}"


def new_call_id() -> str:
    """A fresh ``fc-`` id; cheaper than :func:`new_id`, since every call needs one: random stem, then a count."""
    return f"fc-{_stem}{next(_count):x}"


def input_id(call_id: str, index: int) -> str:
    """The id of a call's input: ``in-<call>:<index>``."""
    return f"in-{call_id[3:]}:{index}"


def _renew_stem() -> None:
    global _stem
    _stem = os.urandom(8).hex()


os.register_at_fork(after_in_child=_renew_stem)
