"""Looking into containers: exec, logs, stop, shell, through the real command line."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Need, assert_nothing_left, wait_for

PROGRAM = """
import os, time
import greenroom
app = greenroom.App("inside")

@app.cls(secrets=[greenroom.Secret.from_dict({"TOKEN": "s3cret"})])
class Model:
    @greenroom.method()
    def wait(self):
        print("waiting", flush=True)
        time.sleep(1000)

    @greenroom.exit()
    def leave(self):
        print("left")
"""


def greenroom(*words: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "greenroom.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.fixture(params=["process", "crun", "runc"])
def program(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A program's file, whose containers are of each kind."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where a shell in a plain process notes what was typed
    if request.param == "process":
        monkeypatch.setenv("GREENROOM_SANDBOX", "process")
    else:
        Need.runtime(request.param)
        monkeypatch.setenv("GREENROOM_SANDBOX", "oci")
        monkeypatch.setenv("GREENROOM_RUNTIME", request.param)
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    yield file
    assert_nothing_left(home)


@pytest.fixture
def running(program: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A run whose one container waits, and that container's id."""
    command = [sys.executable, "-m", "greenroom.cli.main", "run", "-q", f"{program}::Model.wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:

        def found() -> str:
            records = json.loads(greenroom("container", "list", "--json").stdout)
            return next((record["id"] for record in records if record["state"] == "RUNNING"), "")

        yield process, wait_for(found)
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def test_exec_logs_stop(running):
    process, container_id = running
    done = greenroom("container", "exec", container_id, "--", "sh", "-c", "echo $TOKEN; echo oops >&2; exit 5")
    assert (done.stdout, done.stderr, done.returncode) == ("s3cret\n", "oops\n", 5)
    wait_for(lambda: greenroom("container", "logs", container_id[:8]).stdout == "waiting\n")
    with subprocess.Popen(
        [sys.executable, "-m", "greenroom.cli.main", "container", "logs", "-f", container_id],
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        assert follower.stdout is not None and follower.stdout.readline() == "waiting\n"
        done = greenroom("container", "stop", container_id[:8])
        assert done.stdout == f"{container_id} has ended: stopped by `greenroom container stop`\n"
        assert follower.stdout.read() == "left\n"
        assert follower.wait(30) == 0
    out, err = process.communicate(timeout=60)
    assert out == "waiting\nleft\n"
    assert "the call was cancelled: stopped by `greenroom container stop`" in err
    assert process.returncode == 1
    assert greenroom("container", "logs", container_id).stdout == "waiting\nleft\n", "kept after its end"
    record = json.loads(greenroom("container", "show", "--json", container_id).stdout)
    assert record["reason"] == "stopped by `greenroom container stop`"


NO_INIT = """
import ctypes, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL)
print(open("/proc/thread-self/children").read())
"""
"""As a process 1 that waits for nobody: what a command leaves becomes its child, and is told."""


def test_a_command_that_is_not_there_leaves_no_zombie(running):
    _, container_id = running
    command = [sys.executable, "-m", "greenroom.cli.main", "container", "exec", container_id, "--", "no-such-command"]
    done = subprocess.run(
        [sys.executable, "-c", NO_INIT, *command], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []


def test_a_command_in_a_real_container_gains_no_privileges(running):
    if os.environ["GREENROOM_SANDBOX"] == "process":
        pytest.skip("a plain process has no walls")
    _, container_id = running
    done = greenroom("container", "exec", container_id, "--", "grep", "NoNewPrivs", "/proc/self/status")
    assert done.stdout.split() == ["NoNewPrivs:", "1"]
    done = greenroom("container", "exec", container_id, "--", "sh", "-c", "echo $TOKEN")
    assert done.stdout == "s3cret\n", "it has the container's variables all the same"


CUTTING = """
import os, pathlib, time
import greenroom
app = greenroom.App("cutting")

@app.function()
def cut(go):
    print("a long first line", flush=True)
    while not pathlib.Path(go).exists():
        time.sleep(0.01)
    fd = os.open("/dev/stdout", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"anew\\n")
    time.sleep(1000)

@app.local_entrypoint()
def main(go: str):
    cut.remote(go)
"""


def test_logs_follow_a_program_that_cuts_its_output(home: Path, tmp_path: Path) -> None:
    file, go = tmp_path / "cutting.py", tmp_path / "go"
    file.write_text(CUTTING)
    words = [sys.executable, "-m", "greenroom.cli.main"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [*words, "run", "-q", "--sandbox", "process", str(file), "--go", str(go)], **pipes
    ) as process:
        container_id = wait_for(
            lambda: next((record["id"] for record in json.loads(greenroom("container", "list", "--json").stdout)), "")
        )
        wait_for(lambda: greenroom("container", "logs", container_id).stdout)
        with subprocess.Popen([*words, "container", "logs", "-f", container_id], **pipes) as follower:
            assert follower.stdout.readline() == "a long first line\n"
            go.touch()
            assert follower.stdout.readline() == "anew\n"
            process.terminate()
            assert follower.communicate(timeout=60) == ("", "")
        process.communicate(timeout=60)
    assert greenroom("container", "logs", container_id).stdout == "anew\n"
    assert_nothing_left(home)


def test_no_command(home):
    done = greenroom("container", "exec", "ta-none", "--")
    assert done.returncode == 2
    assert "Missing argument '-- CMD [ARGS]...'" in done.stderr


@pytest.mark.parametrize("command", ["exec", "stop", "logs", "show"])
def test_a_container_that_is_not_there(home, command):
    words = ["--", "ls"] if command == "exec" else []
    done = greenroom("container", command, "ta-none", *words)
    assert done.returncode == (2 if command in ("exec", "stop") else 1)
    assert done.stderr.startswith("greenroom: there is no container ta-none") and done.stderr.count("\n") == 1


def test_a_command_by_the_shell_of_a_container_like_a_class(program):
    for words in (
        ["-c", "echo $TOKEN; exit 3", f"{program}::Model"],
        [f"{program}::Model", "-c", "echo $TOKEN; exit 3"],
    ):
        done = greenroom("shell", *words)
        assert (done.stdout, done.stderr, done.returncode) == ("s3cret\n", "", 3)


def test_a_shell_begins_where_programs_do(program):
    """At home, beside the program's files; in a plain process, in a directory that is thrown away."""
    done = greenroom("shell", "-c", "pwd; ls *.py", f"{program}::Model")
    if os.environ["GREENROOM_SANDBOX"] == "process":
        assert done.stdout.startswith(os.environ["GREENROOM_HOME"]), done.stderr
    else:
        assert done.stdout == "/root\nprogram.py\n", done.stderr


@pytest.mark.parametrize(
    ("options", "found"),
    [(["--sandbox", "process"], "plain"), (["--sandbox", "oci"], "real"), (["--runtime", "runc"], "real")],
    ids=" ".join,
)
def test_a_shell_in_the_sandbox_that_is_asked_for(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], found: str
) -> None:
    Need.runtime("runc" if "runc" in options else "crun")
    monkeypatch.setenv("GREENROOM_SANDBOX", "oci" if "process" in options else "process")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = "if [ -e /run/greenroom/server.sock ]; then echo real; else echo plain; fi"
    done = greenroom("shell", *options, "-c", command, f"{tmp_path / 'program.py'}::Model")
    assert (done.stdout, done.returncode) == (f"{found}\n", 0), done.stderr
    assert_nothing_left(home)


def test_a_shell_for_what_is_not_there(home, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = greenroom("shell", "-c", "true", f"{tmp_path / 'program.py'}::Nobody")
    assert done.returncode == 2
    assert "has no function or class Nobody" in done.stderr


def test_a_shell_on_a_terminal_has_its_size_and_follows_it(program):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    # Its own terminal: the kernel tells nobody else of a new size.
    command = ["setsid", "--ctty", sys.executable, "-m", "greenroom.cli.main", "shell", f"{program}::Model"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        # runc says the size only once the command runs.
        os.write(master, b'while [ "$(stty size)" = "0 0" ]; do :; done; echo size=$(stty size) in=$TOKEN\n')
        shown, asked = b"", False
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            try:
                data = os.read(master, 4096)
            except OSError:  # nobody holds the other end any more
                break
            shown += data
            if b"size=33 111" in shown and not asked:
                asked = True
                fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 99, 0, 0))
                os.write(master, b'while [ "$(stty size)" = "33 111" ]; do :; done; echo then=$(stty size); exit 7\n')
        os.close(master)
        assert process.wait(60) == 7
    assert b"size=33 111 in=s3cret" in shown
    assert b"then=44 99" in shown
    assert b"containers:" not in shown, "the screen is the shell's"
