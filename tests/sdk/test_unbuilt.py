"""Features that later versions build: a program that names them loads, runs what it can, and is told of the rest."""

import types
import typing

import pytest

import greenroom
from greenroom.sdk.output import use_sink
from greenroom.testing import Cluster
from tests.contract.conftest import Recorder


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as made:
        yield made


def make_app():
    app = greenroom.App("t")

    @app.function(serialized=True)
    def plain(x):
        return x + 1

    @app.function(serialized=True, min_containers=1)
    @greenroom.fastapi_endpoint()
    def web():
        return "here"

    return app, plain, web


NEEDS = {
    "image=": {"image": greenroom.Image.debian_slim()},
    "volumes=": {"volumes": {"/v": greenroom.Volume.from_name("v")}},
    "schedule=": {"schedule": greenroom.Period(days=1)},
    "enable_memory_snapshot=": {"enable_memory_snapshot": True},
    "mounts=": {"mounts": [greenroom.Mount.from_local_file("a").add_local_file("b")]},
    "network_file_systems=": {"network_file_systems": {"/n": greenroom.NetworkFileSystem.persisted("n")}},
    "Secret.from_name('s')": {"secrets": [greenroom.Secret.from_name("s", required_keys=["K"])]},
}


def test_the_other_functions_of_a_file_run(cluster):
    app, plain, web = make_app()
    recorder = Recorder()
    with use_sink(recorder), app.run():
        assert plain.remote(1) == 2
        assert web.local() == "here"
        for use in (lambda: web.remote(), lambda: list(web.map([1])), lambda: web.spawn(), lambda: web.object_id):
            with pytest.raises(NotImplementedError, match="^web endpoints are not built yet: web$"):
                use()
        assert len(cluster.containers()) == 1, "min_containers of what can't run start nothing"
    assert recorder.notices == ["web endpoints are not built yet; this app runs without web"]


@pytest.mark.parametrize("feature", NEEDS)
def test_what_a_function_needs_is_named_when_it_is_called(feature):
    app = greenroom.App("t")

    @app.function(serialized=True, **NEEDS[feature])
    def f():
        return 1

    @app.cls(serialized=True, **{name: value for name, value in NEEDS[feature].items() if name != "schedule"})
    class K:
        @greenroom.method()
        def m(self):
            return 2

    assert (f.local(), K().m.local()) == (1, 2)
    with pytest.raises(NotImplementedError, match="not built yet.*: K.m$"):
        K.with_options(gpu="T4")().m.remote()
    images = " (Greenroom has no images so far)" if feature == "image=" else ""
    with pytest.raises(NotImplementedError) as refused:
        f.remote()  # though no app runs
    assert str(refused.value).startswith(f"{feature} is not built yet{images}")
    assert str(refused.value).endswith(": f")
    if feature != "schedule=":
        with pytest.raises(NotImplementedError, match="not built yet.*: K.m$"):
            K().m.spawn()


async def ways(f):
    yield f.remote.aio()
    yield f.spawn.aio()
    yield anext(aiter(f.map([1])))
    yield f.spawn_map.aio([1])


def test_from_coroutines():
    import asyncio

    async def main():
        _, _, web = make_app()
        async for way in ways(web):
            with pytest.raises(NotImplementedError, match="web endpoints are not built yet: web"):
                await way

    asyncio.run(main())


def test_hooks_and_batches():
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class K:
        @greenroom.build()
        def download(self): ...

        @greenroom.method()
        def m(self):
            return 2

    @app.cls(serialized=True)
    class B:
        @greenroom.method()
        @greenroom.batched(max_batch_size=2, wait_ms=1)
        def m(self, xs):
            return xs

    for cls in (K, B):
        with pytest.raises(NotImplementedError, match="@b.* is not built yet.*: [KB].m"):
            cls().m.remote()
    assert K().m.local() == 2


def test_a_class_runs_without_its_web_endpoints(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class K:
        @greenroom.enter()
        def load(self):
            self.ready = True

        @greenroom.method()
        def m(self):
            return self.ready

        @greenroom.fastapi_endpoint()
        def web(self):
            return self.ready

    @app.cls(serialized=True, min_containers=1)
    class OnlyWeb:
        @greenroom.asgi_app()
        def web(self):
            return "app"

    assert app.registered_web_endpoints == ["K.web", "OnlyWeb.web"]
    with app.run():
        assert K().m.remote() is True
        assert K().web.local() is True
        for cls in (K, OnlyWeb):
            with pytest.raises(NotImplementedError, match="^web endpoints are not built yet: (K|OnlyWeb).web$"):
                cls().web.remote()
        assert len(cluster.containers()) == 1


def test_a_function_that_travels_refuses_there_too(cluster):
    app, _, web = make_app()

    @app.function(serialized=True)
    def call():
        try:
            web.remote()
        except NotImplementedError as error:
            return str(error)

    with app.run():
        assert call.remote() == "web endpoints are not built yet: web"


def test_what_deployed_apps_have():
    f = greenroom.Function.from_name("app", "f", environment_name="main")
    with pytest.raises(NotImplementedError, match=r"deployed apps are not built yet: Function.from_name\('app', 'f'\)"):
        f.remote(1)
    for use in (lambda: f.local(), lambda: list(f.remote_gen()), lambda: f.spawn(), lambda: list(f.map([1]))):
        with pytest.raises(NotImplementedError, match="deployed apps are not built yet"):
            use()
    Model = greenroom.Cls.lookup("app", "Model").with_options(gpu="T4")
    model = Model(size="x")
    with pytest.raises(NotImplementedError, match=r"Model'.*predict.remote\(…\): deployed apps are not built yet"):
        model.predict.remote(1)


def test_names_in_annotations_and_isinstance():
    Volume = greenroom.Volume
    for hint in (Volume | None, None | Volume, typing.Optional[Volume], Volume | greenroom.Dict):  # noqa: UP045
        assert Volume in typing.get_args(hint)
    assert not isinstance(1, Volume) and not isinstance(greenroom.Dict.from_name("d"), Volume)
    assert isinstance(Volume.from_name("v"), Volume)
    assert not issubclass(int, Volume)
    assert greenroom.Dict.from_name("d"), "it has a truth value"


@pytest.mark.parametrize(
    "use",
    [
        lambda d: d["k"],
        lambda d: d.__setitem__("k", 1),
        lambda d: d.__delitem__("k"),
        lambda d: "k" in d,
        lambda d: len(d),
        lambda d: list(d),
        lambda d: d.__enter__(),
        lambda d: types.new_class("X", (d,)),
    ],
)
def test_uses_that_python_spells_without_a_name(use):
    with pytest.raises(NotImplementedError, match=r"Dict.from_name\('d'\).*: Dict is not built yet"):
        use(greenroom.Dict.from_name("d"))


def test_declarations_of_both_eras():
    for declared in (
        ~greenroom.FilePatternMatcher("**/*.py"),
        greenroom.Mount.from_local_dir("a", remote_path="/a").add_local_file("b"),
        greenroom.Volume.from_name("v").read_only(),
        greenroom.Volume.persisted("v"),
    ):
        assert isinstance(repr(declared), str)


def test_gpu():
    gpu = greenroom.gpu
    spelled = [gpu.A100(), gpu.H100(), gpu.T4(count=2), gpu.A100(size="80GB", count=4), gpu.Any(), gpu.L4(3)]
    assert [str(each) for each in spelled] == ["A100", "H100", "T4:2", "A100-80GB:4", "any", "L4:3"]
    app = greenroom.App("t")
    app.function(serialized=True, gpu=gpu.A100(count=2))(lambda: None)
    assert app._functions["<lambda>"][2].fields["gpu"] == "A100:2"
    for wrong in (lambda: gpu.T4(count=0), lambda: gpu.H100(size="80GB"), lambda: gpu.A100(size="1GB")):
        with pytest.raises(greenroom.InvalidError, match="gpu.(T4|H100|A100)"):
            wrong()
    with pytest.raises(NotImplementedError, match="not built yet"):
        gpu.parse_gpu_config("x")


def test_imports_of_an_image_pass_over_what_is_missing_in_a_container_too(cluster):
    app = greenroom.App("t")
    image = greenroom.Image.debian_slim()

    @app.function(serialized=True)
    def f():
        with image.imports():
            import no_such_module_anywhere  # noqa: F401
        return "went on"

    recorder = Recorder()
    with use_sink(recorder), app.run():
        assert f.remote() == "went on"
    assert any("no_such_module_anywhere" in line for line in recorder.lines())
