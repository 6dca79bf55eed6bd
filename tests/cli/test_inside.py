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


@pytest.mark.parametrize("command", ["exec", "stop", "logs", "show"])
def test_a_container_that_is_not_there(home, command):
    words = ["--", "ls"] if command == "exec" else []
    done = greenroom("container", command, "ta-none", *words)
    assert done.returncode == (2 if command in ("exec", "stop") else 1)
    assert done.stderr.startswith("greenroom: there is no container ta-none") and done.stderr.count("\n") == 1


def test_a_command_by_the_shell_of_a_container_like_a_class(program):
    done = greenroom("shell", "-c", "echo $TOKEN; exit 3", f"{program}::Model")
    assert (done.stdout, done.stderr, done.returncode) == ("s3cret\n", "", 3)


def test_a_shell_for_what_is_not_there(home, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = greenroom("shell", "-c", "true", f"{tmp_path / 'program.py'}::Nobody")
    assert done.returncode == 2
    assert "has no function or class Nobody" in done.stderr


def test_a_shell_on_a_terminal_has_its_size(program):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    command = [sys.executable, "-m", "greenroom.cli.main", "shell", f"{program}::Model"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as process:
        os.close(slave)
        # runc says the size only once the command runs.
        os.write(master, b'while [ "$(stty size)" = "0 0" ]; do :; done; echo size=$(stty size) in=$TOKEN; exit 7\n')
        shown = b""
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            try:
                data = os.read(master, 4096)
            except OSError:  # nobody holds the other end any more
                break
            shown += data
        os.close(master)
        assert process.wait(60) == 7
    assert b"size=33 111 in=s3cret" in shown
