"""Bad input is one clear line and a status; nothing is lost, hangs, or is left behind."""

import os
import socket
import subprocess
import tempfile
import textwrap
from pathlib import Path

import pytest

from tests.conftest import assert_nothing_left
from tests.e2e.programs import python, run, start, write

HELLO = """
    import greenroom
    app = greenroom.App("hello")

    @app.function()
    def f(x: int = 1):
        return x

    @app.local_entrypoint()
    def main(n: int = 1):
        print("got", f.remote(n))
"""


def one_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line]
    assert len(lines) == 1, text
    return lines[0]


def test_hello(home, tmp_path):
    result = run("run", str(write(tmp_path, HELLO)), "--n", "3")
    assert result.returncode == 0, result.stderr
    assert "got 3\n" in result.stdout
    assert "✓ hello is ready" in result.stdout + result.stderr
    quiet = run("run", "-q", str(tmp_path / "app.py"))
    assert (quiet.stdout, quiet.stderr) == ("got 1\n", "")
    assert_nothing_left(home)


def test_import_modal_answers_with_greenroom(home, tmp_path):
    program = write(tmp_path, HELLO.replace("greenroom", "modal"))
    result = run("run", "-q", str(program))
    assert result.stdout == "got 1\n"


def test_modules_and_names(home, tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "data.txt").write_text("data\n")
    write(package, HELLO.replace("return x", "return open(__file__[:-6] + 'data.txt').read().strip()"), "mod.py")
    for target in (["pkg.mod"], ["-m", "pkg.mod"], ["pkg.mod::app.main"], ["pkg.mod::main"]):
        assert run("run", "-q", *target, cwd=tmp_path).stdout == "got data\n", target
    assert run("run", "-q", "pkg.mod::app.f", "--x", "4", cwd=tmp_path).stdout == "data\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.py"], "there is no file nothing.py"),
        (["ap.py"], "did you mean app.py?"),
        (["app.py::mian"], "did you mean main?"),
        (["no.such.module"], "there is no module no.such.module"),
        (["-m", "nothing"], "there is no module nothing"),
    ],
)
def test_wrong_targets(home, tmp_path, arguments, says):
    write(tmp_path, HELLO)
    result = run("run", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert says in one_line(result.stderr)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--n", "x"], "is not a valid int"),
        (["--m", "3"], "No such option"),
        (["extra"], "unexpected extra argument"),
        (["-q"], "-q is one of greenroom's own: write it before the program"),
        (["--detach"], "greenroom's own"),
    ],
)
def test_wrong_arguments(home, tmp_path, arguments, says):
    result = run("run", str(write(tmp_path, HELLO)), *arguments)
    assert result.returncode == 2
    assert says in result.stderr
    assert not (home / "run").exists()


def test_program_help(home, tmp_path):
    result = run("run", str(write(tmp_path, HELLO)), "--help")
    assert result.returncode == 0
    assert "--n INTEGER" in result.stdout


def test_syntax_error(home, tmp_path):
    program = write(tmp_path, "import greenroom\n\ndef f(:\n    pass\n")
    result = run("run", str(program))
    assert result.returncode == 2
    assert f'File "{program}", line 3' in result.stderr
    assert "SyntaxError" in result.stderr
    assert "importlib" not in result.stderr


def test_no_app(home, tmp_path):
    result = run("run", str(write(tmp_path, "x = 1\n")))
    assert result.returncode == 2
    assert "app = greenroom.App()" in one_line(result.stderr)


def test_failed_run_shows_the_users_frames_alone(home, tmp_path):
    program = write(
        tmp_path,
        """
        import greenroom
        app = greenroom.App("fail")

        @app.function()
        def f(x):
            return helper(x)

        def helper(x):
            raise ValueError(f"no {x}")

        @app.local_entrypoint()
        def main():
            f.remote(1)

        if __name__ == "__main__":
            with app.run():
                main()
        """,
    )
    for result in (run("run", "-q", str(program)), python(program)):
        assert result.returncode == 1
        expected = f'''\
            Traceback (most recent call last):
              File "{program}", line 14, in main
                f.remote(1)
              File "{program}", line 7, in f
                return helper(x)
              File "{program}", line 10, in helper
                raise ValueError(f"no {{x}}")
            ValueError: no 1
            '''
        shown = "\n".join(line for line in result.stderr.splitlines() if "^" not in line and "with app.run" not in line)
        kept = [line for line in shown.splitlines() if "<module>" not in line and line.strip() != "main()"]
        assert kept == textwrap.dedent(expected).splitlines()
    assert_nothing_left(home)


def test_state_directory_not_writable(home, tmp_path):
    program = write(tmp_path, HELLO)
    blocked = home / "file"
    blocked.write_text("")
    result = run("run", str(program), GREENROOM_HOME=str(blocked / "home"))
    assert result.returncode == 1
    line = one_line(result.stderr)
    assert "Not a directory; set GREENROOM_HOME" in line
    assert "free some space" not in line


def test_socket_path_too_long(tmp_path):
    result = run("run", str(write(tmp_path, HELLO)), GREENROOM_HOME=str(tmp_path / ("x" * 100)))
    assert result.returncode == 1
    assert "too long for a Unix socket" in one_line(result.stderr)


def test_wrong_setting(home, tmp_path):
    result = run("run", str(write(tmp_path, HELLO)), GREENROOM_EXIT_GRACE="soon")
    assert result.returncode == 1
    assert "GREENROOM_EXIT_GRACE='soon' is not a number" in one_line(result.stderr)


@pytest.fixture
def small_disk(need):
    """A state directory of 1 MiB, in a mount namespace that only the command sees."""
    if os.getuid() != 0:
        need.missing("root, for a small tmpfs")
    directory = Path(tempfile.mkdtemp(prefix="gr-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(directory)], check=False).returncode:
        need.missing("mount")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)
    directory.rmdir()


def test_full_disk(small_disk, tmp_path):
    home = small_disk / "h"
    home.mkdir()
    (small_disk / "filler").write_bytes(b"")
    with (small_disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(b"x" * 4096)
    result = run("run", str(write(tmp_path, HELLO)), GREENROOM_HOME=str(home))
    assert result.returncode == 1
    assert "No space left" in result.stderr or "free some space" in result.stderr
    (small_disk / "filler").unlink()
    again = run("run", "-q", str(tmp_path / "app.py"), GREENROOM_HOME=str(home))
    assert again.stdout == "got 1\n"
    assert_nothing_left(home)


def test_disk_that_fills_up_while_it_runs(small_disk, tmp_path):
    home = small_disk / "h"
    program = write(
        tmp_path,
        """
        import os
        import greenroom
        app = greenroom.App("full")

        @app.cls()
        class Model:
            @greenroom.method()
            def fill(self):
                try:
                    with open("filler", "wb", buffering=0) as file:
                        while True:
                            file.write(b"x" * 4096)
                except OSError as error:
                    return error.strerror

            @greenroom.exit()
            def close(self):
                os.unlink("filler")
                print("exit ran")

        @app.local_entrypoint()
        def main():
            print(Model().fill.remote())
        """,
    )
    result = run("run", "-q", str(program), GREENROOM_HOME=str(home))
    assert "No space left on device" in result.stdout, result.stderr
    assert "exit ran" in result.stdout
    assert_nothing_left(home)


def test_class_that_fails_to_import_in_the_container(home, tmp_path):
    program = write(
        tmp_path,
        """
        import greenroom
        if not greenroom.is_local():
            import only_in_some_image
        app = greenroom.App("x")

        @app.function()
        def f():
            return 1

        @app.local_entrypoint()
        def main():
            f.remote()
        """,
    )
    result = run("run", "-q", str(program))
    assert result.returncode == 1
    assert "ModuleNotFoundError: No module named 'only_in_some_image'" in result.stderr
    assert f'File "{program}", line 4' in result.stderr
    assert_nothing_left(home)


def test_argument_past_the_limit(home, tmp_path):
    program = write(
        tmp_path,
        """
        import greenroom
        app = greenroom.App("x")

        @app.function()
        def f(data):
            return bytes(int(data)) if isinstance(data, int) else len(data)

        @app.local_entrypoint()
        def main():
            print(f.remote(b"x" * 3_000_000))
            for value in (b"x" * 5_000_000, 5_000_000):
                try:
                    f.remote(value)
                except greenroom.RequestSizeError as error:
                    print(error)
        """,
    )
    result = run("run", "-q", str(program), GREENROOM_MAX_PAYLOAD="4000000")
    lines = result.stdout.splitlines()
    assert lines[0] == "3000000", result.stderr
    assert len(lines) == 3
    assert all("limit of 4000000 bytes" in line for line in lines[1:])


def test_result_that_cannot_be_unpickled_here(home, tmp_path):
    program = write(
        tmp_path,
        """
        import sys, types
        import greenroom
        app = greenroom.App("x")

        @app.function()
        def f():
            module = types.ModuleType("only_there")
            class Thing: pass
            Thing.__module__, Thing.__qualname__ = "only_there", "Thing"
            module.Thing = Thing
            sys.modules["only_there"] = module
            return Thing()

        @app.local_entrypoint()
        def main():
            try:
                f.remote()
            except greenroom.DeserializationError as error:
                print(error)
        """,
    )
    result = run("run", "-q", str(program))
    assert "needs the module 'only_there'" in result.stdout, result.stderr


def test_print_in_an_exit_hook_after_the_server_died(home, tmp_path):
    import signal

    from tests.conftest import wait_for

    mark = tmp_path / "mark"
    program = write(
        tmp_path,
        f"""
        import time
        import greenroom
        app = greenroom.App("x")

        @app.cls()
        class Model:
            @greenroom.method()
            def f(self):
                open({str(mark)!r}, "w").close()
                time.sleep(60)

            @greenroom.exit()
            def close(self):
                for _ in range(100):
                    print("x" * 10000)
                open({str(mark)!r} + "-exited", "w").close()

        @app.local_entrypoint()
        def main():
            Model().f.remote()
        """,
    )
    process = start("run", str(program), GREENROOM_SANDBOX="process")
    wait_for(mark.exists, what="the method runs")
    (run_directory,) = (home / "run").iterdir()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"greenroom.server" in words and str(run_directory).encode() in words:
            os.kill(int(entry.name), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "server went away" in err
    assert Path(f"{mark}-exited").exists()
    assert_nothing_left(home)


def test_plain_script_with_an_unguarded_run(home, tmp_path):
    program = write(
        tmp_path,
        """
        import greenroom
        app = greenroom.App("script")

        @app.function()
        def f(x):
            return x + 1

        print("top level")
        with app.run():
            print(f.remote(1))
        print("after")
        """,
    )
    result = python(program)
    assert result.stdout == "top level\n2\nafter\n", result.stderr
    assert_nothing_left(home)


def test_async_script(home, tmp_path):
    program = write(
        tmp_path,
        """
        import asyncio
        import greenroom
        app = greenroom.App("script")

        @app.function()
        async def f(x):
            return x + 1

        async def main():
            async with app.run():
                print(await f.remote(1), [x async for x in f.map(range(3))])

        asyncio.run(main())
        """,
    )
    result = python(program)
    assert result.stdout == "2 [1, 2, 3]\n", result.stderr
    assert_nothing_left(home)


def test_wrong_token_and_garbage(home, tmp_path):
    """A stranger on the socket is refused, or cut off; the run isn't disturbed."""
    from greenroom.wire.connection import BlockingConnection
    from greenroom.wire.messages import PROTOCOL_VERSION, Hello, Refused
    from tests.conftest import wait_for

    program = write(
        tmp_path,
        f"""
        import pathlib, time
        import greenroom
        app = greenroom.App("x")

        @app.function()
        def f():
            here = pathlib.Path({str(tmp_path)!r})
            (here / "running").touch()
            while not (here / "over").exists():
                time.sleep(0.01)
            return "undisturbed"
        """,
    )
    process = start("run", "-q", f"{program}::f", GREENROOM_SANDBOX="process")
    wait_for((tmp_path / "running").exists, what="the function runs")
    (path,) = (home / "run").glob("*/server.sock")

    def stranger() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        sock.settimeout(20)
        return sock

    refused = BlockingConnection(stranger())
    refused.sock.settimeout(None)
    refused.send(Hello("client", "wrong", PROTOCOL_VERSION))
    message, _ = refused.receive(20)
    assert isinstance(message, Refused)
    refused.close()
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\1\0\0\0\0{", b"\xff" * 64, b"\0\0\0\2\0\0\0\0{}"):
        sock = stranger()
        sock.sendall(garbage)
        assert sock.recv(100) == b""
        sock.close()
    (tmp_path / "over").touch()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "undisturbed\n"), err
    assert "a frame promises" in (home / "server.log").read_text()
