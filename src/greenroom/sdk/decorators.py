"""``@method()`` with the types that an editor and mypy see: what ``Model().predict.remote(…)`` takes and returns."""

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from greenroom.sdk.function import Function
from greenroom.usercode import hooks

P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L")


class BoundLater(Generic[P, R, L]):
    """A method as its class body has it; of an instance, a :class:`Function`. (At run time: ``hooks.Method``.)"""

    def __get__(self, instance: Any, owner: type | None = None) -> Function[P, R, L]:
        raise NotImplementedError


class _Decorator:
    def __call__(self, function: Callable[Concatenate[Any, P], R]) -> BoundLater[P, R, R]:
        raise NotImplementedError


def method(*args: Any, is_generator: bool | None = None, **unknown: Any) -> _Decorator:
    """Make a method of a class callable from afar: ``Model().predict.remote(x)``.

    Raises:
        InvalidError: without parentheses, on a lifecycle hook, on a web endpoint.
    """
    return cast("_Decorator", hooks.method(*args, is_generator=is_generator, **unknown))
