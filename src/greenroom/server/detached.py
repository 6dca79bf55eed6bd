"""Apps that go on without their program (``greenroom run --detach``), with this server and those after it, and when they are done.

They are when none of their calls goes on, and their containers have gone as idle ones do. What may be asked for at any time, a
web endpoint say, or is to be there always, is never done: ``greenroom app stop`` ends it.

One is kept as a version is, until it ends. Their calls name functions as ``wire/deploy_messages.py`` has it, with the app's id in
the place of a name: the name is whose the deployed app is.
"""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from greenroom.model.app_names import check_app_name
from greenroom.model.errors import Error, InvalidError
from greenroom.server.variants import function_of
from greenroom.server.versions import Contents, Kept, all_detached, contents_of, fill
from greenroom.wire.deploy_messages import names_of

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.core import Server
    from greenroom.server.pools import Function

LOOK = 1.0
"""Seconds between two looks at an app whose program has ended."""
PATIENCE = 2.0
"""Seconds in which whoever had called the last server calls this one."""


def detach(server: "Server", app: "App", then: Callable[[str], None]) -> None:
    """It goes on when its program has ended; ``then`` is told ``""`` once that is kept, or why it can't be.

    Raises:
        InvalidError: this server ends with its programs; the app is deployed, and stays anyhow; or its name can't be.
    """
    from greenroom.server.store import versions

    store = server.store
    if store is None:
        raise InvalidError(
            "this server ends with its programs, so no app can go on without its own: start one that stays, `greenroom server`"
        )
    if app.deployed:
        raise InvalidError(f"the app {app.name} is deployed, and goes on anyhow")
    check_app_name(app.name)

    def kept(done: Future[None]) -> None:
        if (error := done.exception()) is not None:
            then(f"{app.name} can't be kept, and so can't go on without its program: {error}")
            return
        app.kept = True
        if app.stopping is not None:
            forget(server, app)
            then(f"{app.name} has ended meanwhile")
            return
        app.detached = True
        server.deployments.unhold(app)
        then("")

    def read(done: Future[Contents]) -> None:
        if (error := done.exception()) is not None:
            then(str(error))
        else:
            store.write(lambda c: versions.add_detached(c, app.name, app.id, app.created_at, *done.result()), kept)

    server.disk.do(contents_of(server, app), read)


def left(server: "Server", app: "App") -> None:
    """Its program has ended; its connection may go on."""
    app.follower = None
    _look(server, app)


def forget(server: "Server", app: "App") -> None:
    """It ends, and no other server has it."""
    server.deployments.withdraw(app, lambda why: None)


def _look(server: "Server", app: "App") -> None:
    if app.stopping is not None:
        return
    if _is_done(server, app):
        server.stop_app(app, "its program has gone, and it had nothing to do any more")
    else:
        server.lifecycle.clock.call_later(LOOK, lambda: _look(server, app))


def _is_done(server: "Server", app: "App") -> bool:
    if any(function.spec.is_web or function.spec.min_containers for function in app.functions.values()):
        return False
    if any(call.pool.function.app is app and not call.done for call in server.lifecycle.calls.by_id.values()):
        return False
    return not any(container.pool.function.app is app for container in server.lifecycle.containers.live())


# ---- after a restart ----


def restore(server: "Server", then: Callable[[], None]) -> None:
    """Have every app again that went on without its program when the last server ended; ``then`` is called once they are there."""
    store, returns = server.store, server.returns
    assert store is not None
    assert returns is not None
    left = 0

    def found(done: Future[list[Kept]]) -> None:
        nonlocal left
        left = len(done.result())
        if not left:
            then()
        for each in done.result():
            server.create_app(each.row.app_id, each.row.app)
            app = server.apps[each.row.app_id]
            app.created_at, app.detached, app.held = each.row.deployed_at, True, returns.expects(app.id)
            fill(server, app, each, partial(filled, app))

    def filled(app: "App", error: Error | None) -> None:
        nonlocal left
        left -= 1
        if error is not None:  # its rows stay: what is missing may be back by the next start
            server.log(f"{app.name}, which went on without its program as {app.id}, can't be had again: {error}")
            server.stop_app(app, "it could not be had again")
        else:
            app.kept = True
            if app.held:
                returns.expect(app)
                server.deployments.unhold(app)
        if not left:
            then()

    store.read_at_last(all_detached, found)


def go_on(server: "Server") -> None:
    """All that they had begun is there again: see from now on whether they are done."""
    for app in server.apps.values():
        if app.detached and app.follower is None:  # else it is one that has begun meanwhile, and its program is there
            server.lifecycle.clock.call_later(PATIENCE, partial(_look, server, app))


def function_kept(server: "Server", function_id: str) -> "Function | None":
    """The function that a kept call names, of an app that is deployed or detached."""
    app_id, name = names_of(function_id)
    app = server.apps.get(app_id)
    if app is not None and app.detached:
        return function_of(server, app, name)
    return server.deployments.function(function_id)


def why_none(server: "Server", function_id: str) -> str:
    """Why there is none."""
    app_id, _ = names_of(function_id)
    if app_id.startswith("ap-") and app_id not in server.deployments.current and app_id not in server.apps:
        return f"its app, {app_id}, has ended"
    return server.deployments.lacks(function_id)
