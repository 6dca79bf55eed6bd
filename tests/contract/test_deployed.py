"""Deployed apps: called by name, from anywhere, while versions come and go."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import greenroom
from tests.conftest import wait_for
from tests.contract.conftest import settings_of


@pytest.fixture(scope="module", params=["process", "crun"])
def settings(request, _shared):
    """As for the whole suite, but for runc: what starts a container is nothing to what this is about."""
    return settings_of(request.param, _shared)


def shop(version, **options):
    """A version of an app; the function tells it."""
    app = greenroom.App("shop")

    def which(x=0):
        return version, x

    def wait(path):
        import pathlib
        import time

        pathlib.Path(path).touch()
        while not pathlib.Path(f"{path}.go").exists():
            time.sleep(0.01)
        return version

    app.function(serialized=True, name="which", **options)(which)
    app.function(serialized=True, name="wait", max_containers=1, **options)(wait)
    return app


def named(name):
    return greenroom.Function.from_name("shop", name)


@pytest.fixture(autouse=True)
def _ends(cluster):
    yield
    for app in cluster.on_server(lambda server: list(server.apps.values())):
        cluster.on_server(lambda server, app=app: server.stop_app(app, "the test is over"))
    cluster.wait_until(lambda: not cluster.on_server(lambda server: server.apps))


def test_it_stays_without_its_program_and_is_called_by_name(cluster):
    assert shop(1).deploy().version >= 1
    assert named("which").remote() == (1, 0)
    assert list(named("which").map(range(3))) == [(1, 0), (1, 1), (1, 2)]
    assert named("which").spawn(7).get(timeout=30) == (1, 7)


def test_what_there_is_not_is_said(cluster):
    with pytest.raises(greenroom.NotFoundError, match="no app 'shop' is deployed; there are: none"):
        named("which").remote()
    shop(1).deploy()
    with pytest.raises(greenroom.NotFoundError, match="the deployed app shop has no 'nope'; it has wait, which"):
        named("nope").remote()
    with pytest.raises(greenroom.InvalidError, match="there is no strategy 'x'"):
        shop(2).deploy(strategy="x")
    with pytest.raises(greenroom.InvalidError, match="under its name"):
        greenroom.App().deploy()
    for name in ("a/b", "a\nb", "x" * 65):
        with pytest.raises(greenroom.InvalidError, match="can't be the name of an app that stays"):
            shop(2).deploy(name=name)
    with pytest.raises(greenroom.InvalidError, match=r"app\.deploy\(name=3\): the name must be a str"):
        shop(2).deploy(name=3)
    with pytest.raises(greenroom.InvalidError, match=r"call it with \.remote\(\)"):
        named("which").local()
    assert named("which").remote() == (1, 0)


@pytest.mark.parametrize("strategy", ["rolling", "recreate"])
def test_what_has_begun_finishes_in_its_version_and_what_waits_runs_in_the_next(cluster, tmp_path, strategy):
    number = shop(1).deploy().version
    first = named("wait").spawn(str(tmp_path / "a"))
    wait_for((tmp_path / "a").exists)
    second = named("wait").spawn(str(tmp_path / "b"))
    cluster.wait_until(lambda: cluster.on_server(
        lambda server: sum(len(p.queue) for f in server.functions.values() for p in f.pools.values())) == 1)  # fmt: skip
    assert shop(2).deploy(strategy=strategy).version == number + 1
    assert strategy == "recreate" or named("which").remote() == (2, 0)
    (tmp_path / "b.go").touch()
    if strategy == "rolling":
        assert second.get(timeout=30) == 2
        assert not (tmp_path / "a.go").exists()
    (tmp_path / "a.go").touch()
    assert first.get(timeout=30) == 1
    assert second.get(timeout=30) == 2
    assert named("which").remote() == (2, 0)


def test_a_version_that_can_not_start_leaves_the_one_before(cluster):
    def made(broken):
        app = greenroom.App("shop")

        @app.cls(serialized=True)
        class Model:
            @greenroom.enter()
            def load(self):
                if broken:
                    raise RuntimeError("no model")

            @greenroom.method()
            def which(self):
                return broken

        return app

    made(broken=False).deploy()
    model = greenroom.Cls.from_name("shop", "Model")
    assert model().which.remote() is False
    with pytest.raises(greenroom.ExecutionError, match="no model"):
        made(broken=True).deploy()
    assert model().which.remote() is False
    cluster.wait_until(lambda: len(cluster.on_server(lambda server: server.apps)) == 1)


def test_classes_with_parameters_go_on_with_theirs(cluster, output):
    def made(version):
        app = greenroom.App("shop")

        @app.cls(serialized=True)
        class Model:
            size: int = greenroom.parameter(default=3)

            @greenroom.method()
            def tell(self):
                return version, self.size

            @greenroom.method()
            def count(self, n):
                yield from range(n)

            @greenroom.exit()
            def leave(self):
                print("left", version, self.size)

        return app

    made(1).deploy()
    model = greenroom.Cls.from_name("shop", "Model")
    large = model(size=9)
    assert (model().tell.remote(), large.tell.remote()) == ((1, 3), (1, 9))
    assert list(large.count.remote_gen(3)) == [0, 1, 2]
    with pytest.raises(greenroom.InvalidError, match=r"iterate over \.remote_gen"):
        large.count.remote(3)
    made(2).deploy()
    assert (model().tell.remote(), large.tell.remote()) == ((2, 3), (2, 9))


def test_what_was_given_stays_so_in_a_version_with_another_default(cluster, tmp_path):
    """In calls that its own containers have made, and that wait while it comes."""

    def made(default):
        app = greenroom.App("shop")

        @app.cls(serialized=True, max_containers=1)
        class Model:
            size: str = greenroom.parameter(default=default)

            @greenroom.method()
            def wait(self, path):
                import pathlib
                import time

                pathlib.Path(f"{path}-{id(self)}").touch()
                while not pathlib.Path(f"{path}.go").exists():
                    time.sleep(0.01)
                return self.size

        @app.cls(serialized=True, max_containers=1)
        class Own:
            def __init__(self, size=default):
                self.size = size

            @greenroom.method()
            def wait(self, path):
                import pathlib
                import time

                pathlib.Path(f"{path}-{id(self)}").touch()
                while not pathlib.Path(f"{path}.go").exists():
                    time.sleep(0.01)
                return self.size

        @app.function(serialized=True)
        def begin(path):
            ways = Model(), Model(size="small"), Own("small"), Own(size="small")
            return [way.wait.spawn(path).object_id for way in ways]

        return app

    def waiting(server):
        return [len(p.queue) for name in ("Model", "Own") for f in server.deployments.current["shop"].functions.values()
                if f.spec.name == name for p in f.pools.values() if p.containers]  # fmt: skip

    made("small").deploy()
    path = str(tmp_path / "a")
    first, second = named("begin").remote(path), named("begin").remote(path)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 3, what="one of each set runs")
    cluster.wait_until(lambda: cluster.on_server(waiting) == [1, 1, 3])
    made("large").deploy()
    (tmp_path / "a.go").touch()
    results = [[greenroom.FunctionCall.from_id(call).get(timeout=60) for call in calls] for calls in (first, second)]
    assert results == [["small", "small", "small", "small"], ["large", "small", "small", "small"]]


def models(version):
    app = greenroom.App("shop")

    @app.cls(serialized=True, timeout=300, scaledown_window=600)
    class Model:
        size: int = greenroom.parameter(default=3)

        @greenroom.method()
        def tell(self):
            return version, self.size

        @greenroom.method()
        def sleep(self, seconds):
            import time

            time.sleep(seconds)
            return version

        @greenroom.method()
        async def both(self, n):
            import asyncio

            self.inside = getattr(self, "inside", 0) + 1
            while self.inside < n:
                await asyncio.sleep(0.001)
            return self.inside

    @app.cls(serialized=True)
    class Batches:
        @greenroom.batched(max_batch_size=2, wait_ms=1)
        def sizes(self, items):
            return [len(items)] * len(items)

    @app.function(serialized=True)
    def plain():
        return 1

    return app


def specs_of(cluster, name):
    """What the containers that live have of a class, by the name that it is called by."""

    def look(server):
        return {c.pool.function.spec.name: c.pool.function.spec for c in server.lifecycle.containers.live()
                if c.pool.function.spec.name.startswith(name)}  # fmt: skip

    return cluster.on_server(look)


def test_a_class_is_called_with_other_options_by_who_wants_them(cluster):
    models(1).deploy()
    model = greenroom.Cls.from_name("shop", "Model")
    other = model.with_options(timeout=0.5, retries=0, max_containers=1, scaledown_window=500).with_options(memory=64)
    assert model().tell.remote() == other().tell.remote() == (1, 3)
    assert other(size=5).tell.remote() == (1, 5)
    assert list(other().sleep.map([0.0, 0.0])) == [1, 1]
    with pytest.raises(greenroom.FunctionTimeoutError):
        other().sleep.remote(30)
    assert model().sleep.remote(0.6) == 1
    specs = specs_of(cluster, "Model")
    name = "Model?max_containers=1&memory=64&memory_limit=0&retries=[0,1.0,1.0,60.0]&scaledown_window=500.0&timeout=0.5"
    assert set(specs) == {"Model", name}
    assert (specs[name].timeout, specs[name].memory, specs[name].max_containers) == (0.5, 64, 1)
    assert (specs["Model"].timeout, specs["Model"].memory, specs["Model"].max_containers) == (300.0, 0, 0)
    (record,) = [r for r in cluster.on_server(lambda server: server.deployments.records()) if r["name"] == "shop"]
    assert record["functions"] == ["Batches", "Model", "plain"]


def test_options_of_a_caller_go_on_with_the_next_version(cluster, tmp_path):
    models(1).deploy()
    other = greenroom.Cls.from_name("shop", "Model").with_options(timeout=77)
    assert other(size=4).tell.remote() == (1, 4)
    call = other(size=4).tell.spawn()
    assert call.get(timeout=30) == (1, 4)
    models(2).deploy()
    assert "Model?timeout=77.0" in specs_of(cluster, "Model"), "it was made ready before the version answered"
    assert other(size=4).tell.remote() == (2, 4)
    assert other(size=4).tell.spawn().get(timeout=30) == (2, 4)


def test_a_class_with_other_concurrency_and_batches(cluster):
    models(1).deploy()
    at_once = greenroom.Cls.from_name("shop", "Model").with_options(max_containers=1).with_concurrency(max_inputs=3)
    assert max(at_once().both.map([3, 3, 3])) == 3
    batches = greenroom.Cls.from_name("shop", "Batches")
    assert max(batches().sizes.map(range(20))) <= 2
    larger = batches.with_options(max_containers=1).with_batching(max_batch_size=10, wait_ms=2000)
    assert max(larger().sizes.map(range(10))) > 2


def test_what_a_caller_can_not_change_is_said(cluster):
    models(1).deploy()
    model = greenroom.Cls.from_name("shop", "Model")
    for option, why in (
        ("image", "it is a part of the deployed version"), ("secrets", "who may have a secret is said where"),
        ("env", "values in it"), ("min_containers", "belong to the version"), ("schedule", "goes on a function"),
        ("max_inputs", r"write \.with_concurrency"), ("serialized", "part of the deployed version"),
    ):  # fmt: skip
        with pytest.raises(greenroom.InvalidError, match=rf"Cls.with_options: {option}= can't be another .*{why}"):
            model.with_options(**{option: 1})
    for wrong, says in (
        ({"cpus": 1}, "knows no cpus=; did you mean cpu="), ({"timeout": 0}, "timeout=0 must be"),
        ({"max_containers": 0}, "max_containers=0 must be"), ({"retries": 99}, "retries=99 must be"),
        ({"memory": (2, 1)}, "not above the limit"),
    ):  # fmt: skip
        with pytest.raises(greenroom.InvalidError, match=says):
            model.with_options(**wrong)
    for wrong in ({"max_inputs": 0}, {"max_inputs": 2, "target_inputs": 3}):
        with pytest.raises(greenroom.InvalidError, match=r"Cls.with_concurrency: "):
            model.with_concurrency(**wrong)
    with pytest.raises(greenroom.InvalidError, match=r"Cls.with_batching: wait_ms=-1"):
        model.with_batching(max_batch_size=1, wait_ms=-1)
    with pytest.raises(greenroom.NotFoundError, match="shop.Model.with_batching: none of its methods takes batches"):
        model.with_batching(max_batch_size=3, wait_ms=1)().tell.remote()
    with pytest.raises(greenroom.NotFoundError, match="shop.Batches.with_concurrency: its methods take batches"):
        greenroom.Cls.from_name("shop", "Batches").with_concurrency(max_inputs=2)().sizes.remote(1)
    with pytest.raises(greenroom.NotFoundError, match="shop.plain is a function, and only classes"):
        greenroom.Cls.from_name("shop", "plain").with_options(cpu=1)().x.remote()
    with pytest.raises(
        greenroom.NotFoundError, match="the deployed app shop has no 'Nope'; it has Batches, Model, plain"
    ):
        greenroom.Cls.from_name("shop", "Nope").with_options(cpu=1)().x.remote()
    with pytest.raises(greenroom.InvalidError, match="asks for 99999999 MiB of memory"):
        model.with_options(memory=99_999_999)().tell.remote()


def test_there_is_an_end_to_sets_of_options(cluster):
    models(1).deploy()
    model = greenroom.Cls.from_name("shop", "Model")
    cluster.on_server(lambda server: [
        server.deployments.function(f"@shop/Model?max_containers={n}") for n in range(1, 101)])  # fmt: skip
    with pytest.raises(
        greenroom.NotFoundError, match="more sets of options than shop may be with, 100: deploy it again"
    ):
        model.with_options(max_containers=500)().tell.remote()
    assert model.with_options(max_containers=50)().tell.remote() == (1, 3)
    models(2).deploy()
    assert model.with_options(max_containers=500)().tell.remote() == (2, 3)


def test_a_container_calls_other_apps_by_name(cluster):
    shop(1).deploy()
    app = greenroom.App("caller")

    @app.function(serialized=True)
    def call(x):
        import greenroom

        which = greenroom.Function.from_name("shop", "which")
        return which.remote(x), which.spawn(x + 1).get()

    with app.run():
        assert call.remote(5) == ((1, 5), (1, 6))


def test_endpoints_have_lasting_urls_that_only_those_find_who_know_them(cluster):
    from urllib.error import HTTPError
    from urllib.request import urlopen

    def made(version):
        app = greenroom.App("shop")

        def page():
            async def application(scope, receive, send):
                if scope["type"] != "http":
                    raise RuntimeError("no lifespan")
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"%d" % version})

            return application

        app.function(serialized=True, name="page")(greenroom.asgi_app()(page))
        return app

    def read():
        with urlopen(url, timeout=30) as response:
            return response.read()

    made(1).deploy()
    url = greenroom.Function.from_name("shop", "page").web_url
    assert url.endswith("/shop-page")
    assert read() == b"1"
    made(2).deploy()
    assert (read(), greenroom.Function.from_name("shop", "page").get_web_url()) == (b"2", url)
    with pytest.raises(HTTPError) as found:
        urlopen(url.replace("shop-page", "nope"), timeout=30)
    assert b"shop-page" not in found.value.read()
    found.value.close()


def test_under_load_no_call_fails_while_versions_change(cluster):
    shop(1).deploy()
    seen, over = [], []

    def ask():
        which = named("which")
        while not over:
            try:
                seen.append(which.remote()[0])
            except Exception as error:
                seen.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for version in (2, 3, 4):
            wait_for(lambda: seen[-1:] == [version - 1] and len(seen) > 50, what=str(seen[-3:]))  # noqa: B023
            shop(version).deploy()
        wait_for(lambda: seen[-1:] == [4], what="the last one answers")
    finally:
        over.append(True)
        for thread in threads:
            thread.join()
    assert set(seen) == {1, 2, 3, 4}


def test_of_500_calls_a_second_none_is_lost_and_none_meets_a_container_that_is_not_ready(cluster):
    def made(version):
        app = greenroom.App("shop")

        @app.cls(serialized=True, max_containers=2)
        class Model:
            @greenroom.enter()
            def load(self):
                import time

                time.sleep(0.3)
                self.ready = version

            @greenroom.method()
            def which(self):
                return version, getattr(self, "ready", None)

            @greenroom.exit()
            def leave(self):
                self.ready = "left"

        return app

    latest, over = [0], threading.Event()

    async def one(which):
        found = await which.remote.aio()
        latest[0] = found[0]
        return found

    async def load():
        """Each call has its time, whatever became of those before it."""
        loop, which = asyncio.get_running_loop(), greenroom.Cls.from_name("shop", "Model")().which
        begun, calls = loop.time(), []
        while not over.is_set():
            calls.append(asyncio.ensure_future(one(which)))
            await asyncio.sleep(max(0.0, begun + len(calls) / 500 - loop.time()))
        return await asyncio.gather(*calls, return_exceptions=True), loop.time() - begun

    made(1).deploy()
    with ThreadPoolExecutor(1) as beside:
        loaded = beside.submit(lambda: asyncio.run(load()))
        try:
            for version in (2, 3, 4):
                wait_for(lambda: latest[0] == version - 1 or loaded.done())  # noqa: B023
                made(version).deploy()
            wait_for(lambda: latest[0] == 4 or loaded.done())
        finally:
            over.set()
        found, seconds = loaded.result()
    print(f"{len(found)} calls in {seconds:.1f} s: {len(found) / seconds:.0f} a second")
    assert set(found) == {(1, 1), (2, 2), (3, 3), (4, 4)}


def test_the_end_of_one_runs_its_exit_hooks(cluster, tmp_path):
    app = greenroom.App("shop")

    @app.cls(serialized=True, min_containers=1)
    class Model:
        @greenroom.method()
        def f(self):
            return os.getpid()

        @greenroom.exit()
        def leave(self):
            (tmp_path / "left").touch()

    app.deploy()
    greenroom.Cls.from_name("shop", "Model")().f.remote()
    deployed = cluster.on_server(lambda server: server.deployments.current["shop"])
    cluster.on_server(lambda server: server.stop_app(deployed, "stopped"))
    cluster.wait_until(lambda: not cluster.containers())
    assert (tmp_path / "left").exists()
    with pytest.raises(greenroom.NotFoundError, match="no app 'shop' is deployed"):
        greenroom.Cls.from_name("shop", "Model")().f.remote()


def test_a_program_that_leaves_before_it_has_deployed_leaves_nothing(cluster):
    from greenroom.sdk.session import close_session, open_session
    from greenroom.wire.deploy_messages import CreateVersion

    session = open_session()
    session.request(CreateVersion(1, "ap-none", "shop", "rolling"))
    close_session(session)
    cluster.wait_until(lambda: not cluster.on_server(lambda server: server.apps))


def test_a_start_that_fails_is_tried_three_times_before_its_caller_hears_of_it(held, tmp_path):
    app = greenroom.App("shop")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def load(self):
            starts = len(list(tmp_path.glob("start-*")))
            (tmp_path / f"start-{starts}").touch()
            if not (tmp_path / "mended").exists():
                raise RuntimeError("no model")

        @greenroom.method()
        def get(self):
            return "got"

    def starts():
        return len(list(tmp_path.glob("start-*")))

    app.deploy()
    get = greenroom.Cls.from_name("shop", "Model")().get
    call = get.spawn()
    for number, pause in ((1, 1), (2, 2)):
        held.wait_until(lambda number=number: starts() == number and not held.containers())
        held.clock.advance(pause + 0.1)
    with pytest.raises(RuntimeError, match="no model"):
        call.get(timeout=30)
    assert starts() == 3
    held.wait_until(lambda: not held.containers())
    again = get.spawn()
    held.wait_until(lambda: starts() == 4 and not held.containers())
    (tmp_path / "mended").touch()
    held.clock.advance(60)
    assert again.get(timeout=30) == "got"


def test_numbers_are_seen_and_changed_until_the_next_version(cluster):
    shop(1).deploy()
    which = named("which")
    assert which.get_current_stats() == (0, 0)
    which.update_autoscaler(min_containers=2, scaledown_window=300)
    cluster.wait_until(lambda: which.get_current_stats().num_total_runners == 2)
    assert asyncio.run(which.get_current_stats.aio()).backlog == 0
    asyncio.run(which.update_autoscaler.aio(min_containers=0, max_containers=1, scaledown_window=2))
    cluster.wait_until(lambda: which.get_current_stats().num_total_runners == 0)
    for wrong, says in (
        ({"min_containers": -1}, r"update_autoscaler\(\): min_containers=-1 must be a whole number of at least 0"),
        ({"min_containers": "1"}, "a whole number of at least 0"),
        ({"min_containers": 10**30}, "must be less than 2147483648"),
        ({"max_containers": 0}, "max_containers=0 must be a whole number of at least 1"),
        ({"scaledown_window": float("nan")}, "scaledown_window=nan must be a number of seconds above 0"),
        ({"scaledown_window": float("inf")}, "scaledown_window=inf must be less than 1e"),
        ({"cpu": 1}, "knows no cpu"),
        ({"min_containers": 5}, "min_containers=5 is more than max_containers=1"),
    ):
        with pytest.raises(greenroom.InvalidError, match=says):
            which.update_autoscaler(**wrong)
    with pytest.raises(greenroom.NotFoundError, match="has no 'nope'"):
        named("nope").get_current_stats()
    greenroom.Cls.from_name("shop", "wait")().update_autoscaler(buffer_containers=1)  # as of a class
    assert "wait" in {
        f.spec.name for f in cluster.on_server(lambda s: list(s.functions.values())) if f.spec.buffer_containers
    }
    shop(2).deploy()
    assert [f.spec.min_containers for f in cluster.on_server(lambda server: list(server.functions.values()))] == [0, 0]


def test_the_backlog_is_what_waits(cluster, tmp_path):
    shop(1).deploy()
    wait, path = named("wait"), str(tmp_path / "x")
    calls = [wait.spawn(path) for _ in range(6)]
    cluster.wait_until((tmp_path / "x").exists)
    calls[3].cancel()
    assert wait.get_current_stats() == (4, 1)
    many = wait.spawn_map([path] * 10_500)  # more than wait in memory
    assert wait.get_current_stats() == (10_504, 1)
    many.cancel()
    cluster.wait_until(lambda: wait.get_current_stats() == (4, 1))
    (tmp_path / "x.go").touch()
    assert [call.get(timeout=30) for call in (*calls[:3], *calls[4:])] == [1] * 5


def test_a_lower_most_holds_for_containers_that_are_never_idle_too(cluster, tmp_path):
    app = greenroom.App("shop")

    def work(x, go):
        import pathlib
        import time

        pathlib.Path(f"{go}.{x}").touch()
        while not pathlib.Path(go).exists():
            time.sleep(0.01)
        return x

    app.function(serialized=True, name="work", scaledown_window=300)(work)
    app.deploy()
    calls = [named("work").spawn(x, str(tmp_path / "go")) for x in range(3)]
    cluster.wait_until(lambda: len(list(tmp_path.iterdir())) == 3)
    named("work").update_autoscaler(max_containers=1)
    states = sorted(record["state"] for record in cluster.containers())
    assert states == ["DRAINING", "DRAINING", "RUNNING"]
    last = named("work").spawn(3, str(tmp_path / "go"))
    (tmp_path / "go").touch()
    assert [call.get(timeout=30) for call in [*calls, last]] == [0, 1, 2, 3]
    cluster.wait_until(lambda: [record["state"] for record in cluster.containers()] == ["IDLE"])
