"""Steps that install more than Python packages: what they ask the programs for that do it."""

from pathlib import Path

import pytest

import greenroom
from greenroom.agent import system
from greenroom.agent.system import JOBS
from greenroom.model.image import ImageSpec
from greenroom.sdk.image_plan import Plan

PROGRAM = """\
#!/bin/sh
printf '%s\\n' "$@" > {0}/asked
echo "$MAMBA_ROOT_PREFIX" > {0}/kept
while [ $# -gt 0 ]; do [ "$1" != --file ] || cp "$2" {0}/; shift; done
exit 3
"""


@pytest.fixture
def program(tmp_path) -> list[str]:
    """What stands for micromamba, and notes how it is asked."""
    path = tmp_path / "micromamba"
    path.write_text(PROGRAM.format(tmp_path))
    path.chmod(0o755)
    return [str(path)]


def asked(tmp_path: Path) -> list[str]:
    return (tmp_path / "asked").read_text().splitlines()


def step_of(image: greenroom.Image) -> dict:
    """As the worker is told of its last step."""
    spec = ImageSpec.from_json(Plan("").describe(image).to_json())
    return spec.steps[-1].key


def test_conda_packages_are_asked_for_with_their_channels(tmp_path, program, capfd, monkeypatch):
    monkeypatch.setattr(system, "_CONDA", str(tmp_path / "conda"))
    job = {"program": program, "packages": ["numpy", "bio::samtools"], "channels": ["conda-forge", "https://u:canary@x/own"],
           "file": "", "name": ""}  # fmt: skip
    assert JOBS["conda"](job) == 3
    channels = ["--channel", "conda-forge", "--channel", "https://u:canary@x/own"]
    assert asked(tmp_path) == ["create", "--yes", "--prefix", f"{tmp_path}/conda", *channels, "numpy", "bio::samtools"]
    assert "canary" not in capfd.readouterr().out
    (tmp_path / "conda/conda-meta").mkdir(parents=True)
    JOBS["conda"](job)
    assert asked(tmp_path)[0] == "install"


def test_a_file_of_conda_packages_keeps_its_name_and_nothing_stays_behind(tmp_path, program):
    for name, text in (("environment.yaml", "dependencies: [numpy]\n"), ("spec.txt", "# a: b\nconda-forge::numpy\n")):
        assert JOBS["conda"]({"program": program, "packages": [], "channels": [], "file": text, "name": name}) == 3
        assert (tmp_path / name).read_text() == text
        assert Path(asked(tmp_path)[-1]).name == name
        assert not Path(asked(tmp_path)[-1]).parent.exists()
        kept = Path((tmp_path / "kept").read_text().strip())
        assert kept.parent == Path(asked(tmp_path)[-1]).parent


def test_a_step_of_conda_packages_has_all_that_its_job_needs(tmp_path):
    written = tmp_path / "environment.yml"
    written.write_text("dependencies: [numpy]\n")
    image = greenroom.Image.debian_slim().micromamba_install("scipy", spec_file=written, channels=["conda-forge"])
    key = step_of(image)
    assert {name: key[name] for name in ("packages", "channels", "file", "name")} == {
        "packages": ["scipy"], "channels": ["conda-forge"], "file": "dependencies: [numpy]\n", "name": "environment.yml",
    }  # fmt: skip
    key = step_of(greenroom.Image.micromamba("3.12"))
    assert (key["packages"], key["channels"], key["file"]) == (["python=3.12", "pip"], ["conda-forge"], "")


def test_an_image_without_apt_says_so(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert JOBS["apt"]({"packages": ["git"]}) == 1
    assert "there is no apt-get in the image" in capsys.readouterr().err
