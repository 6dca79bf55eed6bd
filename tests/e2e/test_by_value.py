"""Programs without a file (a notebook, a REPL): what they define travels by value."""

import subprocess
import sys
import textwrap

from tests.conftest import assert_nothing_left
from tests.e2e.programs import environment

PROGRAM = """
    import asyncio
    from dataclasses import dataclass
    import greenroom

    app = greenroom.App("notebook")
    OFFSET = 100

    @dataclass
    class Point:
        x: int

    def helper(p):
        return Point(p.x + OFFSET)

    @app.function()
    def move(p):
        return helper(p)

    @app.cls()
    class Model:
        @greenroom.enter()
        def load(self):
            self.total = 0

        @greenroom.method()
        def add(self, p):
            self.total += move.remote(p).x
            return self.total

        @greenroom.exit()
        def close(self):
            print("exit", self.total)

    with greenroom.enable_output(show_progress=False), app.run():
        print(move.remote(Point(1)))
        model = Model()
        print(model.add.remote(Point(2)), model.add.remote(Point(3)))
        print(list(move.map([Point(i) for i in range(3)])))
"""


def test_a_program_without_a_file(home):
    result = subprocess.run(
        [sys.executable, "-"],
        input=textwrap.dedent(PROGRAM),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "Point(x=101)"
    assert "102 205" in lines
    assert "[Point(x=100), Point(x=101), Point(x=102)]" in lines
    assert "exit 205" in lines
    assert_nothing_left(home)
