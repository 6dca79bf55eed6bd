"""What is said of deployed apps. See ``messages.py``; apart, since few programs say it.

A deployed function is called by the id that :func:`deployed_id` makes of names: which version answers is the server's to say.
"""

from typing import Any, NamedTuple

from greenroom.wire.schema import message

DEPLOYED = "@"
"""How the ids begin that name a function of a deployed app, as ``@app/function``."""


def deployed_id(app: str, function: str) -> str:
    """The id to call it by."""
    return f"{DEPLOYED}{app}/{function}"


def names_of(function_id: str) -> tuple[str, str]:
    """The app's name and the function's, that such an id is made of."""
    app, _, function = function_id.removeprefix(DEPLOYED).rpartition("/")
    return app, function


@message
class CreateVersion(NamedTuple):
    """Begin a version of an app that is to be deployed; functions follow, as of any app. Until ``Deploy`` it ends with the
    connection. ``strategy``: ``rolling``, it takes the place of the version that answers as soon as it can, and that finishes what
    it has begun; ``recreate``, once that has ended."""

    rid: int
    app_id: str
    name: str
    strategy: str


@message
class Deploy(NamedTuple):
    """It is defined: let it take the place of the version that answers now. Answered then, with ``{"version": int}``."""

    rid: int
    app_id: str


@message
class ListApps(NamedTuple):
    """Answered with ``{"apps": [record, …]}``: the deployed ones, and those that run beside."""

    rid: int


@message
class ListVersions(NamedTuple):
    """Answered with ``{"versions": [record, …]}``, the latest first."""

    rid: int
    name: str


@message
class Rollback(NamedTuple):
    """Deploy an earlier version again; 0: the one before. Answered as ``Deploy`` is."""

    rid: int
    name: str
    version: int


@message
class StopDeployed(NamedTuple):
    """Stop an app, deployed or not, by name or id. Answered once it has ended."""

    rid: int
    name: str


@message
class UpdateAutoscaler(NamedTuple):
    """Change a function's numbers, until its next version: ``fields`` are those of a ``FunctionSpec``."""

    rid: int
    function_id: str
    fields: dict[str, Any]


@message
class GetStats(NamedTuple):
    """Answered with ``{"backlog": int, "containers": int}``: inputs that wait, containers that live."""

    rid: int
    function_id: str


@message
class Lookup(NamedTuple):
    """Answered with what can be called: ``{"is_class": bool, "methods": [[name, is_async, is_generator, url], …]}``."""

    rid: int
    app: str
    function: str


@message
class Detach(NamedTuple):
    """From now on the app goes on when its program has ended, until it has nothing to do any more; of a server that stays, and of
    those after it. Answered once that is kept."""

    rid: int
    app_id: str


@message
class Leave(NamedTuple):
    """Its program has ended: this connection, which may go on, follows the app no longer."""

    rid: int
    app_id: str
