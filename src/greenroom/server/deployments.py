"""Deployed apps: which version answers to a name, and how another takes its place."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from greenroom.model import overrides
from greenroom.model.errors import Error, ExecutionError, InvalidError
from greenroom.model.ids import new_id
from greenroom.server.deploying import Deploying
from greenroom.server.draining import drain
from greenroom.server.pools import Function, Pool
from greenroom.server.variants import function_of, why_not
from greenroom.server.variants import names_of as app_names
from greenroom.server.versions import Kept, all_kept, fill, kept
from greenroom.wire.deploy_messages import names_of

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.core import Server
    from greenroom.server.returning import Returns
    from greenroom.server.store.database import Database

STRATEGIES = ("rolling", "recreate")
Then = Callable[[str], None]
"""Told ``""``, or why it can't be."""


class Deployments:
    """Of one server."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self.current: dict[str, App] = {}
        """By name: the version that answers."""
        self._deploying: dict[str, Deploying] = {}
        """By name: the version that is on its way."""

    def begin(self, app_id: str, name: str, strategy: str) -> "App":
        """A version of an app, without functions yet.

        Raises:
            InvalidError: there is no such strategy, the app can't be made, or this server doesn't stay.
        """
        if strategy not in STRATEGIES:
            raise InvalidError(f"there is no strategy {strategy[:40]!r}: it can be {' or '.join(STRATEGIES)}")
        self._kept_by()
        before = self.current.get(name)
        self._server.create_app(app_id, name, before.id if before is not None else "")
        app = self._server.apps[app_id]
        app.deployed = True
        app.strategy = strategy
        app.held = strategy == "recreate" and any(o.version and o.name == name for o in self._server.apps.values())
        return app

    def _kept_by(self) -> "Database":
        if (store := self._server.store) is None:
            raise InvalidError(
                "this server ends with its programs, and keeps no app: start one that stays, `greenroom server`"
            )
        return store

    def deploy(self, app: "App", then: Then) -> None:
        """Let a version that is defined answer, as soon as it can and it is kept; ``then`` is told."""
        before = self.current.get(app.name)
        if app.replaces and before is None:
            self._server.stop_app(app, "it was stopped meanwhile")
            then(f"{app.name} was stopped meanwhile: deploy it again")
            return
        if app.replaces != (before.id if before is not None else "") or app.name in self._deploying:
            self._server.stop_app(app, "another version of it was deployed meanwhile")
            then(f"another version of {app.name} is being deployed, or was meanwhile: deploy this one again")
            return

        def over(why: str) -> None:
            del self._deploying[app.name]
            then(why)

        switch = lambda number: self._switch(before, app, number)  # noqa: E731
        self._deploying[app.name] = Deploying(self._server, self._kept_by(), app, before, switch, over)
        self._deploying[app.name].begin()

    def roll_back(
        self, name: str, number: int, begun: "Callable[[App], None]", then: Callable[[int, Error | None], None]
    ) -> None:
        """Deploy an earlier version again (0: the one before), as a new one, once its images are there; ``begun`` is called with
        that, ``then`` is told its number."""

        def found(done: Future[Kept]) -> None:
            try:
                version = done.result()
                app = self.begin(new_id("ap"), name, "rolling")
            except Error as error:
                then(0, error)
                return
            begun(app)
            fill(self._server, app, version, lambda error: filled(app, error), whole=True)

        def filled(app: "App", error: Error | None) -> None:
            if error is not None:
                self._server.stop_app(app, f"it could not be had again: {error}")
                then(0, error)
            else:
                self.deploy(app, lambda why: then(app.version, ExecutionError(why) if why else None))

        self._kept_by().read(lambda c: kept(c, name, number), found)

    def restore(self, then: Callable[[], None]) -> None:
        """Have every app again that was deployed when the last server ended."""
        from greenroom.server.store.versions import fail_pending

        returns = self._server.returns
        left = 0

        def found(done: Future[list[Kept]]) -> None:
            nonlocal left
            versions = done.result()
            left = len(versions)
            if not versions:
                then()  # then nothing that was replaced is left either
                return
            for version in versions:  # all at once: a thousand ways there and back, one after another, take a second
                app = self.begin(version.row.app_id, version.row.app, version.row.strategy)
                app.created_at, app.version = version.row.deployed_at, version.row.number
                app.held = returns is not None and (returns.expects(app.id) or self._waits(app, returns))
                self.current[app.name] = app
                fill(self._server, app, version, partial(filled, app))

        def filled(app: "App", error: Error | None) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                self._server.log(f"version {app.version} of {app.name} can't be had again: {error}; deploy it anew")
                self._server.stop_app(app, "it could not be had again")
            elif app.held and returns is not None:
                returns.expect(app)
                if not self._waits(app, returns):
                    self.unhold(app)
            if not left:
                drain(self._server, then)

        self._kept_by().write(fail_pending, lambda done: None)
        self._kept_by().read_at_last(all_kept, found)

    def _waits(self, app: "App", returns: "Returns") -> bool:
        """Whether it is to begin when containers of the versions before it have ended, of which some may come back."""
        return app.strategy == "recreate" and returns.expects_of_others(app)

    def withdraw(self, app: "App", then: Then) -> None:
        """It is deployed, or detached, no longer, nor will be after a restart; ``then`` is told once that is kept, or can't be."""
        from greenroom.server.store import versions

        def said(done: Future[None]) -> None:
            if (error := done.exception()) is not None:
                self._server.log(f"{app.name} stops, but will be back with the next server: {error}")
            then(str(error or ""))

        stopped = versions.VersionState.STOPPED
        if app.kept:
            app.kept = False
            self._kept_by().write(lambda c: versions.forget_detached(c, app.id), said)
        else:
            self._kept_by().write(lambda c: versions.set_state(c, app.id, stopped), said)

    def _switch(self, before: "App | None", app: "App", number: int) -> None:
        app.version = number
        self.current[app.name] = app
        self._server.web.switch(before, app)
        if self._server.firing is not None:
            self._server.firing.switch(before, app)
        if before is None:
            self.unhold_alone(app)
            return
        before.replaced = True
        for call in list(self._server.lifecycle.calls.by_id.values()):
            if call.pool.function.app is before and call.shape != "web":
                successor = self._successor(call.pool, app)
                if successor is not None and call.method in {m.name for m in successor.function.spec.methods}:
                    call.pool = successor
        for function in before.functions.values():
            for pool in function.pools.values():
                if overrides.MARK in function.spec.name and not pool.queue:
                    continue  # else what somebody once asked for would be with all versions to come
                if (successor := self._successor(pool, app)) is not None:
                    successor.inherit(pool)
        longest = max((function.spec.timeout for function in before.functions.values()), default=0.0)
        self._server.stop_app(before, f"version {app.version} was deployed", drain=longest)

    def _successor(self, pool: Pool, app: "App") -> Pool | None:
        """The pool of the same function and arguments in another version; it is made, where its function is there."""
        function = function_of(self._server, app, pool.function.spec.name)
        if function is None or (bool(pool.binding) != function.spec.needs_binding and not function.spec.is_class):
            return None
        key = next(key for key, other in pool.function.pools.items() if other is pool)
        if key not in function.pools and pool.binding:
            function.pools[key] = Pool(function, pool.binding, self._server.lifecycle)
        return function.pools.get(key)

    def unhold(self, app: "App") -> None:
        """From now on it starts containers."""
        app.held = False
        for function in app.functions.values():
            for pool in function.pools.values():
                pool.scale()

    def function(self, function_id: str) -> Function | None:
        """That of the version that answers to a name: see ``wire/deploy_messages.py``."""
        name, function = names_of(function_id)
        app = self.current.get(name)
        return function_of(self._server, app, function) if app is not None else None

    def lacks(self, function_id: str) -> str:
        """Why there is none."""
        name, function = names_of(function_id)
        if (app := self.current.get(name)) is None:
            return f"no app {name[:100]!r} is deployed; there are: {', '.join(sorted(self.current)) or 'none'}"
        if why := why_not(app, function):
            return why
        return f"the deployed app {name[:100]} has no {function[:100]!r}; it has {', '.join(app_names(app))}"

    def stop(self, app: "App") -> None:
        """Nothing answers to its name any more, nor will it."""
        if (on_its_way := self._deploying.get(app.name)) is not None and on_its_way.app is app:
            on_its_way.stopped()
        if self.current.get(app.name) is app:
            del self.current[app.name]
            if self._server.firing is not None:
                self._server.firing.stop(app)
            if on_its_way is not None:
                self._server.stop_app(on_its_way.app, f"{app.name} was stopped")

    def before(self, app: "App") -> "list[App]":
        """The versions that answered before one that does, as long as they finish what they had begun."""
        if not app.version or app.replaced:
            return []
        there = (other for other in self._server.apps.values() if other is not app and other.name == app.name)
        return [other for other in there if other.version and other.stopping is not None]

    def awaits(self, app: "App") -> bool:
        """Whether calls of a version that was replaced wait for containers that may come back, though it has none any more."""
        return app.replaced and self._server.lifecycle.calls.held is not None and self._server.ending is None

    def ended(self, app: "App") -> None:
        """Nothing is left of it, or of what was before it: a version that waits for all those before it may go on."""
        if (current := self.current.get(app.name)) is not None:
            self.unhold_alone(current)

    def unhold_alone(self, current: "App") -> None:
        """It starts containers, if nothing is left of the versions before it."""
        if current.held and not self.before(current):
            self.unhold(current)

    def history(self, name: str, then: Callable[[list[dict[str, Any]], Error | None], None]) -> None:
        """The kept versions of an app, the latest first, as ``greenroom app history --json`` prints them."""
        from greenroom.server.store import versions

        def found(done: Future[list[dict[str, Any]]]) -> None:
            try:
                then(done.result(), None)
            except Error as error:
                then([], error)

        self._kept_by().read(lambda c: [row._asdict() for row in versions.history(c, name)], found)

    def _serves(self, app: "App") -> bool:
        return self.current.get(app.name) is app

    def records(self) -> list[dict[str, Any]]:
        """Of all apps, deployed or not, as ``greenroom app list --json`` prints them."""
        live = self._server.lifecycle.containers.live()
        return [
            {
                "id": app.id,
                "name": app.name,
                "state": _state(app),
                "version": app.version,
                "created_at": app.created_at,
                "containers": sum(c.pool.function.app is app for c in live),
                "functions": app_names(app),
                "next": self._server.firing.next_of(app) if self._server.firing and self._serves(app) else {},
            }
            for app in self._server.apps.values()
        ]


def _state(app: "App") -> str:
    if app.stopping is not None:
        return "stopping"
    if app.deployed:
        return "deployed" if app.version else "deploying"
    return "running" if app.follower is not None or not app.detached else "detached"
