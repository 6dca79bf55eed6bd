"""Versions that are stopped on their way: the one before answers, for this server and the next one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import greenroom
from greenroom.cli.servers import Answering
from greenroom.model.settings import Settings
from greenroom.sdk.address import Address
from greenroom.server import replacing
from greenroom.server.store import versions
from greenroom.testing import Cluster
from greenroom.wire.deploy_messages import StopDeployed

TIMES = 40


@pytest.fixture
def cluster():
    with Cluster(settings=Settings(sandbox="process", exit_grace=5.0, cancel_grace=1.0)) as made:
        yield made


def version(number):
    app = greenroom.App("shop")
    app.function(serialized=True, name="which")(lambda: number)
    return app


def kept(cluster):
    """Id of the version with which the next server would begin."""
    found = []
    cluster.on_server(
        lambda server: server.store.read(
            lambda c: versions.current(c, "shop"), lambda done: found.append(done.result())
        )
    )
    cluster.wait_until(lambda: found)
    return found[0].app_id


def answers(cluster):
    return cluster.on_server(lambda server: server.deployments.current["shop"].id)


def stop_within(server, before, delay):
    """Stop the version that comes after ``before`` so many seconds after it has come, unless it serves by then."""

    def look():
        new = [app for app in server.apps.values() if app.stopping is None and app.id not in before]
        if new:
            server.lifecycle.clock.call_later(delay, lambda: stop(new[0]))
        else:
            server.lifecycle.clock.call_later(0.0, look)

    def stop(app):
        if server.deployments.current["shop"] is not app:
            server.stop_app(app, "the test stops it")

    look()


def test_whenever_it_is_stopped_the_store_knows_which_one_answers(cluster):
    """No container runs: nothing but the store takes time."""
    version(0).deploy()
    began = time.monotonic()
    version(0).deploy()
    takes = time.monotonic() - began
    answer, stopped = 0, 0
    for number in range(1, TIMES + 1):
        old = answers(cluster)
        before = set(cluster.on_server(lambda server: list(server.apps)))
        delay = number % 20 / 20 * takes
        cluster.on_server(lambda server, before=before, delay=delay: stop_within(server, before, delay))
        try:
            version(number).deploy()
            answer = number
        except greenroom.Error:
            stopped += 1
            assert answers(cluster) == old
        assert kept(cluster) == answers(cluster)
    assert 0 < stopped < TIMES, "some are stopped on their way, and others are not"
    assert greenroom.Function.from_name("shop", "which").remote() == answer


def test_one_that_enters_for_ever_is_stopped_and_the_next_one_is_deployed(cluster, tmp_path):
    def made(number):
        app = greenroom.App("shop")

        @app.cls(serialized=True, min_containers=1)
        class Model:
            @greenroom.enter()
            def load(self):
                import time
                from pathlib import Path

                while number == 2:
                    Path(tmp_path, "enters").touch()
                    time.sleep(0.01)

            @greenroom.method()
            def which(self):
                return number

        return app

    made(1).deploy()
    which = greenroom.Cls.from_name("shop", "Model")().which
    assert which.remote() == 1
    said = []

    def deploy():
        try:
            made(2).deploy()
        except greenroom.ExecutionError as error:
            said.append(str(error))

    deploying = threading.Thread(target=deploy)
    deploying.start()
    cluster.wait_until((tmp_path / "enters").exists)
    with pytest.raises(greenroom.ExecutionError, match="another version of shop is being deployed"):
        made(3).deploy()
    (second,) = cluster.on_server(
        lambda server: [app for app in server.apps.values() if not app.version and app.stopping is None]
    )
    cluster.on_server(lambda server: server.stop_app(second, "the test stops it"))
    deploying.join()
    assert said == ["it was stopped before it could serve"]
    assert which.remote() == 1
    assert made(4).deploy().version > 1
    assert which.remote() == 4


def entering(file, go=None, **options):
    """A version whose containers say in a file that they enter."""
    app = greenroom.App("shop")

    @app.cls(serialized=True, **options)
    class Model:
        @greenroom.enter()
        def load(self):
            import time

            with open(file, "a") as entered:
                entered.write("it enters\n")
            while go is not None and not go.exists():
                time.sleep(0.01)

        @greenroom.method()
        def which(self):
            return file.name

    return app


def deploy_beside(app):
    """Deploy it in a thread; what that says comes into the list."""
    said = []

    def deploy():
        try:
            said.append(app.deploy().version)
        except greenroom.Error as error:
            said.append(str(error))

    thread = threading.Thread(target=deploy)
    thread.start()
    return thread, said


def lines(file):
    return file.read_text().splitlines() if file.exists() else []


def on_its_way(server):
    return next(app for app in server.apps.values() if not app.version and app.stopping is None)


def test_a_container_that_is_stopped_as_it_warms_up_is_followed_by_another(cluster, tmp_path):
    entering(tmp_path / "first").deploy()
    which = greenroom.Cls.from_name("shop", "Model")().which
    assert which.remote() == "first"
    file, go = tmp_path / "second", tmp_path / "go"
    deploying, said = deploy_beside(entering(file, go=go))
    cluster.wait_until(lambda: len(lines(file)) == 1)

    def stop(server):
        (container,) = server.containers_of(on_its_way(server))
        server.lifecycle.stop(container, "the test stops it")

    cluster.on_server(stop)
    cluster.wait_until(lambda: len(lines(file)) == 2)
    go.touch()
    deploying.join()
    assert said == [2]
    assert which.remote() == "second"


def test_what_is_stopped_by_its_name_is_not_there_again_with_the_version_on_its_way(cluster, tmp_path):
    entering(tmp_path / "first").deploy()
    which = greenroom.Cls.from_name("shop", "Model")().which
    assert which.remote() == "first"
    file, go = tmp_path / "second", tmp_path / "go"
    deploying, said = deploy_beside(entering(file, go=go))
    cluster.wait_until(lambda: lines(file))
    cluster.on_server(lambda server: server.stop_app(server.deployments.current["shop"], "the test stops it"))
    deploying.join()
    assert said == ["it was stopped before it could serve"]
    with pytest.raises(greenroom.NotFoundError):
        which.remote()
    go.touch()
    assert entering(tmp_path / "third").deploy().version == 3
    assert which.remote() == "third"


def of_two(number, go=None):
    """A version with two functions; containers of one with ``go`` wait for that file as they load it, and fail then."""

    class Loaded:
        def __setstate__(self, state):
            import time
            from pathlib import Path

            Path(f"{state['go']}.waits").touch()
            while not Path(state["go"]).exists():
                time.sleep(0.01)
            raise RuntimeError("it can't be loaded")

    loaded = Loaded() if go is not None else None
    if loaded is not None:
        loaded.go = str(go)
    app = greenroom.App("shop")
    for name in ("one", "two"):
        app.function(serialized=True, name=name)(lambda: (number, loaded))
    return app


def test_a_container_whose_turn_to_start_has_not_come_is_waited_for(tmp_path):
    settings = Settings(sandbox="process", exit_grace=5.0, cancel_grace=1.0, max_starting=1)
    with Cluster(hold=True, settings=settings) as cluster:
        of_two(1).deploy()
        functions = [greenroom.Function.from_name("shop", name) for name in ("one", "two")]
        assert [function.remote() for function in functions] == [(1, None)] * 2
        go = tmp_path / "go"
        deploying, said = deploy_beside(of_two(2, go))
        cluster.wait_until((tmp_path / "go.waits").exists)
        cluster.clock.advance(replacing.PATIENCE)
        assert cluster.on_server(lambda server: server.deployments.current["shop"].version) == 1
        go.touch()
        deploying.join()
        assert "it can't be loaded" in said[0]
        assert [function.remote() for function in functions] == [(1, None)] * 2


def test_a_version_that_waits_for_those_before_it_waits_for_all_of_them(cluster, tmp_path):
    go = tmp_path / "go"

    def waits(number):
        app = greenroom.App("shop")

        @app.function(serialized=True, name="which", min_containers=1)
        def which():
            import time

            (tmp_path / f"runs {number}").touch()
            while not go.exists():
                time.sleep(0.01)
            return number

        return app

    waits(1).deploy()
    which = greenroom.Function.from_name("shop", "which")
    first = which.spawn()
    cluster.wait_until((tmp_path / "runs 1").exists)
    waits(2).deploy(strategy="recreate")
    waits(3).deploy(strategy="recreate")
    third = which.spawn()
    assert {record["state"] for record in cluster.containers()} == {"DRAINING"}
    go.touch()
    assert (first.get(), third.get()) == (1, 3)


def test_whoever_stops_an_app_that_is_being_stopped_waits_for_that(cluster, tmp_path):
    go = tmp_path / "go"
    app = greenroom.App("shop")

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        def which(self):
            return 1

        @greenroom.exit()
        def leave(self):
            import time

            while not go.exists():
                time.sleep(0.01)

    app.deploy()
    assert greenroom.Cls.from_name("shop", "Model")().which.remote() == 1
    (there,) = cluster.on_server(lambda server: list(server.apps.values()))
    server = Answering(Address(*cluster.on_server(lambda server: (server.socket_path, server.token))))
    with ThreadPoolExecutor(2) as pool:
        stops = []
        for asked in (1, 2):
            stops.append(pool.submit(server.ask, StopDeployed(1, "shop"), timeout=60))
            cluster.wait_until(lambda asked=asked: len(there.stopping or []) == asked or stops[-1].done())
        go.touch()
        assert [stop.result() for stop in stops] == [{}, {}]


def test_stopping_an_app_ends_what_a_version_before_has_begun(cluster, tmp_path):
    app = greenroom.App("shop")

    @app.function(serialized=True, name="gone")
    def gone():
        import time

        (tmp_path / "runs").touch()
        while True:
            time.sleep(0.01)

    app.deploy()
    call = greenroom.Function.from_name("shop", "gone").spawn()
    cluster.wait_until((tmp_path / "runs").exists)
    version(2).deploy()
    assert {record["state"] for record in cluster.containers()} == {"DRAINING"}
    server = Answering(Address(*cluster.on_server(lambda server: (server.socket_path, server.token))))
    assert server.ask(StopDeployed(1, "shop"), timeout=60) == {}
    assert cluster.containers() == []
    with pytest.raises(greenroom.InputCancellation):
        call.get(timeout=20)


def test_a_version_waits_for_what_was_stopped_and_still_runs_its_exit_hooks(cluster, tmp_path):
    go = tmp_path / "go"

    def leaves(number):
        app = greenroom.App("shop")

        @app.cls(serialized=True, min_containers=1)
        class Model:
            @greenroom.method()
            def which(self):
                return number

            @greenroom.exit()
            def leave(self):
                import time

                while not go.exists():
                    time.sleep(0.01)

        return app

    leaves(1).deploy()
    which = greenroom.Cls.from_name("shop", "Model")().which
    assert which.remote() == 1
    cluster.on_server(lambda server: server.stop_app(server.deployments.current["shop"], "the test stops it"))
    leaves(2).deploy(strategy="recreate")
    second = which.spawn()
    assert {record["state"] for record in cluster.containers()} == {"EXITING"}
    go.touch()
    assert second.get() == 2
