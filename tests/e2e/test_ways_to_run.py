"""What a program may be called, and the ways in which Python and the command line start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import assert_nothing_left
from tests.e2e.programs import environment, run, write

PROGRAM = """
    import greenroom
    from {neighbour} import ten

    app = greenroom.App("ways")

    class Unlucky(Exception):
        pass

    @app.function()
    def f(x: int = 3):
        if x == 13:
            raise Unlucky
        return x + ten

    @app.local_entrypoint()
    def main():
        try:
            f.remote(13)
        except Unlucky:
            print("got", f.remote())

    if __name__ == "__main__":
        with app.run():
            main()
"""


@pytest.fixture
def programs(home, tmp_path):
    """A package, a directory and files, each with the program in it."""
    for name in ("package", "a.directory"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "neighbour.py").write_text("ten = 10\n")
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "neighbour.py").write_text("ten = 10\n")
    write(tmp_path / "package", PROGRAM.format(neighbour="package.neighbour"), "__main__.py")
    for path in ("a.directory/__main__.py", "with-dash.py", "with space.py", "two.dots.py"):
        write(tmp_path, PROGRAM.format(neighbour="neighbour"), path)
    yield tmp_path
    assert_nothing_left(home)


@pytest.mark.parametrize(
    "arguments",
    [["-m", "package"], ["-m", "package.__main__"], ["package/__main__.py"], ["a.directory"], ["a.directory/__main__.py"],
     ["with-dash.py"], ["-m", "with-dash"], ["with space.py"], ["two.dots.py"]],
    ids=" ".join,
)  # fmt: skip
def test_by_python(programs, arguments):
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=programs,
        env=environment(PYTHONPATH=str(programs)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "got 13\n", "")


def test_by_python_within_the_directory(programs):
    result = subprocess.run(
        [sys.executable, "."],
        cwd=programs / "a.directory",
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "got 13\n", "")


@pytest.mark.parametrize(
    ("arguments", "prints"),
    [
        (["-m", "package"], "got 13"),
        (["package"], "got 13"),
        (["package::f", "--x", "1"], "11"),
        (["-m", "package.__main__::f"], "13"),
        (["a.directory/__main__.py"], "got 13"),
        (["with-dash.py"], "got 13"),
        (["-m", "with-dash"], "got 13"),
        (["with space.py::f", "--x", "2"], "12"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_by_the_command(programs, arguments, prints):
    result = run("run", "-q", *arguments, cwd=programs)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{prints}\n", "")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("two.dots.py", "two.dots.py can't be imported, for its name has more than one dot: rename it"),
        ("a.directory/", "a.directory/ is a directory: name a file in it"),
        (os.sep, "/ is a directory: name a file in it"),
        ("./package", "./package is a directory: name a file in it, or a package that can be imported from here"),
    ],
)
def test_what_is_refused(programs: Path, target, says):
    result = run("run", target, cwd=programs)
    assert (result.returncode, result.stdout) == (2, "")
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
