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

    @app.function(serialized=True, min_containers=1, volumes={"/v": greenroom.Volume.from_name("v")})
    def keep():
        return "here"

    return app, plain, keep


NEEDS = {
    "Image.from_aws_ecr": {"image": greenroom.Image.from_aws_ecr("x")},
    "volumes=": {"volumes": {"/v": greenroom.Volume.from_name("v")}},
    "ephemeral_disk=": {"ephemeral_disk": 1024},
    "enable_memory_snapshot=": {"enable_memory_snapshot": True},
    "mounts=": {"mounts": [greenroom.Mount.from_local_file("a").add_local_file("b")]},
    "network_file_systems=": {"network_file_systems": {"/n": greenroom.NetworkFileSystem.persisted("n")}},
}


def test_the_other_functions_of_a_file_run(cluster):
    app, plain, keep = make_app()
    recorder = Recorder()
    with use_sink(recorder), app.run():
        assert plain.remote(1) == 2
        assert keep.local() == "here"
        for use in (
            lambda: keep.remote(),
            lambda: list(keep.map([1])),
            lambda: keep.spawn(),
            lambda: keep.object_id,
        ):
            with pytest.raises(NotImplementedError, match="^volumes= is not built yet: keep$"):
                use()
        assert len(cluster.containers()) == 1, "min_containers of what can't run start nothing"
    assert recorder.notices == ["volumes= is not built yet; this app runs without keep"]


@pytest.mark.parametrize("feature", NEEDS)
def test_what_a_function_needs_is_named_when_it_is_called(feature):
    app = greenroom.App("t")

    @app.function(serialized=True, **NEEDS[feature])
    def f():
        return 1

    @app.cls(serialized=True, **NEEDS[feature])
    class K:
        @greenroom.method()
        def m(self):
            return 2

    assert (f.local(), K().m.local()) == (1, 2)
    with pytest.raises(NotImplementedError, match="not built yet.*: K.m$"):
        K.with_options(gpu="T4")().m.remote()
    with pytest.raises(NotImplementedError) as refused:
        f.remote()  # though no app runs
    assert str(refused.value).startswith(f"{feature} is not built yet")
    assert str(refused.value).endswith(": f")
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
        _, _, keep = make_app()
        async for way in ways(keep):
            with pytest.raises(NotImplementedError, match="volumes= is not built yet: keep"):
                await way

    asyncio.run(main())


def test_a_function_that_travels_refuses_there_too(cluster):
    app, _, keep = make_app()

    @app.function(serialized=True)
    def call():
        try:
            keep.remote()
        except NotImplementedError as error:
            return str(error)

    with app.run():
        assert call.remote() == "volumes= is not built yet: keep"


def test_a_deployed_class_with_other_options():
    there = greenroom.Cls.lookup("app", "Model").with_options(volumes={"/v": greenroom.Volume.from_name("v")})
    for model in (there, there.with_options(cpu=2), there.with_concurrency(max_inputs=2)):
        with pytest.raises(NotImplementedError, match=r"volumes= is not built yet: app.Model.predict"):
            model(size="x").predict.remote(1)


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
    image = greenroom.Image.from_aws_ecr("x")

    @app.function(serialized=True)
    def f():
        with image.imports():
            import no_such_module_anywhere  # noqa: F401
        return "went on"

    recorder = Recorder()
    with use_sink(recorder), app.run():
        assert f.remote() == "went on"
    assert any("no_such_module_anywhere" in line for line in recorder.lines())
