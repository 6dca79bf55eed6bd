"""The function of a program that ``greenroom run`` calls."""

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

from greenroom.model.errors import InvalidError

P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class LocalEntrypoint(Generic[P, R]):
    """What ``@app.local_entrypoint()`` makes of a function; it can still be called as one."""

    def __init__(self, function: Callable[P, R], name: str) -> None:
        if not callable(function) or isinstance(function, type):
            raise InvalidError("@app.local_entrypoint goes on a function")
        self.function = function
        self.name = name
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"LocalEntrypoint({self.name})"
