"""Versions that were being replaced when the last server died: their containers finish what they have begun under this one.

So do calls of what the version that answers now lacks: what of them no container has that came back is cancelled, as it was when
that version took over.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from greenroom.model.spec import FunctionSpec
from greenroom.server.pools import Function, Pool
from greenroom.server.versions import kept_spec
from greenroom.wire.deploy_messages import names_of
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

    store.read_at_last(lambda connection: _replaced(connection, unclaimed), found)


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


def pool_left(server: "Server", function_id: str, binding: str, method: str) -> Pool | None:
    """Where what runs of a call may be, of a function that the version that answers lacks: the latest that is left and has it."""
    name, function = names_of(function_id)
    for app in sorted(server.apps.values(), key=lambda app: -app.version):
        found = app.functions.get(f"{app.id}/{function}") if app.replaced and app.name == name else None
        if found is not None and found.spec.method(method) is not None and (pool := found.pool(binding)) is not None:
            return pool
    return None


def heard(server: "Server") -> None:
    """All containers have said what they run, or have ended: nothing else of those versions' calls ever will."""
    for call in list(server.lifecycle.calls.by_id.values()):
        if call.pool.function.app.replaced:
            server.lifecycle.calls.cancel(call, why_over(server, call.pool), running=False)


def why_over(server: "Server", pool: Pool) -> str:
    """Why nothing more is begun there."""
    current = server.deployments.current.get(pool.function.app.name)
    what = f"version {current.version}" if current is not None else "another version"
    return f"the call was cancelled: {what} was deployed"
