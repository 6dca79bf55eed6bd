"""The server that a program starts: in programs that mind their own children, and on disks that refuse."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

import greenroom
from tests.conftest import assert_nothing_left

PROGRAM = """
import os, signal, sys
import greenroom

{handler}
app = greenroom.App("t")

@app.function()
def f(x):
    return x + 1

if __name__ == "__main__":
    for _ in range(2):
        with app.run():
            assert f.remote(1) == 2
    print("done")
"""
REAPS = """
def reap(number, frame):
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass

signal.signal(signal.SIGCHLD, reap)
"""
IGNORES = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"


@pytest.mark.parametrize("handler", [REAPS, IGNORES], ids=["reaps", "ignores"])
def test_programs_that_mind_their_own_children(home, tmp_path, handler):
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM.replace("{handler}", handler)))
    result = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=100, check=False)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    assert_nothing_left(home)


def descriptors():
    return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_is_open(fd))


def fd_is_open(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_a_log_that_can_not_be_written(home):
    app = greenroom.App("t")
    (home / "server.log").mkdir()
    before = descriptors()
    with pytest.raises(greenroom.InvalidError) as refused, app.run():
        pass
    assert str(refused.value) == (
        f"can't write the servers' log {home / 'server.log'}: Is a directory; set GREENROOM_HOME to another directory"
    )
    assert descriptors() == before
    assert not list((home / "run").iterdir())


def test_a_socket_that_can_not_be_made(home, monkeypatch):
    app = greenroom.App("t")

    class Refusing(greenroom.sdk.server_process.socket.socket):
        def bind(self, address):
            raise OSError(28, "No space left on device")

    before = descriptors()
    monkeypatch.setattr(greenroom.sdk.server_process.socket, "socket", Refusing)
    with pytest.raises(greenroom.InvalidError, match="No space left on device; free some space there"), app.run():
        pass
    assert descriptors() == before
    assert not list((home / "run").iterdir())


def test_a_server_that_ends_before_it_is_looked_at(home, monkeypatch):
    from greenroom.sdk.server_process import ServerProcess

    monkeypatch.setattr(os, "pidfd_open", gone)
    process = ServerProcess()
    assert process.in_use()
    os.kill(process._pid, signal.SIGKILL)
    os.waitpid(process._pid, 0)
    process.wait()
    assert_nothing_left(home)


def gone(pid):
    raise ProcessLookupError(3, "No such process")
