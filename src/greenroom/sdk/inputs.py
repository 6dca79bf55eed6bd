"""What a ``.map()`` is over: iterables of arguments, synchronous or not."""

from collections.abc import AsyncIterator, Iterator
from itertools import repeat
from typing import Any

from greenroom.model.errors import InvalidError

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_PLAIN = frozenset({
    list, tuple, range, set, frozenset, dict, str, bytes, bytearray,
    type({}.keys()), type({}.values()), type({}.items()),
})  # fmt: skip


class Inputs:
    """The inputs of one map.

    Args:
        name: of the function and its method, for messages.
        iterables: as the user gave them.
        kwargs: keyword arguments that all inputs share.
        star: the elements of the one iterable are tuples of arguments.
    """

    def __init__(
        self, name: str, iterables: tuple[Any, ...], kwargs: dict[str, Any] | None, star: bool = False
    ) -> None:
        self.name = name
        self._iterables = iterables
        self._kwargs = kwargs or {}
        self._star = star
        if not iterables:
            raise InvalidError(f"{name}() needs an iterable of inputs")
        for iterable in iterables:
            if not any(hasattr(iterable, way) for way in ("__iter__", "__aiter__", "__getitem__")):
                raise InvalidError(f"{name}() needs iterables of inputs; a {type(iterable).__name__} is none")
        self.plain = all(type(iterable) in _PLAIN for iterable in iterables)
        """Whether to iterate costs no time: over anything else it may block."""

    def total(self) -> int | None:
        """How many there are, where that can be known."""
        try:
            return min(len(iterable) for iterable in self._iterables)
        except Exception:  # noqa: BLE001 - a user's own __len__
            return None

    def __iter__(self) -> Iterator[Arguments]:
        for iterable in self._iterables:
            if hasattr(iterable, "__aiter__") and not hasattr(iterable, "__iter__"):
                raise InvalidError(
                    f"{self.name}() was given an async iterable, which only async code can read: "
                    f"use `async for`, or {self.name}.aio(…)"
                )
        if self._star:
            return zip(map(tuple, self._iterables[0]), repeat(self._kwargs))
        return zip(zip(*self._iterables, strict=False), repeat(self._kwargs))

    @property
    def asynchronous(self) -> bool:
        """Whether ``async for`` is how to iterate, where that is possible."""
        several = len(self._iterables) > 1
        if several and any(not hasattr(iterable, "__iter__") for iterable in self._iterables if _is_async(iterable)):
            raise InvalidError(f"{self.name}() takes one async iterable, or any number of others")
        return not several and _is_async(self._iterables[0])

    async def __aiter__(self) -> AsyncIterator[Arguments]:
        async for value in self._iterables[0]:
            yield (tuple(value) if self._star else (value,)), self._kwargs


def _is_async(iterable: Any) -> bool:
    return hasattr(iterable, "__aiter__")
