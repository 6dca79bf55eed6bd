"""Modules that only an image has, through the real command: missing here, there in containers of that image."""

import pytest

from tests.conftest import assert_nothing_left
from tests.e2e.programs import run, write

PROGRAM = """
    import greenroom

    app = greenroom.App("imports")

    def make():
        with open("only_there.py", "w") as file:
            file.write("VALUE = 7")

    def use():
        with open("used", "w") as file:
            file.write(str(only_there.VALUE))

    image = greenroom.Image.host().run_function(make).run_function(use)

    with image.imports():
        import only_there

    @app.function(image=image)
    def inside():
        with open("used") as file:
            return file.read(), only_there.VALUE

    @app.cls(image=image)
    class Model:
        @greenroom.build()
        def look(self):
            with open("looked", "w") as file:
                file.write(str(only_there.VALUE))

        @greenroom.method()
        def get(self):
            return open("looked").read()

    @app.function()
    def elsewhere():
        return "only_there" in globals()

    @app.local_entrypoint()
    def main():
        print(inside.remote(), Model().get.remote(), elsewhere.remote(), "only_there" in globals())
"""
PASSED_OVER = "greenroom: inside image.imports(), and passed over: ModuleNotFoundError: No module named 'only_there'"


@pytest.mark.parametrize("sandbox", ["auto", "process"])
def test_they_are_there_in_its_containers_and_steps(home, tmp_path, sandbox):
    write(tmp_path, PROGRAM)
    result = run("run", "app.py", cwd=tmp_path, GREENROOM_SANDBOX=sandbox)
    assert result.returncode == 0, result.stderr
    assert "('7', 7) 7 False False" in result.stdout
    said = [line.strip() for line in (result.stdout + result.stderr).splitlines() if "passed over" in line]
    # By the step that makes it, and by the container that has another image; here nobody has to be told.
    assert [line[line.index("greenroom:") :] for line in said] == [PASSED_OVER] * 2
    again = run("run", "-q", "app.py", cwd=tmp_path, GREENROOM_SANDBOX=sandbox)
    assert (again.returncode, "('7', 7) 7 False False" in again.stdout) == (0, True)
    assert_nothing_left(home)


def test_an_error_within_that_is_no_missing_module_ends_the_program(home, tmp_path):
    write(tmp_path, PROGRAM.replace("import only_there\n", "import broken\n", 1))
    (tmp_path / "broken.py").write_text("raise ValueError('its own')\n")
    result = run("run", "app.py", cwd=tmp_path)
    assert result.returncode == 1
    assert "ValueError: its own" in result.stderr
