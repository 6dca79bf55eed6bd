"""``import modal`` in the interpreters that user code starts: multiprocessing's, and any other."""

import pytest

from tests.conftest import assert_nothing_left
from tests.e2e.programs import python, run, write

PROGRAM = """
    import modal
    import multiprocessing, os, subprocess, sys

    app = modal.App("children")

    def square(x):
        return modal.__name__, x * x

    CODE = "import modal.exception, greenroom; print(modal.App is greenroom.App, modal.exception.Error is greenroom.Error)"

    @app.cls()
    class Model:
        @modal.method()
        def pooled(self, kind: str):
            with multiprocessing.get_context(kind).Pool(2) as pool:
                return pool.map(square, range(4))

        @modal.method()
        def alone(self):
            return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.strip()

    @app.local_entrypoint()
    def main(kind: str = "spawn"):
        print(*Model().pooled.remote(kind))
        print(Model().alone.remote())

    @app.local_entrypoint()
    def at_home():
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            print(*pool.map(square, range(4)))

    if __name__ == "__main__":
        with app.run():
            main()
"""
SQUARES = "('modal', 0) ('modal', 1) ('modal', 4) ('modal', 9)\n"


@pytest.fixture
def another_modal(tmp_path):
    """A directory with a ``modal`` that must not be found."""
    (tmp_path / "installed" / "modal").mkdir(parents=True)
    (tmp_path / "installed" / "modal" / "__init__.py").write_text("raise SystemExit('the wrong modal')\n")
    return str(tmp_path / "installed")


@pytest.mark.parametrize("kind", ["spawn", "forkserver"])
def test_in_a_container(home, tmp_path, another_modal, kind):
    program = write(tmp_path, PROGRAM)
    result = run("run", "-q", f"{program}::main", "--kind", kind, GREENROOM_SANDBOX="process", PYTHONPATH=another_modal)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{SQUARES}True True\n", "")
    assert_nothing_left(home)


def test_in_a_real_container(home, need, tmp_path):
    need.runtime("crun")
    result = run("run", "-q", "--runtime", "crun", f"{write(tmp_path, PROGRAM)}::main")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{SQUARES}True True\n", "")
    assert_nothing_left(home)


def test_of_a_local_entrypoint(home, tmp_path, another_modal):
    result = run("run", "-q", f"{write(tmp_path, PROGRAM)}::at_home", PYTHONPATH=another_modal)
    assert (result.returncode, result.stdout, result.stderr) == (0, SQUARES, "")


def test_of_a_script_whose_main_module_is_the_program(home, tmp_path):
    program = write(tmp_path, PROGRAM.replace("import modal\n", "import greenroom as modal\n", 1))
    result = python(program, GREENROOM_SANDBOX="process")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("True True\n")
    assert_nothing_left(home)


UNGUARDED = """
    import multiprocessing
    import greenroom

    app = greenroom.App("unguarded")

    def work():
        raise AssertionError("never gets here")

    def start():
        process = multiprocessing.get_context("spawn").Process(target=work)
        process.start()
        process.join()
        return process.exitcode

    @app.function()
    def inside():
        return start()

    with greenroom.enable_output(), app.run():
        print("exit code", {call})
"""


@pytest.mark.parametrize("call", ["inside.remote()", "start()"])
def test_a_process_does_not_run_the_app_once_more(home, tmp_path, call):
    result = python(write(tmp_path, UNGUARDED.format(call=call)), GREENROOM_SANDBOX="process")
    assert result.returncode == 0, result.stderr
    assert "exit code 1\n" in result.stdout
    assert "app.run() where multiprocessing imports the program once more" in result.stdout + result.stderr
    assert_nothing_left(home)
