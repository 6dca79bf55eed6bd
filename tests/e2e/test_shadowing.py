"""Files of the user's that are called like modules of Python's must not get into processes of ours."""

import pytest

from tests.conftest import assert_nothing_left
from tests.e2e.programs import python, run, write

PROGRAM = """
    import greenroom
    app = greenroom.App("shadows")

    @app.cls()
    class Model:
        @greenroom.method()
        def f(self, x: int = 2):
            return x * 2

        @greenroom.method()
        async def g(self, x: int):
            return x * 3

    @app.local_entrypoint()
    def main():
        print(Model().f.remote(2), list(Model().g.map([1, 2])))

    if __name__ == "__main__":
        with app.run():
            main()
"""
NAMES = ["queue", "token", "json", "asyncio", "socket", "uvloop", "select", "greenroom"]


@pytest.fixture
def shadows(tmp_path):
    directory = tmp_path / "shadows"
    directory.mkdir()
    for name in NAMES:
        (directory / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}')\n")
    return directory


def test_in_the_working_directory(home, tmp_path, shadows, monkeypatch):
    program = write(tmp_path, PROGRAM)
    result = run("run", "-q", str(program), cwd=shadows)
    assert (result.returncode, result.stdout, result.stderr) == (0, "4 [3, 6]\n", "")
    monkeypatch.chdir(shadows)
    result = python(program)
    assert (result.returncode, result.stdout, result.stderr) == (0, "4 [3, 6]\n", "")
    assert_nothing_left(home)


def test_beside_the_program(home, tmp_path):
    write(tmp_path, PROGRAM)
    for name in ("queue", "token"):
        (tmp_path / f"{name}.py").write_text("mine = True\n")
    result = run("run", "-q", "app.py", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "4 [3, 6]\n", "")
    assert_nothing_left(home)
