"""Modules that are imported when they are first used.

The SDK is imported in every container, most of which call nothing asynchronously and start no server: ``asyncio`` alone
would add 40 ms to their start.
"""

import importlib
from typing import Any


class Lazy:
    """Stands for a module until an attribute of it is wanted."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)
