"""Where images with a root file system of their own can't be: in plain processes, and steps of theirs on the host image."""

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster

SLIM = greenroom.Image.debian_slim()
BASES = {
    "Image.debian_slim()": lambda directory: SLIM,
    "Image.debian_slim('3.12')": lambda directory: greenroom.Image.debian_slim("3.12"),
    "Image.from_registry('python:3.12-slim')": lambda directory: greenroom.Image.from_registry("python:3.12-slim"),
    "Image.from_dockerfile('": lambda directory: greenroom.Image.from_dockerfile(directory / "Dockerfile"),
    "Image.from_scratch()": lambda directory: greenroom.Image.from_scratch(),
    "Image.micromamba()": lambda directory: greenroom.Image.micromamba(),
}


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings=Settings(sandbox="process")) as made:
        yield made


def refused(image) -> str:
    app = greenroom.App("t", image=image)
    app.function(serialized=True)(lambda: 1)
    with pytest.raises(greenroom.ImageBuildError) as failed, app.run():
        pass
    return str(failed.value)


@pytest.mark.parametrize("text", BASES)
def test_no_base_is_made_for_a_plain_process(cluster, tmp_path, text):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    said = refused(BASES[text](tmp_path))
    assert said.startswith(text), said
    assert "(test_own_root_refused.py:" in said
    assert "needs real containers, and these are plain processes" in said
    assert said.endswith("run it as root, with crun")
    assert "\n" not in said
    assert not list((cluster.home / "layers").glob("[!.]*"))


def test_no_command_is_run_for_a_plain_process_either(cluster):
    said = refused(greenroom.Image.host().dockerfile_commands("RUN true"))
    assert said.startswith("Image.dockerfile_commands('RUN true') (test_own_root_refused.py:")
    assert "needs a real container" in said


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda host: host.apt_install("git", ["curl"]),
            r"Image.apt_install\('git', 'curl'\): the host image shows this mach",
        ),
        (
            lambda host: host.add_python("3.12"),
            r"Image.add_python\('3.12'\): the host image has this machine's Python; begin",
        ),
        (
            lambda host: host.micromamba_install("numpy"),
            "the host image has no conda environment; begin with Image.micromamba",
        ),
    ],
)
def test_what_the_host_image_can_not_take_is_refused_where_it_is_written(make, says):
    with pytest.raises(greenroom.InvalidError, match=says):
        make(greenroom.Image.host())
    with pytest.raises(greenroom.InvalidError, match=says):
        make(greenroom.Image.host().env({"A": "b"}))
