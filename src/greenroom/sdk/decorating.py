"""What ``@app.function(…)`` gives, waiting for its function."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from greenroom.model.errors import InvalidError
from greenroom.sdk.function import Function
from greenroom.sdk.options import Options

if TYPE_CHECKING:
    from greenroom.sdk.app import App

P = ParamSpec("P")
R = TypeVar("R")


class FunctionDecorator:
    """``@app.function(…)``, waiting for its function; typed so that ``.remote`` keeps the function's own types."""

    def __init__(self, app: "App", options: Options) -> None:
        self._app = app
        self._options = options

    def __call__(self, function: Callable[P, R]) -> Function[P, R, R]:
        return cast("Function[P, R, R]", self._app._add_function(function, self._options))


def needs_parentheses(decorator: str, args: tuple[Any, ...]) -> None:
    """Raise InvalidError where a decorator was given what it is to decorate."""
    if args:
        raise InvalidError(f"@app.{decorator} lacks its parentheses: write @app.{decorator}()")
