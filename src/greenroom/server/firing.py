"""Schedules of deployed apps: each firing is a spawned call without arguments, kept together with the fact that it fired."""

import pickle
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from greenroom.model.ids import new_call_id
from greenroom.model.schedule import goes_on
from greenroom.server.schedules import Schedule, Schedules, read_schedule
from greenroom.wire.deploy_messages import deployed_id
from greenroom.wire.messages import Collect, Outputs, Status
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from sqlite3 import Connection

    from greenroom.server.apps import App
    from greenroom.server.call import Call
    from greenroom.server.core import Server
    from greenroom.server.store.database import Database

NOTHING = pickle.dumps(((), {}), 5)
"""No arguments, as they travel."""


class Firing:
    """Of one server, which stays. Functions are named as ``wire/deploy_messages.py`` has it."""

    def __init__(self, server: "Server", store: "Database") -> None:
        self._server = server
        self._store = store
        self._schedules = Schedules(server.lifecycle.clock, self._remember, self._fire)
        self._due: dict[str, str] = {}
        """Ids of calls that are kept and don't run yet, by function."""

    def switch(self, before: "App | None", app: "App") -> None:
        """A version serves in the place of another."""
        old = {f.spec.name: f.spec.schedule for f in before.functions.values()} if before is not None else {}
        for function in app.functions.values():
            name, schedule = function.spec.name, function.spec.schedule
            if schedule and not goes_on(old.get(name, {}), schedule):
                self._put(deployed_id(app.name, name), schedule, app, None)
        for name in old:
            if not any(f.spec.name == name and f.spec.schedule for f in app.functions.values()):
                self._schedules.remove(deployed_id(app.name, name))

    def restore(self, apps: "list[App]") -> None:
        """They serve again after a restart."""
        from greenroom.server.store.schedules import last_fired

        def found(done: "Future[dict[str, float]]") -> None:
            last = done.result()
            for app in apps:
                for function in app.functions.values():
                    if function.spec.schedule:
                        name = deployed_id(app.name, function.spec.name)
                        self._put(name, function.spec.schedule, app, last.get(name))

        self._store.read_at_last(last_fired, found)

    def stop(self, app: "App") -> None:
        """It serves no longer."""
        for function in app.functions.values():
            self._schedules.remove(deployed_id(app.name, function.spec.name))

    def next_of(self, app: "App") -> dict[str, float]:
        """When each of its functions fires next, in seconds since 1970."""
        names = [f.spec.name for f in app.functions.values()]
        found = {name: self._schedules.next_of(deployed_id(app.name, name)) for name in names}
        return {name: at for name, at in found.items() if at is not None}

    def close(self) -> None:
        """Nothing fires any more."""
        self._schedules.close()

    def _put(self, name: str, schedule: dict[str, Any], app: "App", last: float | None) -> None:
        def read(done: Future[Schedule]) -> None:
            if (error := done.exception()) is not None:
                self._server.log(f"{name} doesn't fire: {error}")
            elif self._server.deployments.current.get(app.name) is app:
                self._schedules.put(name, done.result(), app.created_at, last)

        self._server.disk.do(partial(read_schedule, schedule), read)

    def _remember(self, name: str, due: float, then: Callable[[bool], None]) -> None:
        from greenroom.server.store.schedules import note_fired

        assert self._server.durable is not None
        function = self._server.deployments.function(name)
        if function is None:
            then(False)
            return
        call_id = self._due[name] = new_call_id()
        keep = self._server.durable.whole(call_id, name, function.app.id, NOTHING)

        def change(connection: "Connection") -> None:
            note_fired(connection, name, due)
            keep(connection)

        def kept(done: "Future[None]") -> None:
            then(done.exception() is None)
            if self._due.get(name) != call_id or self._server.durable is None:
                return  # it runs
            del self._due[name]
            if done.exception() is None:
                self._server.durable.end(call_id, "the call was cancelled: its schedule ended as it fired")

        self._store.write(change, kept)

    def _fire(self, name: str, due: float) -> None:
        assert self._server.durable is not None
        function = self._server.deployments.function(name)
        pool = function.pool("") if function is not None else None
        if function is not None and pool is not None and name in self._due:
            call_id = self._due.pop(name)
            self._server.durable.run(call_id, pool, NOTHING)
            self._server.durable.collect(
                Collect(0, call_id), _Outcome(partial(self._failed, function.app.name, function.spec.name))
            )

    def _failed(self, app: str, function: str, detail: str) -> None:
        why = detail or f"it raised what `greenroom app logs {app}` shows"
        self._server.peer_log.say(f"{app}.{function}", f"{app}.{function}, which its schedule called, failed: {why}")


class _Outcome:
    """Collects a firing, for which nobody waits: ``failed`` is called if it has."""

    backlog = 0

    def __init__(self, failed: Callable[[str], None]) -> None:
        self.calls: set[Call] = set()
        self._failed = failed

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """How it ended, among others."""
        for _, status, detail in message.items if isinstance(message, Outputs) else ():
            if status not in (Status.OK, Status.CANCELLED):
                self._failed(detail)
