"""The command on a terminal of its own: what is seen, what is typed, and the terminal afterwards."""

import fcntl
import re
import subprocess
import termios

import pytest

from tests.conftest import assert_nothing_left, wait_for
from tests.e2e.programs import COMMAND, environment, run, write
from tests.sdk.terminal import Terminal

PROGRAM = """
    import os, pathlib, signal, time
    import greenroom

    app = greenroom.App("seen")
    here = pathlib.Path(os.environ.get("HERE", "."))

    @app.cls(max_containers=1, env={"HERE": str(here)})
    class Model:
        @greenroom.enter()
        def load(self):
            signal.signal(signal.SIGINT, lambda *_: (here / "interrupted").touch())

        @greenroom.method()
        def wait_for(self, name):
            (here / f"waits-{name}").touch()
            while not (here / name).exists():
                time.sleep(0.01)
                if (here / "speak").exists():
                    (here / "speak").unlink()
                    print("from a container")

        @greenroom.method()
        def greet(self, name):
            print("greeting", name)
            return f"hello {name}"

        @greenroom.exit()
        def close(self):
            print("exit hook begins")
            (here / "exiting").touch()
            if (here / "slow-exit").exists():
                time.sleep(60)
            (here / "exited").touch()
            print("exit hook ends")

    @app.local_entrypoint()
    def mapped():
        list(Model().wait_for.map(["first", "second"] * 10))
        print("mapped")

    @app.local_entrypoint()
    def asks():
        Model().greet.remote("nobody")
        print(Model().greet.remote(input("Name? ")))

    @app.local_entrypoint()
    def asks_meanwhile(editing: bool = False):
        if editing:
            import readline
        call = Model().wait_for.spawn("answer")
        print("Your ", end="")
        print("hello", input("name? "))
        call.get()

    @app.local_entrypoint()
    def works():
        Model().wait_for.remote("ever")
"""


class Session:
    """The command with a terminal of its own, whose foreground process group it is."""

    def __init__(self, directory, entry, *arguments) -> None:
        self.terminal = Terminal()
        self.modes = self.terminal.modes
        program = write(directory, PROGRAM)
        stream = self.terminal.stream
        self.process = subprocess.Popen(
            [*COMMAND, "run", f"{program}::{entry}", *arguments],
            env=environment(HERE=str(directory), TERM="xterm"),
            stdin=stream,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def end(self) -> tuple[int, list[str]]:
        """Its status, and what is left on the screen; the terminal is as it was."""
        status = self.process.wait(60)
        assert self.terminal.modes == self.modes
        seen = self.terminal.close()
        raw = self.terminal.raw
        assert raw.count("\x1b[?7l") == raw.count("\x1b[?7h"), "lines wrap again"
        assert "\x1b[?25l" not in raw, "the cursor was there all the time"
        return status, seen


@pytest.fixture
def session(home, tmp_path, monkeypatch):
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GREENROOM_SANDBOX", "process")  # its programs speak with the tests by files
    made: list[Session] = []

    def make(entry, *arguments):
        made.append(Session(tmp_path, entry, *arguments))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.terminal.close()


def test_progress_of_a_map(session, home, tmp_path):
    one = session("mapped")
    wait_for((tmp_path / "waits-first").exists, what="the first input runs")
    one.terminal.wait_seen(lambda seen: any("━" in line and " 0/20 " in line for line in seen))
    (tmp_path / "first").touch()
    one.terminal.wait_seen(lambda seen: any("━" in line and " 1/20 " in line for line in seen))
    (tmp_path / "second").touch()
    assert one.end() == (0, ["mapped", "exit hook begins", "exit hook ends"])
    assert_nothing_left(home)


def test_a_prompt(session, tmp_path):
    one = session("asks")
    one.terminal.wait_seen(lambda seen: seen == ["greeting nobody", "Name? "])
    one.terminal.type("Ada\n")
    status, seen = one.end()
    assert status == 0
    prompt = seen.index("Name? Ada")
    assert "greeting nobody" in seen[:prompt]
    assert sorted(seen[prompt + 1 :]) == ["exit hook begins", "exit hook ends", "greeting Ada", "hello Ada"]


@pytest.mark.parametrize("editing", [False, True])
def test_containers_that_speak_while_the_program_asks(session, tmp_path, editing):
    one = session("asks_meanwhile", *(["--editing"] if editing else []))
    one.terminal.wait_for("Your name? ")
    for number in range(3):
        (tmp_path / "speak").touch()
        lines = ["from a container"] * (number + 1)
        one.terminal.wait_seen(lambda seen, lines=lines: seen == [*lines, "Your name? "])
    one.terminal.type("Ada\n")
    (tmp_path / "answer").touch()
    status, seen = one.end()
    assert status == 0
    assert seen == [*lines, "Your name? Ada", "hello Ada", "exit hook begins", "exit hook ends"]


def test_ctrl_c_at_a_prompt(session, home, tmp_path):
    one = session("asks_meanwhile")
    one.terminal.wait_for("Your name? ")
    wait_for((tmp_path / "waits-answer").exists, what="the input runs")
    one.terminal.type("\x03")
    status, seen = one.end()
    assert status == 130
    assert [line for line in seen if line][1:] == [
        "stopping: exit hooks run; once more to kill", "exit hook begins", "exit hook ends",
    ]  # fmt: skip
    assert_nothing_left(home)


def test_ctrl_c_typed(session, home, tmp_path):
    """The line discipline signals the whole foreground process group; containers are not of it."""
    one = session("works")
    wait_for((tmp_path / "waits-ever").exists, what="the input runs")
    one.terminal.type("\x03")
    status, seen = one.end()
    assert status == 130
    assert [line for line in seen if line not in ("", "^C")] == [
        "stopping: exit hooks run; once more to kill", "exit hook begins", "exit hook ends",
    ]  # fmt: skip
    assert not (tmp_path / "interrupted").exists()
    assert_nothing_left(home)


def test_ctrl_c_typed_twice(session, home, tmp_path):
    (tmp_path / "slow-exit").touch()
    one = session("works")
    wait_for((tmp_path / "waits-ever").exists, what="the input runs")
    one.terminal.type("\x03")
    wait_for((tmp_path / "exiting").exists, what="the exit hook runs")
    one.terminal.type("\x03")
    status, seen = one.end()
    assert status == 130
    assert "killing" in seen
    assert not (tmp_path / "exited").exists()
    assert not (tmp_path / "interrupted").exists()
    assert_nothing_left(home)


def test_timestamps_and_quiet(home, tmp_path, monkeypatch):
    monkeypatch.setenv("GREENROOM_SANDBOX", "process")
    target = f"{write(tmp_path, PROGRAM)}::Model.greet"
    timed = run("run", "--timestamps", target, "--name", "Ada", HERE=str(tmp_path))
    assert re.fullmatch(
        "(?:[0-9]{2}:[0-9]{2}:[0-9]{2} (?:greeting Ada|exit hook begins|exit hook ends)\n){3}hello Ada\n", timed.stdout
    )
    assert timed.stderr == "✓ seen is ready\n✓ app ended\n"
    quiet = run("run", "-q", target, "--name", "Ada", HERE=str(tmp_path))
    assert (quiet.stdout, quiet.stderr) == ("greeting Ada\nexit hook begins\nexit hook ends\nhello Ada\n", "")
