"""``greenroom doctor``: what it says of the sandbox, beside what a run then does."""

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from greenroom.cli import machine
from tests.conftest import Need, assert_nothing_left
from tests.e2e.programs import run, write

PROGRAM = """
    import os
    import greenroom
    app = greenroom.App("which")

    @app.function()
    def which():
        return "real" if os.path.exists("/run/greenroom/server.sock") else "plain"
"""


class Runtimes(NamedTuple):
    """crun and runc, first on the path, each of which notes that it was used."""

    directory: Path
    notes: Path

    def used(self) -> set[str]:
        return {note.name for note in self.notes.iterdir()}


@pytest.fixture
def runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtimes:
    made = Runtimes(tmp_path / "bin", tmp_path / "notes")
    made.directory.mkdir()
    made.notes.mkdir()
    for name in ("crun", "runc"):
        Need.runtime(name)
        real = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
        program = made.directory / name
        program.write_text(f'#!/bin/sh\n[ "$1" = --version ] || : > {made.notes}/{name}\nexec {real} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{made.directory}:{os.environ['PATH']}")
    for name in ("GREENROOM_SANDBOX", "GREENROOM_RUNTIME"):
        monkeypatch.delenv(name, raising=False)
    return made


def told(**environ: str) -> tuple[int, machine.Finding]:
    """The status of ``doctor``, and what it says of the sandbox."""
    done = run("doctor", "--json", **environ)
    findings = {finding["name"]: machine.Finding(**finding) for finding in json.loads(done.stdout)}
    return done.returncode, findings["sandbox"]


@pytest.mark.parametrize(
    ("environ", "used"),
    [
        ({}, "crun"),
        ({"GREENROOM_SANDBOX": ""}, "crun"),
        ({"GREENROOM_SANDBOX": "auto"}, "crun"),
        ({"GREENROOM_SANDBOX": "oci"}, "crun"),
        ({"GREENROOM_SANDBOX": "process"}, ""),
        ({"GREENROOM_RUNTIME": "runc"}, "runc"),
        ({"GREENROOM_RUNTIME": "{bin}/runc"}, "runc"),
        ({"GREENROOM_SANDBOX": "oci", "GREENROOM_RUNTIME": "runc"}, "runc"),
        ({"GREENROOM_SANDBOX": "process", "GREENROOM_RUNTIME": "runc"}, "runc"),
    ],
    ids=str,
)
def test_what_doctor_says_is_what_a_run_takes(
    home: Path, tmp_path: Path, runtimes: Runtimes, environ: dict[str, str], used: str
) -> None:
    environ = {name: value.format(bin=runtimes.directory) for name, value in environ.items()}
    status, sandbox = told(**environ)
    assert (status, sandbox.ok) == (0, True)
    assert sandbox.text.startswith(f"real containers, by {runtimes.directory / used}" if used else "plain processes")
    done = run("run", "-q", f"{write(tmp_path, PROGRAM)}::which", **environ)
    assert (done.returncode, done.stdout) == (0, "real\n" if used else "plain\n"), done.stderr
    assert runtimes.used() == ({used} if used else set())
    assert_nothing_left(home)


@pytest.mark.parametrize(
    ("environ", "mend"),
    [
        ({"GREENROOM_RUNTIME": "no-such-runtime"}, "unset GREENROOM_RUNTIME"),
        ({"GREENROOM_RUNTIME": "/no/such"}, "unset GREENROOM_RUNTIME"),
        ({"GREENROOM_RUNTIME": "runsc", "PATH": "/bin-of-nobody"}, "apt-get install runsc"),
    ],
    ids=str,
)
def test_a_runtime_that_is_not_there_is_told_by_both(
    home: Path, tmp_path: Path, environ: dict[str, str], mend: str
) -> None:
    Need.runtime("crun")
    says = f"there is no {environ['GREENROOM_RUNTIME']} here"
    status, sandbox = told(**environ)
    assert (status, sandbox.ok, sandbox.needed, sandbox.mend) == (1, False, True, mend)
    assert sandbox.text == f"real containers were asked for, and can't be had: {says}"
    done = run("run", f"{write(tmp_path, PROGRAM)}::which", **environ)
    assert done.returncode == 2 and says in done.stderr


def test_a_runtime_that_does_not_run_is_told_by_both(home: Path, tmp_path: Path, runtimes: Runtimes) -> None:
    """It is taken all the same, though another one would run: crun comes first."""
    crun = runtimes.directory / "crun"
    crun.write_text("#!/bin/sh\necho libyajl.so.2 is missing\nexit 127\n")
    status, sandbox = told()
    assert (status, sandbox.ok, sandbox.needed) == (1, False, True)
    assert (
        sandbox.text == f"real containers, by {crun}, and none will start: {crun} does not run: libyajl.so.2 is missing"
    )
    assert sandbox.mend == "apt-get install --reinstall crun"
    done = run("run", "-q", f"{write(tmp_path, PROGRAM)}::which")
    assert done.returncode == 1 and "crun" in done.stderr
    assert runtimes.used() == set()
    assert_nothing_left(home)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("GREENROOM_SANDBOX", "jail"), ("GREENROOM_EXIT_GRACE", "long"), ("GREENROOM_SHARED_DIRS", "here")],
)
def test_a_setting_that_stops_run_is_told_by_both(home: Path, tmp_path: Path, variable: str, value: str) -> None:
    done = run("doctor", **{variable: value})
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert line.startswith("✗ settings ") and repr(value) in line and line.endswith(f"→  unset {variable}")
    done = run("run", f"{write(tmp_path, PROGRAM)}::which", **{variable: value})
    assert done.returncode in (1, 2) and repr(value) in done.stderr


def test_without_a_runtime_containers_are_plain_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path
) -> None:
    """As an unprivileged user, or where none is installed; asked for all the same, it stops a run."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("GREENROOM_SANDBOX", "GREENROOM_RUNTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = machine.sandbox()
    assert (found.ok, found.needed) == (False, False)
    assert (
        found.text == "containers are plain processes, which can do and see what you can: real ones need root for now"
    )
    assert found.mend.startswith("sudo ")
    monkeypatch.setenv("GREENROOM_SANDBOX", "oci")
    found = machine.sandbox()
    assert (found.ok, found.needed) == (False, True)
    assert found.text == "real containers were asked for, and can't be had: real ones need root for now"
