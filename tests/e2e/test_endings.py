"""How a run ends: what the program asks for here, what containers raise, and where the standard streams lead."""

import signal
import subprocess

import pytest

from tests.conftest import assert_nothing_left, wait_for
from tests.e2e.programs import COMMAND, environment, python, run, start, write

PROGRAM = """
    import sys
    import greenroom
    app = greenroom.App("ends")

    @app.function()
    def f(how):
        print("inside")
        if how == "interrupt":
            raise KeyboardInterrupt
        if how != "return":
            sys.exit(int(how))

    @app.local_entrypoint()
    def main(how: str = "return"):
        f.remote(how)
        print("after")

    @app.local_entrypoint()
    async def from_async(how: str):
        await f.remote(how)

    @app.local_entrypoint()
    def mapped(how: str):
        list(f.map([how]))

    @app.local_entrypoint()
    def here(how: str):
        if how == "interrupt":
            raise KeyboardInterrupt
        sys.exit(int(how))

    @app.local_entrypoint()
    def closes(how: str = "return"):
        f.remote(how)
        sys.stdout.close()

    @app.local_entrypoint()
    def replaces(how: str = "return"):
        f.remote(how)
        sys.stdout = None

    @app.local_entrypoint()
    def silent():
        f.remote("return")
"""


@pytest.mark.parametrize("how", ["0", "3", "interrupt"])
@pytest.mark.parametrize("entry", ["main", "from_async", "mapped"])
def test_an_end_that_a_container_asked_for_is_a_failure(home, tmp_path, entry, how):
    program = write(tmp_path, PROGRAM)
    result = run("run", "-q", f"{program}::{entry}", "--how", how)
    assert result.returncode == 1
    assert result.stdout == "inside\n"
    assert f'File "{program}", line {10 if how == "interrupt" else 12}, in f\n' in result.stderr
    assert result.stderr.splitlines()[-1] == ("KeyboardInterrupt" if how == "interrupt" else f"SystemExit: {how}")


def test_a_plain_script_that_a_container_ends_says_so(home, tmp_path):
    block = 'if __name__ == "__main__":\n    with app.run():\n        f.remote("0")\n    print("never")\n'
    program = write(tmp_path, PROGRAM)
    program.write_text(program.read_text() + "\n" + block)
    result = python(program)
    assert (result.returncode, result.stdout) == (0, "")
    lines = result.stderr.splitlines()
    assert lines[:2] == [
        "greenroom: raised in a container, and ends this program too:",
        "Traceback (most recent call last):",
    ]
    assert lines[-1] == "SystemExit: 0"
    assert "greenroom/sdk" not in result.stderr


@pytest.mark.parametrize(("how", "status"), [("0", 0), ("3", 3), ("interrupt", 130)])
def test_an_end_that_the_program_asks_for(home, tmp_path, how, status):
    result = run("run", "-q", f"{write(tmp_path, PROGRAM)}::here", "--how", how)
    assert (result.returncode, result.stdout, result.stderr) == (status, "", "")


@pytest.mark.parametrize(
    ("redirection", "out", "err"),
    [
        (">&-", "", "✓ ends is ready\n✓ app ended\n"),
        ("2>&-", "inside\nafter\n", ""),
        ("<&-", "inside\nafter\n", "✓ ends is ready\n✓ app ended\n"),
        (">&- 2>&- <&-", "", ""),
        ("2>/dev/full", "inside\nafter\n", ""),
    ],
)
def test_closed_streams(home, tmp_path, redirection, out, err):
    """The program runs; what can be shown is shown, and nothing of it lands in a file or socket of ours."""
    program = write(tmp_path, PROGRAM)
    shell = f'"$0" run "$1::main" {redirection}'
    result = subprocess.run(
        ["bash", "-c", shell, *COMMAND, str(program)],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, "".join(sorted(result.stdout.splitlines(True), reverse=True)), result.stderr) == (
        0, out, err,
    )  # fmt: skip
    assert_nothing_left(home)


@pytest.mark.parametrize("entry", ["main", "silent"])
def test_stdout_that_takes_nothing(home, tmp_path, entry):
    """Lost output is a failed run, whoever printed."""
    program = write(tmp_path, PROGRAM)
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, "run", "-q", f"{program}::{entry}"],
            env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert "greenroom/" not in result.stderr
    assert_nothing_left(home)


@pytest.mark.parametrize("arguments", [["container", "list"], ["--help"], ["doctor"], ["completion", "bash"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_other_commands_whose_stdout_takes_nothing(home, arguments, unbuffered):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, *arguments],
            env=environment(PYTHONUNBUFFERED=unbuffered),
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "No space left on device" in line


@pytest.mark.parametrize("entry", ["closes", "replaces"])
def test_a_program_that_takes_stdout_away(home, tmp_path, entry):
    result = run("run", f"{write(tmp_path, PROGRAM)}::{entry}")
    assert (result.returncode, result.stderr) == (0, "✓ ends is ready\n✓ app ended\n")


def test_ctrl_c_before_anything_has_begun(home, tmp_path):
    """While the command's own imports run: here click's, which is held."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "click.py").write_text(f"import time\nopen({str(tmp_path / 'mark')!r}, 'w').close()\ntime.sleep(60)\n")
    process = start("run", str(write(tmp_path, PROGRAM)), PYTHONPATH=str(shadow))
    wait_for((tmp_path / "mark").exists, what="click is imported")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_working_directory_that_was_deleted(home, tmp_path):
    program = write(tmp_path, PROGRAM)
    shell = 'mkdir "$2" && cd "$2" && rmdir "$2" && exec "$0" run -q "$1"'
    arguments = ["bash", "-c", shell, *COMMAND]
    for target, status, out, err in (
        (f"{program}::main", 0, "inside\nafter\n", ""),
        ("app.py", 2, "", "greenroom: app.py can't be found: the directory that this is run in has been deleted\n"),
        ("app", 2, "", "greenroom: app can't be found: the directory that this is run in has been deleted\n"),
    ):
        result = subprocess.run(
            [*arguments, target, str(tmp_path / "gone")],
            env=environment(), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        shown = "".join(sorted(result.stdout.splitlines(True), reverse=True))
        assert (result.returncode, shown, result.stderr) == (status, out, err)


@pytest.mark.parametrize("arguments", ["run app.py", "container list", "container show ta-1", "doctor"])
def test_a_relative_state_directory_below_one_that_was_deleted(tmp_path, arguments):
    program = write(tmp_path, PROGRAM)
    shell = f'mkdir gone && cd gone && rmdir ../gone && exec "$0" {arguments.replace("app.py", f"{program}::main")}'
    result = subprocess.run(
        ["bash", "-c", shell, *COMMAND], cwd=tmp_path,
        env=environment(GREENROOM_HOME="relative"), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode in (1, 2)
    (line,) = result.stderr.splitlines()
    assert "set GREENROOM_HOME to an absolute path" in line


def test_a_result_comes_after_what_its_containers_print(home, tmp_path):
    program = write(
        tmp_path,
        """
        import greenroom
        app = greenroom.App("last")

        @app.cls()
        class Model:
            @greenroom.method()
            def f(self, lines: int):
                for number in range(lines):
                    print(number)
                return {"printed": lines}

            @greenroom.exit()
            def close(self):
                print("closed")
        """,
    )
    for lines in (3, 3000):
        result = run("run", "-q", f"{program}::Model.f", "--lines", str(lines))
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines() == [*map(str, range(lines)), "closed", f"{{'printed': {lines}}}"]


def test_a_plain_script_is_told_on_stderr(home, tmp_path):
    """Without a display: what a person should know, and not the containers' own output."""
    program = write(
        tmp_path,
        """
        import greenroom
        app = greenroom.App("plain")

        @app.cls(region="eu")
        class Model:
            @greenroom.method()
            def f(self):
                print("inside")
                return 1

            @greenroom.exit()
            def close(self):
                raise ValueError("not closed")

        with app.run():
            print(Model().f.remote())
        """,
    )
    result = python(program)
    assert (result.returncode, result.stdout) == (0, "1\n")
    assert result.stderr.splitlines() == [
        "greenroom: ignored, for it means nothing on one's own machines: region=",
        "greenroom: Model: exit hook failed: Model.close: ValueError: not closed",
    ]
