"""Versions that were being replaced when the last server died: their containers finish what they have begun under this one."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from greenroom.model.spec import FunctionSpec
from greenroom.server.pools import Function, Pool
from greenroom.server.versions import kept_spec
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from sqlite3 import Connection

    from greenroom.server.core import Server
    from greenroom.server.store.versions import VersionRow


class _Replaced(NamedTuple):
    """A version, as far as containers that are there already need it: no images, no endpoints."""

    row: "VersionRow"
    functions: list[tuple[FunctionSpec, Payload]]
    """Each with its definition."""


def drain(server: "Server", then: Callable[[], None]) -> None:
    """Have those versions again, which answer to nobody, for as long as containers of theirs are left. ``then`` is called once
    they are there; what has containers and is no such version is left alone."""
    store, returns = server.store, server.returns
    if store is None or returns is None or not (unclaimed := returns.unclaimed):
        then()
        return

    def found(done: "Future[list[_Replaced]]") -> None:
        if (error := done.exception()) is not None:
            server.log(f"what runs in versions that were being replaced is lost to this server: {error}")
        for version in done.result() if error is None else ():
            _have_again(server, version)
        for current in server.deployments.current.values():
            server.deployments.unhold_alone(current)
        then()

    store.read(lambda connection: _replaced(connection, unclaimed), found)


def _replaced(connection: "Connection", app_ids: list[str]) -> list[_Replaced]:
    from greenroom.server.store import versions

    rows = [row for row in versions.by_ids(connection, app_ids) if row.state is versions.VersionState.REPLACED]
    return [
        _Replaced(
            row,
            [(kept_spec(f.spec, scaled=True)[0], f.definition) for f in versions.functions_of(connection, row.app_id)],
        )
        for row in rows
    ]


def _have_again(server: "Server", version: _Replaced) -> None:
    row, returns = version.row, server.returns
    if returns is None or row.app not in server.deployments.current:
        return
    server.create_app(row.app_id, row.app)
    app = server.apps[row.app_id]
    app.deployed = app.replaced = app.held = True
    app.created_at, app.version, app.stopping = row.deployed_at, row.number, []
    for spec, definition in version.functions:
        app.first_id = spec.app_id
        name = f"{app.id}/{spec.name}"
        function = Function(app, spec._replace(app_id=app.id, function_id=name), definition)
        app.functions[name] = server.functions[name] = function
        if not (spec.is_class and spec.needs_binding):
            function.pools[""] = Pool(function, b"", server.lifecycle)
    returns.expect(app)
    for function in app.functions.values():
        for pool in function.pools.values():
            pool.close()
    server.maybe_stopped(app)
