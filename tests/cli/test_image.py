"""``greenroom image``, and a shell in an image, through the real command line."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Need, assert_nothing_left

PROGRAM = """
import greenroom
app = greenroom.App("kept")

@app.cls(image=greenroom.Image.host().workdir("sub"))
class Model:
    @greenroom.build()
    def first(self):
        with open("first", "wb") as file:
            file.write(bytes(range(256)) * 8)

    @greenroom.build()
    def second(self):
        with open("second", "w") as file:
            file.write("x")

    @greenroom.method()
    def get(self):
        pass

@app.function()
def plain():
    pass
"""


def greenroom(*words: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "greenroom.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.fixture(params=["process", "crun"])
def program(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A program's file, in a state directory of its own, in each sandbox."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where a shell in a plain process notes what was typed
    monkeypatch.setenv("GREENROOM_SANDBOX", "process" if request.param == "process" else "oci")
    if request.param != "process":
        Need.runtime(request.param)
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    yield file
    assert_nothing_left(home)


def layer_files(home: Path, name: str) -> Path:
    (found,) = (path for path in home.glob("layers/*/fs/**/*") if path.name == name and is_top(home, path, name))
    return found


def is_top(home: Path, path: Path, name: str) -> bool:
    """A plain process's layer holds what is below it as well."""
    record = json.loads((home / "layers" / path.relative_to(home / "layers").parts[0] / "layer.json").read_text())
    return record["text"] == f"@build Model.{name}"


def test_an_empty_store(home: Path) -> None:
    assert greenroom("image", "list").stdout.startswith("no images: ")
    assert json.loads(greenroom("image", "list", "--json").stdout) == []
    assert greenroom("image", "verify").stdout == "nothing to verify: no layer has been built here\n"
    assert greenroom("image", "prune", "--all").stdout == "removed 0 layers, 0 B\n"
    missing = greenroom("image", "inspect", "abc")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "there is no image abc; `greenroom image list` shows them" in missing.stderr
    unnamed = greenroom("image", "inspect", "")
    assert (unnamed.returncode, unnamed.stderr) == (
        2,
        "greenroom: no image is named; `greenroom image list` shows them\n",
    )


def test_what_was_built_is_listed_inspected_verified_and_pruned(program: Path, home: Path) -> None:
    built = greenroom("image", "build", str(program))
    assert (built.returncode, built.stdout) == (0, "1 image ready\n")
    assert "is ready" not in built.stderr and "app ended" not in built.stderr  # no app has run
    assert built.stderr.count("✓ image ") == 2
    said = "in a plain process absolute paths are this machine's own"
    assert built.stderr.count(said) == (os.environ["GREENROOM_SANDBOX"] == "process")
    again = greenroom("image", "build", str(program))
    assert (again.stdout, again.stderr) == ("1 image ready\n", "")

    (record,) = json.loads(greenroom("image", "list", "--json").stdout)
    texts = [step["text"] for step in record["steps"]]
    assert texts == [".workdir('sub')", "@build Model.first", "@build Model.second"]
    assert (record["name"], record["in_use"], len(record["layers"])) == ("kept.Model", False, 2)
    steps = [step for step in record["steps"] if step["layer"]]
    # A plain process's layer holds what is below it as well.
    assert [step["size"] for step in steps] == ([2048, 2049] if record["sandbox"] == "process" else [2048, 1])
    assert record["size"] == sum(step["size"] for step in steps)
    assert all(0 < step["seconds"] < 60 and step["where"].startswith("program.py:") for step in steps)
    lines = greenroom("image", "list").stdout.splitlines()
    assert lines[1].startswith(record["key"][:12]) and " kept.Model " in lines[1]
    assert lines[2].endswith(" in 2 layers, each kept once")

    assert json.loads(greenroom("image", "inspect", record["key"][:5], "--json").stdout) == record
    shown = greenroom("image", "inspect", record["key"]).stdout
    assert "2.0 KiB" in shown and "@build Model.first" in shown and "program.py:7" in shown

    assert greenroom("image", "verify").stdout == "✓ 2 layers as made\n"
    assert greenroom("image", "verify", record["key"][:12]).stdout == "✓ 2 layers as made\n"
    assert greenroom("image", "prune").stdout == "removed 0 layers, 0 B\n"
    unclear = greenroom("image", "prune", "--older-than", "7")
    assert unclear.returncode == 2 and "'7' is no age: write it like 30m, 12h, 7d or 2w" in unclear.stderr
    trial = greenroom("image", "prune", "--all", "--dry-run").stdout
    assert trial.startswith("would remove 2 layers, ")
    assert greenroom("image", "prune", "--all").stdout == trial.replace("would remove", "removed")
    assert greenroom("image", "list").stdout.startswith("no images: ")


def test_ids_that_several_images_have(program: Path) -> None:
    greenroom("image", "build", str(program))
    program.write_text(PROGRAM.replace('"x"', '"y"'))
    greenroom("image", "build", str(program))
    several = greenroom("image", "inspect", "")
    assert several.returncode == 2
    assert "several images begin with" in several.stderr and "`greenroom image list`" in several.stderr


def test_layers_that_are_not_as_made_are_named(program: Path, home: Path) -> None:
    greenroom("image", "build", str(program))
    changed = layer_files(home, "second")
    changed.write_text("y")
    verified = greenroom("image", "verify")
    assert (verified.returncode, verified.stderr) == (1, "")
    assert "@build Model.second: it has changed since it was made\n" in verified.stdout
    assert "1 of 2 layers not as made; `greenroom image prune --all` removes" in verified.stdout
    (record,) = json.loads(greenroom("image", "list", "--json").stdout)
    (home / "layers" / record["layers"][0] / "layer.json").write_text("{")
    shutil.rmtree(home / "layers" / record["layers"][1] / "fs")
    verified = greenroom("image", "verify")
    assert verified.returncode == 1
    assert f"✗ {record['layers'][0][:12]} its record can't be read\n" in verified.stdout
    assert greenroom("image", "list").stdout.startswith("no images: ")
    rebuilt = greenroom("image", "build", str(program))
    assert (rebuilt.returncode, rebuilt.stderr.count("✓ image ")) == (0, 2), rebuilt.stderr
    assert greenroom("image", "verify").stdout == "✓ 2 layers as made\n"


def test_a_store_of_another_user_is_said(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    (home / "layers").mkdir(mode=0o700)
    interpreter = Path(sys.executable).resolve()
    if not all(parent.stat().st_mode & 0o001 for parent in [*interpreter.parents, *Path(sys.executable).parents]):
        pytest.skip("another user can't run this interpreter")
    for command in ("list", "verify", "prune"):
        words = [sys.executable, "-m", "greenroom.cli.main", "image", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, user=65534, group=65534)
        assert done.returncode == 2, done.stderr
        assert "Permission denied" in done.stderr and "Traceback" not in done.stderr


def test_a_shell_opens_in_the_image_with_its_build_layers(program: Path) -> None:
    typed = greenroom("shell", f"{program}::Model", input="cat second; pwd; wc -c < first\n")
    assert typed.returncode == 0, typed.stderr
    assert "x" in typed.stdout and "/sub\n" in typed.stdout and "2048" in typed.stdout


@pytest.mark.parametrize("command", [["image", "build"], ["shell", "-c", "true"]], ids=" ".join)
def test_programs_that_fail(home: Path, tmp_path: Path, command: list[str]) -> None:
    """As with ``run``: their own frames alone, and an image that can't be built is no misuse."""
    file = tmp_path / "program.py"
    file.write_text("raise ValueError('too early')\n")
    done = greenroom(*command, str(file))
    shown = f"Traceback (most recent call last):\n  File \"{file}\", line 1, in <module>\n    raise ValueError('too early')\n"
    assert (done.returncode, done.stderr) == (1, f"{shown}ValueError: too early\n")
    file.write_text("import greenroom\napp = greenroom.App()\n@app.function(cpus=1)\ndef f(): ...\n")
    done = greenroom(*command, str(file))
    assert (done.returncode, done.stderr.count("  File ")) == (1, 1), (
        "an error of ours, too, says where the program made it"
    )
    assert f'File "{file}", line 3' in done.stderr and "knows no cpus=; did you mean cpu=?" in done.stderr
    file.write_text(
        "import greenroom\napp = greenroom.App('fails', image=greenroom.Image.host().run_commands('exit 3'))\n"
        "@app.function()\ndef f(): ...\n"
    )
    done = greenroom(*command, f"{file}::f" if "shell" in command else str(file))
    assert done.returncode == 1 and "exit status 3" in done.stderr and "Traceback" not in done.stderr
    assert_nothing_left(home)


def test_layers_are_written_as_other_tools_read_them(program: Path, home: Path, tmp_path: Path) -> None:
    assert greenroom("image", "build", str(program)).returncode == 0
    (record,) = json.loads(greenroom("image", "list", "--json").stdout)
    target = tmp_path / "out"
    done = greenroom("image", "export", record["key"][:12], str(target))
    if os.environ["GREENROOM_SANDBOX"] == "process":
        assert (done.returncode, target.exists()) == (2, False)
        assert "was made in plain processes, and has no file system of its own" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    (manifest,) = json.loads((target / "index.json").read_text())["manifests"]
    assert manifest["digest"] in done.stdout
    blobs = target / "blobs" / "sha256"
    described = json.loads((blobs / manifest["digest"].removeprefix("sha256:")).read_text())
    config = json.loads((blobs / described["config"]["digest"].removeprefix("sha256:")).read_text())
    assert config["config"]["WorkingDir"] == "/root/sub"
    assert [line["created_by"] for line in config["history"]] == ["@build Model.first", "@build Model.second"]
    names = []
    for layer in described["layers"]:
        with tarfile.open(blobs / layer["digest"].removeprefix("sha256:")) as archive:
            names += [member.name for member in archive if member.isfile()]
    assert names == ["root/sub/first", "root/sub/second"]
    again = greenroom("image", "export", record["key"], str(target))
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    assert greenroom("image", "export", record["key"], str(tmp_path / "one.tar")).returncode == 0
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert "index.json" in archive.getnames()
