"""The server as a process that a program starts."""

import subprocess
import sys

from tests.conftest import assert_nothing_left

PROGRAM = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
import greenroom
app = greenroom.App("t")

@app.function(serialized=True)
def f(x):
    return x

with app.run():
    print(f.remote(3))
"""


def test_a_program_that_ignores_its_children(home, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert_nothing_left(home, 10)
