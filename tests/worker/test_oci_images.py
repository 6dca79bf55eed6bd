"""What real containers say of images before anything runs."""

import sys
from pathlib import Path

import pytest

from greenroom.model.errors import ImageBuildError
from greenroom.model.image import HOST, ImageConfig, Step
from greenroom.worker.host_image import HostImage
from greenroom.worker.rootfs import DRAFT, Ground, RootFilesystem
from greenroom.worker.sandbox.base import Making, Stack
from greenroom.worker.sandbox.oci_images import OciImages
from greenroom.worker.sandbox.process import ProcessSandboxes
from greenroom.worker.toolbox import Toolbox


def images(directory: Path, *programs: str) -> OciImages:
    """On a machine that has these programs."""
    for name in programs:
        (directory / name).touch(mode=0o755)
    host = HostImage([str(directory)], {}, [], str(directory))
    made = OciImages()
    made.ground = Ground(
        directory, directory, directory, host, 0, "", [], directory, Toolbox(host, directory / "agent")
    )
    return made


@pytest.mark.parametrize(
    ("kind", "programs", "fix"),
    [
        ("registry", [], "skopeo and umoci: apt-get install skopeo umoci"),
        ("registry", ["skopeo"], "umoci: apt-get install umoci"),
        ("registry", ["skopeo", "umoci"], ""),
        ("dockerfile", [], "buildah and umoci: apt-get install buildah umoci"),
        ("dockerfile", ["umoci", "skopeo"], "buildah: apt-get install buildah"),
        ("dockerfile", ["umoci", "buildah"], ""),
        ("debian", [], "mmdebstrap: apt-get install mmdebstrap"),
        ("debian", ["mmdebstrap"], ""),
        ("debian", ["skopeo", "umoci"], ""),
        ("scratch", [], ""),
        ("run", [], ""),
    ],
)
def test_a_program_that_is_missing_is_named_with_its_package(tmp_path, kind, programs, fix):
    step = Step(kind, "Image.base()", {}, {}, "app.py:3")
    place = images(tmp_path, *programs)
    if not fix:
        place.check_tools(step)
        return
    with pytest.raises(ImageBuildError) as missing:
        place.check_tools(step)
    assert str(missing.value) == f"Image.base() (app.py:3) needs {fix}"


def test_more_layers_than_a_mount_takes_are_said(tmp_path):
    (tmp_path / "l").mkdir()
    ground = images(tmp_path).ground
    for count in (10, 500):
        stack = Stack([f"{number:064x}"[::-1] for number in range(count)], ImageConfig(own_root=True))
        root = RootFilesystem(ground, "ta-1", None, stack, None)
        if count == 10:
            assert len(root._options()) < 4096
            continue
        with pytest.raises(OSError, match="its image has 500 layers, more than can be mounted"):
            root._options()


def test_an_image_without_a_python_runs_nothing(tmp_path):
    with pytest.raises(OSError, match=r"its image has no Python: Image\.from_scratch is for images that are exported"):
        images(tmp_path).program(Stack([], ImageConfig(own_root=True)), None)


def test_a_link_in_the_place_of_a_bases_root_leads_nowhere(tmp_path):
    """What runs where a base is made can put one there: a Dockerfile's RUN, under an isolation that is no wall."""
    (tmp_path / "machine" / "etc").mkdir(parents=True)
    (tmp_path / "machine" / "etc" / "hosts").write_text("this machine's")
    draft = tmp_path / "draft"
    (draft / DRAFT).mkdir(parents=True)
    (draft / DRAFT / "fs").symlink_to(tmp_path / "machine")
    with pytest.raises(OSError, match="left no directory"):
        images(tmp_path).finish(draft, "", Making(draft, way="builder"))
    assert (tmp_path / "machine" / "etc" / "hosts").exists()


@pytest.mark.parametrize("which", ["prefix", "base_prefix"])
def test_each_interpreter_has_layers_of_its_own_on_the_host_image(tmp_path, monkeypatch, which):
    """Their packages are found by the paths that its own have."""
    for place in (images(tmp_path), ProcessSandboxes()):
        before = place.base_key(Step(HOST, "", {}))
        with monkeypatch.context() as another:
            another.setattr(sys, which, "/elsewhere")
            assert place.base_key(Step(HOST, "", {})) != before
        assert place.base_key(Step(HOST, "", {})) == before


def test_a_tool_that_no_container_sees_is_none(tmp_path):
    (tmp_path / "seen").mkdir()
    place = images(tmp_path / "seen", "there")
    assert place.tool("there", "here")[-1].endswith("/seen/there")
    (tmp_path / "seen" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").touch(mode=0o755)
    for name, fix in (
        ("uv", "pip install uv"),
        ("away", "install it where containers see it, such as /usr/local/bin/away"),
    ):
        with pytest.raises(ImageBuildError, match=f"^here needs {name}: {fix}$"):
            place.tool(name, "here")
