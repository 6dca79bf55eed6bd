"""The Makefile's own doings: what starts real containers is installed where it is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
APT = """\
#!/bin/sh
echo "$@" >> {notes}
[ "$1" = update ] && : > {lists} && exit 0
[ -e {lists} ] || exit 100
: > {directory}/crun
chmod +x {directory}/crun
"""
"""As Debian's: it knows no package before its lists were fetched."""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A directory of programs: those that a shell needs, and an apt-get. ``lists`` beside it: apt has its lists."""
    if os.geteuid() != 0:
        pytest.skip("nobody else may install anything")
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "id", "chmod"):
        (directory / name).symlink_to(shutil.which(name) or name)
    apt = directory / "apt-get"
    apt.write_text(APT.format(notes=tmp_path / "notes", lists=tmp_path / "lists", directory=directory))
    apt.chmod(0o755)
    return directory


def runtime(machine: Path) -> str:
    """What ``make runtime``, which ``make demo`` needs, says there."""
    command = [shutil.which("make") or "make", "--no-print-directory", "runtime", "SHELL=/bin/sh"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(machine)}, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout


def asked(machine: Path) -> list[str]:
    notes = machine.parent / "notes"
    return [line.split()[0] for line in notes.read_text().splitlines()] if notes.exists() else []


def test_crun_is_installed_where_it_is_missing(machine: Path) -> None:
    (machine.parent / "lists").touch()
    assert runtime(machine) == "installing crun, which starts real containers\n"
    assert asked(machine) == ["install"]
    assert (machine.parent / "notes").read_text().split()[-1] == "crun"
    assert runtime(machine) == "", "it is there now"
    assert asked(machine) == ["install"]


def test_on_a_new_machine_the_lists_are_fetched_first(machine: Path) -> None:
    assert runtime(machine) == "installing crun, which starts real containers\n"
    assert asked(machine) == ["install", "update", "install"]
    assert (machine / "crun").exists()


def test_where_it_can_not_be_installed_the_demo_goes_on(machine: Path) -> None:
    (machine / "apt-get").write_text("#!/bin/sh\nexit 100\n")
    assert runtime(machine).splitlines() == [
        "installing crun, which starts real containers",
        "crun could not be installed (apt-get install crun says why)",
    ]


def test_without_apt_nothing_is_tried(machine: Path) -> None:
    (machine / "apt-get").unlink()
    assert runtime(machine) == ""
