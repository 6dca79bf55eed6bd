"""Apps that go on without their program (``greenroom run --detach``), and when they are done.

They are when none of their calls goes on, and their containers have gone as idle ones do. What may be asked for at any time, a
web endpoint say, or is to be there always, is never done: ``greenroom app stop`` ends it.
"""

from typing import TYPE_CHECKING

from greenroom.model.app_names import check_app_name
from greenroom.model.errors import InvalidError

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.core import Server

LOOK = 1.0
"""Seconds between two looks at an app whose program has ended."""


def detach(server: "Server", app: "App") -> None:
    """It goes on when its program has ended.

    Raises:
        InvalidError: this server ends with its programs; the app is deployed, and stays anyhow; or its name can't be.
    """
    if server.store is None:
        raise InvalidError(
            "this server ends with its programs, so no app can go on without its own: start one that stays, `greenroom server`"
        )
    if app.deployed:
        raise InvalidError(f"the app {app.name} is deployed, and goes on anyhow")
    check_app_name(app.name)
    app.detached = True


def left(server: "Server", app: "App") -> None:
    """Its program has ended; its connection may go on."""
    app.follower = None
    _look(server, app)


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
