"""Ids: a prefix that says what it names, and 64 unguessable bits.

``ap-`` app, ``fu-`` function or class, ``fc-`` function call, ``in-`` input, ``ta-`` container, ``sv-`` server.
"""

import os
import time

BUILD = "build"
"""How the ids begin of containers that make layers."""


def new_id(prefix: str) -> str:
    """A fresh id such as ``ap-9f3c…``; every one comes from the kernel's random source."""
    return f"{prefix}-{os.urandom(8).hex()}"


def new_call_id() -> str:
    """A fresh ``fc-`` id. A container learns those of the calls that it runs, and must guess none of the others from them.

    It begins with the time, in milliseconds: what is kept of calls that come together lies together, and few pages of the
    database change.
    """
    return f"fc-{time.time_ns() // 1_000_000:012x}{os.urandom(8).hex()}"


def input_id(call_id: str, index: int) -> str:
    """The id of a call's input: ``in-<call>:<index>``."""
    return f"in-{call_id[3:]}:{index}"
