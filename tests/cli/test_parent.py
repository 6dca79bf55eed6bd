"""The parent of what enters a container."""

import signal
import subprocess
import sys

import pytest

from greenroom.cli import parent

COMMAND = [sys.executable, "-I", "-S", parent.__file__, "sh", "-c"]


@pytest.mark.parametrize(("script", "code"), [("exit 5", 5), ("kill -9 $$", 137)])
def test_its_exit_status_is_the_commands(script, code):
    assert subprocess.run([*COMMAND, script], check=False, timeout=60).returncode == code


def test_what_a_command_leaves_ends_with_it():
    with subprocess.Popen([*COMMAND, "sleep 1000 & exit 3"], stdout=subprocess.PIPE) as process:
        assert process.stdout.read() == b"", "nobody holds the other end any more"
        assert process.wait(60) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_the_commands(number):
    script = f"trap 'exit 4' {number.name.removeprefix('SIG')}; echo ready; sleep 1000 & wait"
    with subprocess.Popen([*COMMAND, script], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(60) == 4
