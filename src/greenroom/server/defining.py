"""How an app gets a function: from the program that defines it, or from the store."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from greenroom.model.errors import Error
from greenroom.model.spec import FunctionSpec
from greenroom.server.pools import Function, Pool
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.core import Server


def add_function(
    server: "Server",
    app: "App",
    spec: FunctionSpec,
    definition: Payload,
    then: Callable[[dict[str, str], Error | None], None],
    sealed: str = "",
) -> None:
    """From now on it can be called; ``then`` is told the URLs of its web endpoints, by method, or why they can't be served.

    ``sealed``: see ``Function``.
    """
    function = Function(app, spec, definition, sealed)
    app.functions[spec.function_id] = server.functions[spec.function_id] = function
    function.refusal = server.machine.refuse(spec)
    if text := server.machine.mention(spec):
        app.say_once(text)
    if not (spec.is_class and spec.needs_binding):
        pool = function.pools[""] = Pool(function, b"", server.lifecycle)
        if spec.min_containers and not function.refusal:
            pool.scale()

    def served(urls: dict[str, str], error: Error | None) -> None:
        function.urls = urls
        then(urls, error)

    server.web.publish(function, served)
