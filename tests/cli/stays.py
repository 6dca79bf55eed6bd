"""A ``greenroom server`` that stays, of a test, and what it is asked to keep."""

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.conftest import wait_for
from tests.e2e.programs import COMMAND, environment, run, write

PROGRAM = """
    import greenroom

    app = greenroom.App("shop")
    VERSION = 1


    @app.function()
    def which(x):
        return VERSION, x


    @app.function(max_containers=2)
    def slow(x):
        import time
        with open("MARKS/ran", "a") as file:
            file.write(f"{x}\\n")
        time.sleep(0.02)
        return x * x


    @app.cls()
    class Model:
        @greenroom.enter()
        def load(self):
            self.loaded = VERSION

        @greenroom.method()
        def get(self):
            return self.loaded

        @greenroom.exit()
        def leave(self):
            with open("MARKS/left", "a") as file:
                file.write(f"{self.loaded}\\n")
"""


CALL = """
import greenroom
print(greenroom.Function.from_name("shop", "which").remote(7), greenroom.Cls.from_name("shop", "Model")().get.remote())
"""


def python(text: str) -> str:
    """What a program prints; it fails with what it says."""
    done = subprocess.run([sys.executable, "-c", f"import greenroom\n{text}"], env=environment(), capture_output=True,
                          text=True, timeout=90, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class Stays:
    """A ``greenroom server`` of the test's home."""

    def __init__(self, home: Path, directory: Path, sandbox: str, **settings: str) -> None:
        self.home = home
        self.directory = directory
        self.directory.chmod(0o777)
        self._said = directory / "server.log"
        self._settings = {"GREENROOM_SANDBOX": sandbox, "GREENROOM_SHARED_DIRS": str(directory), **settings}
        self.start()

    def start(self) -> None:
        before = self.said().count("ready")
        with open(self._said, "a") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "server"], stderr=output, env=environment(**self._settings), start_new_session=True
            )
        wait_for(lambda: self.said().count("ready") > before or self.process.poll() is not None, what=self.said())

    def said(self) -> str:
        return self._said.read_text() if self._said.exists() else ""

    def deploy(self, version: int, *options: str) -> "subprocess.CompletedProcess[str]":
        text = PROGRAM.replace("VERSION = 1", f"VERSION = {version}").replace("MARKS", str(self.directory))
        return run("deploy", *options, str(write(self.directory, text, "shop.py")))

    def call(self) -> str:
        done = subprocess.run(
            [sys.executable, "-c", CALL], env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    def apps(self) -> "list[dict[str, object]]":
        found: list[dict[str, object]] = json.loads(run("app", "list", "--json").stdout)
        return found

    def ran(self) -> "list[int]":
        file = self.directory / "ran"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def left(self) -> "list[str]":
        file = self.directory / "left"
        return file.read_text().split() if file.exists() else []

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


def rows(home: Path, *tables: str) -> "dict[str, int]":
    """What is kept of apps, by table; of those that have any."""
    with closing(sqlite3.connect(f"file:{home}/greenroom.db?mode=ro", uri=True)) as connection:
        found = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in tables or ("detached", "versions", "functions", "images", "version_images", "containers")
        }
    return {table: count for table, count in found.items() if count}
