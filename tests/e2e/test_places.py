"""Real containers where a machine is not as one would like: homes that are closed, odd paths, read-only directories."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Need, assert_nothing_left
from tests.e2e.programs import write

PROGRAM = """
    import greenroom
    import beside

    app = greenroom.App("places")

    @app.function()
    def f(x):
        return beside.twice(x), __file__

    @app.local_entrypoint()
    def main():
        print(f.remote(21))
"""


@pytest.fixture(autouse=True)
def _real_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    Need.runtime("crun")
    monkeypatch.setenv("GREENROOM_SANDBOX", "oci")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A directory that nobody but root may pass through, in the home of root."""
    cache = Path.home() / ".cache"  # not in the home itself: another test looks whether that has changed
    cache.mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="gr-", dir=cache))
    path.chmod(0o700)
    yield path
    shutil.rmtree(path)


def project(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "beside.py").write_text("def twice(x):\n    return 2 * x\n")
    return write(directory, PROGRAM, "program.py")


def greenroom(python: str, program: Path, **environment: str) -> str:
    done = subprocess.run(
        [python, "-m", "greenroom.cli.main", "run", "-q", str(program)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_state_directory_under_a_closed_home(closed: Path, tmp_path: Path) -> None:
    home = closed / "s"
    assert greenroom(sys.executable, project(tmp_path), GREENROOM_HOME=str(home)) == "(42, '/root/program.py')\n"
    assert_nothing_left(home)


def test_python_under_a_closed_home_with_an_editable_install(home: Path, closed: Path, tmp_path: Path) -> None:
    """A virtual environment there, in which Greenroom and a package of the user's are editable installs."""
    venv = closed / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = next((venv / "lib").glob("python*")) / "site-packages"
    source = closed / "source"
    (source / "mine").mkdir(parents=True)
    (source / "mine" / "__init__.py").write_text("NAME = 'mine'\n")
    ours = Path(__file__).parents[2] / "src"
    third_party = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "editable.pth").write_text(f"{source}\n{ours}\n{third_party}\n")
    program = write(
        tmp_path,
        """
        import greenroom
        app = greenroom.App("editable")

        @app.function()
        def f():
            import mine, sys  # not imported at home: it doesn't travel, it is there
            return mine.NAME, mine.__file__, sys.prefix

        @app.local_entrypoint()
        def main():
            print(f.remote())
        """,
        "program.py",
    )
    out = greenroom(str(venv / "bin" / "python"), program)
    assert out == f"{('mine', str(source / 'mine' / '__init__.py'), str(venv))}\n"
    assert_nothing_left(home)


def test_a_project_in_a_path_with_spaces_and_letters_of_all_kinds(home: Path, tmp_path: Path) -> None:
    program = project(tmp_path / "Mein Projekt, größer: 日本 'x'")
    assert greenroom(sys.executable, program) == "(42, '/root/program.py')\n"
    assert_nothing_left(home)


def test_a_read_only_project_directory(home: Path, tmp_path: Path) -> None:
    directory = tmp_path / "project"
    program = project(directory)
    script = (
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ! touch "$1/x" 2>/dev/null && shift && exec "$@"'
    )
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        str(directory),
        sys.executable,
        "-m",
        "greenroom.cli.main",
    ]
    done = subprocess.run([*command, "run", "-q", program], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "(42, '/root/program.py')\n"), done.stderr
    assert_nothing_left(home)


def test_a_state_directory_in_an_odd_path(tmp_path: Path) -> None:
    home = Path(tempfile.mkdtemp(prefix="gr, :", dir="/tmp"))
    try:
        assert greenroom(sys.executable, project(tmp_path), GREENROOM_HOME=str(home)).startswith("(42")
        assert_nothing_left(home)
    finally:
        shutil.rmtree(home)


def test_a_state_directory_that_no_overlay_can_lie_on_gets_plain_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overlay itself, as within another container. Told in one line; who insists on real ones is refused."""
    script = """
        mkdir -p "$1/l" "$1/u" "$1/w" "$1/m" && mount -t tmpfs none "$1/u" && mkdir "$1/u/u" "$1/u/w" &&
        mount -t overlay -o lowerdir="$1/l",upperdir="$1/u/u",workdir="$1/u/w" none "$1/m" && export GREENROOM_HOME="$1/m/s" &&
        shift && exec "$@"
    """
    base = Path(tempfile.mkdtemp(prefix="gr-"))
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(base), sys.executable, "-m", "greenroom.cli.main"]
    try:
        for sandbox in ("auto", "oci"):
            monkeypatch.setenv("GREENROOM_SANDBOX", sandbox)
            done = subprocess.run(
                [*command, "run", str(project(tmp_path))], capture_output=True, text=True, timeout=100, check=False
            )
            if "can be mounted" not in done.stderr:
                pytest.skip("this kernel lays an overlay on an overlay")
            assert done.returncode == (0 if sandbox == "auto" else 1)
            assert "no overlay can be mounted on the state directory: Invalid argument" in done.stderr
            assert "Traceback" not in done.stderr or sandbox == "oci"
    finally:
        for name in ("l", "u", "w", "m"):
            (base / name).rmdir()
        base.rmdir()


AS_NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "sh", "-c", 'exec "$@"', "sh"]
"""The shell in between is one more look whether an ordinary user may run what is to be run."""


def test_an_ordinary_user_is_told_in_one_line(need: type[Need], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the distribution's own Python, since the one in use may lie in a closed home."""
    monkeypatch.setenv("GREENROOM_SANDBOX", "auto")
    python = str(need.file("/usr/bin/python3.1[1-9]"))
    third_party = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2] / 'src'}:{third_party}"}
    home = Path(tempfile.mkdtemp(prefix="gr-"))
    try:
        program = project(home / "project")
        for path in (home, home / "project", *(home / "project").iterdir()):
            shutil.chown(path, "nobody", "nogroup")
        environment |= {"GREENROOM_HOME": str(home / "state"), "HOME": str(home)}
        command = [*AS_NOBODY, python, "-m", "greenroom.cli.main", "run", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, check=False)
        if "Permission denied" in done.stderr and not (home / "state").exists():
            pytest.skip("an ordinary user can't reach this checkout")
        assert done.returncode == 0, done.stderr
        told = [line for line in done.stderr.splitlines() if "plain processes" in line]
        assert told == [
            "! containers are plain processes, which can do and see what you can: real ones need root for now"
        ]
        assert_nothing_left(home / "state")
    finally:
        shutil.rmtree(home)
