"""What a program may ask about deployed apps."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from greenroom.model.app_names import check_app_name
from greenroom.model.errors import Error, ExecutionError, InvalidError, NotFoundError, ProtocolError
from greenroom.model.input_state import InputState
from greenroom.server.detached import detach
from greenroom.server.messages import Handler
from greenroom.server.pools import Function, Pool
from greenroom.wire import deploy_messages as d
from greenroom.wire.messages import Done, Failed
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.server.apps import App
    from greenroom.server.call import Call
    from greenroom.server.core import Server
    from greenroom.server.peers import ClientPeer

_SCALING = {"min_containers", "max_containers", "buffer_containers", "scaledown_window"}


class _All:
    """Who waits for the end of several apps, and is told once."""

    def __init__(self, peer: "ClientPeer", count: int) -> None:
        self.calls: set[Call] = set()
        self._peer = peer
        self._left = count

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """See :class:`greenroom.server.call.Receiver`."""
        self._left -= 1
        if not self._left:
            self._peer.send(message)


class DeployHandlers:
    """Of one program's connection."""

    def __init__(self, server: "Server", peer: "ClientPeer") -> None:
        self._server = server
        self._peer = peer
        self.table: dict[type, Handler] = {
            d.CreateVersion: self._create_version,
            d.Deploy: self._deploy,
            d.ListApps: self._list_apps,
            d.ListVersions: self._list_versions,
            d.Rollback: self._roll_back,
            d.StopDeployed: self._stop,
            d.Lookup: self._lookup,
            d.UpdateAutoscaler: self._update_autoscaler,
            d.GetStats: self._get_stats,
            d.Detach: self._detach,
            d.Leave: self._leave,
        }

    def _done(self, rid: int, **data: Any) -> None:
        self._peer.send(Done(rid, data))

    def _answer(self, rid: int, data: Callable[[], dict[str, Any]]) -> Callable[[str], None]:
        def then(why: str) -> None:
            if why:
                self._failed(rid, ExecutionError(why))
            else:
                self._done(rid, **data())

        return then

    def _failed(self, rid: int, error: Error) -> None:
        self._peer.send(Failed(rid, type(error).__name__, str(error)))

    def _create_version(self, message: d.CreateVersion, payloads: list[Payload]) -> None:
        check_app_name(message.name)
        self._peer.brings(self._server.deployments.begin(message.app_id, message.name, message.strategy))
        self._done(message.rid)

    def _deploy(self, message: d.Deploy, payloads: list[Payload]) -> None:
        app = self._server.app(message.app_id)
        self._server.deployments.deploy(app, self._answer(message.rid, lambda: {"version": app.version}))

    def _detach(self, message: d.Detach, payloads: list[Payload]) -> None:
        detach(self._server, self._server.app(message.app_id), self._answer(message.rid, dict))

    def _leave(self, message: d.Leave, payloads: list[Payload]) -> None:
        self._peer.leaves(self._server.app(message.app_id))
        self._done(message.rid)

    def _list_apps(self, message: d.ListApps, payloads: list[Payload]) -> None:
        self._done(message.rid, apps=self._server.deployments.records())

    def _stop(self, message: d.StopDeployed, payloads: list[Payload]) -> None:
        app = self._app(message.name)

        def stop(why: str) -> None:
            apps = [app, *self._server.deployments.before(app)]
            containers = [container for each in apps for container in self._server.containers_of(each)]
            request = (_All(self._peer, len(apps)), message.rid) if not why else None
            for each in apps:
                self._server.stop_app(each, "stopped by `greenroom app stop`", request)
            if why:
                text = f"{app.name} stops, but that can't be kept, so it will be back with the next server: {why}; stop it again then"
                self._failed(message.rid, ExecutionError(text))
            for container in containers:
                self._server.leave_output_soon(container)

        if self._server.deployments.current.get(app.name) is app or app.kept:
            self._server.deployments.withdraw(app, stop)
        else:
            stop("")

    def _list_versions(self, message: d.ListVersions, payloads: list[Payload]) -> None:
        def then(versions: list[dict[str, Any]], error: Error | None) -> None:
            if error is not None:
                self._failed(message.rid, error)
            else:
                self._done(message.rid, versions=versions)

        self._server.deployments.history(message.name, then)

    def _roll_back(self, message: d.Rollback, payloads: list[Payload]) -> None:
        def then(version: int, error: Error | None) -> None:
            if error is not None:
                self._failed(message.rid, error)
            else:
                self._done(message.rid, version=version)

        self._server.deployments.roll_back(message.name, message.version, self._peer.brings, then)

    def _app(self, name: str) -> "App":
        """By name, or by id."""
        if (found := self._server.deployments.current.get(name) or self._server.apps.get(name)) is not None:
            return found
        named = [app for app in self._server.apps.values() if app.name == name]
        running = [app for app in named if app.stopping is None]
        if len(running) == 1:
            return running[0]
        if named and not running:
            return named[-1]  # it is being stopped already: whoever asks again waits for that too
        there = ", ".join(sorted({app.name for app in self._server.apps.values()})) or "none"
        raise NotFoundError(
            f"{len(running)} apps are called {name[:100]!r}: name one by its id"
            if running
            else f"no app {name[:100]!r} runs or is deployed; there are: {there}"
        )

    def _function(self, function_id: str) -> Function:
        found = self._server.deployments.function(function_id) or self._server.functions.get(function_id)
        if found is None:
            raise NotFoundError(self._server.deployments.lacks(function_id))
        return found

    def _update_autoscaler(self, message: d.UpdateAutoscaler, payloads: list[Payload]) -> None:
        function, fields = self._function(message.function_id), message.fields
        if not set(fields) <= _SCALING or not all(type(v) in (int, float) and v >= 0 for v in fields.values()):
            raise ProtocolError("numbers of an autoscaler that can't be any")
        changed = function.spec._replace(**fields)
        if changed.max_containers and changed.min_containers > changed.max_containers:
            raise InvalidError(
                f"min_containers={changed.min_containers} is more than max_containers={changed.max_containers}"
            )
        function.spec = changed
        for pool in function.pools.values():
            pool.autoscaler_changed()
            if most := fields.get("max_containers"):
                self._keep_to(pool, int(most))
        if self._server.store is None or not (function.app.version or function.app.kept):
            self._done(message.rid)
            return
        from greenroom.server.store.versions import set_scaling

        def kept(done: Future[None]) -> None:
            why = done.exception()
            text = f"it is so now, but that can't be kept, and the next server has what was before: {why}"
            self._answer(message.rid, dict)(text if why is not None else "")

        self._server.store.write(lambda c: set_scaling(c, changed.function_id, fields), kept)

    def _keep_to(self, pool: Pool, most: int) -> None:
        """Those beyond it finish what they have begun, and go; under load none of them would come to be idle."""
        coming = sorted(
            (c for c in pool.containers if c.coming), key=lambda c: (c.entered, len(c.running), c.idle_since)
        )
        for container in coming[: max(0, len(coming) - most)]:
            self._server.lifecycle.stop(container, f"max_containers={most} now")

    def _get_stats(self, message: d.GetStats, payloads: list[Payload]) -> None:
        function = self._function(message.function_id)
        pools, calls = function.pools.values(), self._server.lifecycle.calls.by_id.values()
        # In a queue are some that were cancelled, and not those for which there is no room in memory.
        waiting = sum(item.state is InputState.QUEUED for pool in pools for item in pool.queue)
        stored = sum(call.stored for call in calls if call.pool.function is function)
        self._done(message.rid, backlog=waiting + stored, containers=sum(len(pool.containers) for pool in pools))

    def _lookup(self, message: d.Lookup, payloads: list[Payload]) -> None:
        function_id = d.deployed_id(message.app, message.function)
        function = self._server.deployments.function(function_id)
        if function is None:
            raise NotFoundError(self._server.deployments.lacks(function_id))
        spec = function.spec
        methods = [[m.name, m.is_async, m.is_generator, function.urls.get(m.name)] for m in spec.methods]
        self._done(message.rid, is_class=spec.is_class, methods=methods)
