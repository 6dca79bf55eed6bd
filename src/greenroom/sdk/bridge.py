"""One method for sync and async callers alike.

``f.remote(x)`` blocks; called straight from an ``async def`` it returns a coroutine, so that ``await f.remote(x)`` works
as the guide prints it. ``f.remote.aio(x)`` is a coroutine whoever calls.
"""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from types import FrameType
from typing import Any, Generic, ParamSpec, TypeVar

from greenroom.model.errors import InvalidError

P = ParamSpec("P")
R = TypeVar("R", covariant=True)

_COROUTINE_CODE = 0x80 | 0x200  # CO_COROUTINE | CO_ASYNC_GENERATOR
_SEE_THROUGH = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>"})


def called_from_coroutine(depth: int) -> bool:
    """Whether the frame ``depth`` above the caller's is coroutine code; comprehensions and lambdas are seen through."""
    frame: FrameType | None = sys._getframe(depth + 1)
    while frame is not None and frame.f_code.co_name in _SEE_THROUGH:
        frame = frame.f_back
    return frame is not None and bool(frame.f_code.co_flags & _COROUTINE_CODE)


class Blocking(Generic[P, R]):
    """A method that blocks, and its coroutine as ``.aio``."""

    __slots__ = ("_sync", "aio")

    def __init__(self, sync: Callable[P, R], aio: Callable[P, Coroutine[Any, Any, R]]) -> None:
        self._sync = sync
        self.aio = aio

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        if called_from_coroutine(1):
            return self.aio(*args, **kwargs)  # type: ignore[return-value]
        return self._sync(*args, **kwargs)


_TAKEN = (
    "these results have been taken already, and taking them again would run every input again: "
    "keep them in a list, or make the call once more"
)


class Both(Generic[R]):
    """Something to iterate over once, with ``for`` or with ``async for``. Nothing begins before it is iterated."""

    def __init__(
        self, sync: Callable[[], Generator[R, None, None]], aio: Callable[[], AsyncGenerator[R, None]]
    ) -> None:
        self._sync = sync
        self._aio = aio
        self._iterator: Generator[R, None, None] | None = None
        self._async_iterator: AsyncGenerator[R, None] | None = None

    def __iter__(self) -> Iterator[R]:
        if self._async_iterator is not None or (self._iterator is not None and _over(self._iterator)):
            raise InvalidError(_TAKEN)
        return self._begun()

    def __next__(self) -> R:
        __tracebackhide__ = True
        return next(self._begun())

    def close(self) -> None:
        """End it, and cancel what still runs for it; as a generator's."""
        self._begun().close()

    async def aclose(self) -> None:
        """As :meth:`close`, in a coroutine; as an asynchronous generator's."""
        await self._begun_async().aclose()

    def _begun(self) -> Generator[R, None, None]:
        if self._iterator is None:
            self._iterator = self._sync()
        return self._iterator

    def __aiter__(self) -> AsyncIterator[R]:
        begun = self._async_iterator
        if self._iterator is not None or (begun is not None and _over(begun)):
            raise InvalidError(_TAKEN)
        return self._begun_async()

    async def __anext__(self) -> R:
        return await anext(self._begun_async())

    def _begun_async(self) -> AsyncGenerator[R, None]:
        if self._async_iterator is None:
            self._async_iterator = self._aio()
        return self._async_iterator


def _over(generator: object) -> bool:
    frame = "gi_frame" if hasattr(generator, "gi_frame") else "ag_frame"
    return getattr(generator, frame) is None


class BlockingIterator(Generic[P, R]):
    """A method that returns something to iterate over; ``.aio`` is for symmetry, both serve both."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[P, Both[R]]) -> None:
        self._make = make

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Both[R]:
        return self._make(*args, **kwargs)

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        """For ``async for``."""
        return self._make(*args, **kwargs).__aiter__()
