"""What type checkers see of a function's ways to be called: what a coroutine function returns, they return awaited.

Overloads of a decorator can't say it: the one for coroutine functions would take every generic function too. At run time
each is a plain property.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from greenroom.sdk.bridge import Blocking, BlockingIterator
    from greenroom.sdk.function import Function
    from greenroom.sdk.function_call import FunctionCall

    P = ParamSpec("P")
    X = TypeVar("X")
    _Async = Function[P, Coroutine[Any, Any, X], Any]
    _Plain = Function[P, X, Any]

    class _Property:
        def __init__(self, get: Callable[[Any], Any]) -> None: ...

    class OneResult(_Property):
        """``remote``."""

        @overload
        def __get__(self, function: _Async[P, X], owner: Any = None) -> Blocking[P, X]: ...
        @overload
        def __get__(self, function: _Plain[P, X], owner: Any = None) -> Blocking[P, X]: ...
        def __get__(self, function: Any, owner: Any = None) -> Any: ...

    class OneHandle(_Property):
        """``spawn``."""

        @overload
        def __get__(self, function: _Async[P, X], owner: Any = None) -> Blocking[P, FunctionCall[X]]: ...
        @overload
        def __get__(self, function: _Plain[P, X], owner: Any = None) -> Blocking[P, FunctionCall[X]]: ...
        def __get__(self, function: Any, owner: Any = None) -> Any: ...

    class ManyResults(_Property):
        """``map`` and ``starmap``."""

        @overload
        def __get__(self, function: _Async[P, X], owner: Any = None) -> BlockingIterator[..., X]: ...
        @overload
        def __get__(self, function: _Plain[P, X], owner: Any = None) -> BlockingIterator[..., X]: ...
        def __get__(self, function: Any, owner: Any = None) -> Any: ...

    class ManyHandles(_Property):
        """``spawn_map``."""

        @overload
        def __get__(self, function: _Async[P, X], owner: Any = None) -> Blocking[..., FunctionCall[X]]: ...
        @overload
        def __get__(self, function: _Plain[P, X], owner: Any = None) -> Blocking[..., FunctionCall[X]]: ...
        def __get__(self, function: Any, owner: Any = None) -> Any: ...

    class Yielded(_Property):
        """``remote_gen``."""

        @overload
        def __get__(self, function: Function[P, Iterator[X], Any], owner: Any = None) -> BlockingIterator[P, X]: ...
        @overload
        def __get__(
            self, function: Function[P, AsyncIterator[X], Any], owner: Any = None
        ) -> BlockingIterator[P, X]: ...
        @overload
        def __get__(self, function: Function[P, Any, Any], owner: Any = None) -> BlockingIterator[P, Any]: ...
        def __get__(self, function: Any, owner: Any = None) -> Any: ...

else:
    OneResult = OneHandle = ManyResults = ManyHandles = Yielded = property
