"""Builds that are killed, interrupted, crowded or out of room: a layer is whole or absent, and the next run is right."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Need, assert_nothing_left, wait_for
from tests.e2e.programs import COMMAND, environment, run, start, write
from tests.e2e.test_faults import pid_of

PROGRAM = """
    import os, subprocess
    import greenroom

    app = greenroom.App("faults")

    @app.cls(secrets=[greenroom.Secret.from_dict({"MARKS": os.environ.get("MARKS", "")})])
    class Model:
        @greenroom.build()
        def first(self):
            with open("first", "w") as file:
                file.write("whole")

        @greenroom.build()
        def download(self):
            with open("model", "w") as file:
                file.write("half")
                file.flush()
                marks = os.environ["MARKS"]
                inside = 'touch "$1/inside-$2"; test -e "$1/free" || read -r line < "$1/go"'
                id = os.environ["GREENROOM_CONTAINER_ID"]
                subprocess.run(["/bin/sh", "-c", inside, "sh", marks, id], check=True)
                file.write(" and half")

        @greenroom.enter()
        def load(self):
            with open("first") as first, open("model") as model:
                self.found = first.read(), model.read()

        @greenroom.method()
        def get(self):
            return self.found

    @app.local_entrypoint()
    def main():
        print("found", *Model().get.remote(), sep=": ")
"""
RIGHT = "found: whole: half and half\n"


class Trial:
    """A program whose second hook is inside until it is let go."""

    def __init__(self, home: Path, directory: Path, sandbox: str) -> None:
        self.home = home
        self.marks = directory / "marks"
        self.marks.mkdir()
        self.marks.chmod(0o777)
        os.mkfifo(self.marks / "go")
        (self.marks / "go").chmod(0o666)
        # Open for both, so that a line waits for a hook that comes to read it, and nobody for one that doesn't.
        self.go = os.open(self.marks / "go", os.O_RDWR)
        self.program = write(directory, PROGRAM)
        self.settings = {
            "MARKS": str(self.marks),
            "GREENROOM_SANDBOX": sandbox,
            "GREENROOM_SHARED_DIRS": str(self.marks),
        }
        self.started: list[subprocess.Popen[str]] = []

    def start(self) -> "subprocess.Popen[str]":
        self.started.append(start("run", str(self.program), **self.settings))
        return self.started[-1]

    def inside(self) -> int:
        """How many times the hook has been inside."""
        return len(list(self.marks.glob("inside-*")))

    def wait_inside(self, times: int = 1) -> None:
        wait_for(lambda: self.inside() == times, what=f"the hook is inside for the {times}. time")

    def let_go(self) -> None:
        """The hook that is inside, and all that come after it."""
        (self.marks / "free").touch()
        os.write(self.go, b"\n")

    def children(self) -> list[int]:
        """The hook's own, as this machine numbers them."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"/bin/sh", b"-c"] and str(self.marks).encode() in words:
                found.append(int(entry.name))
        return found

    def kill(self, victim: str) -> None:
        if victim == "client":
            self.started[0].kill()
        else:
            os.kill(self.children()[0] if victim == "child" else pid_of(self.home, victim), signal.SIGKILL)

    def made(self) -> int:
        """How many layers are there; and nothing else is."""
        directory = self.home / "layers"
        names = [path.name for path in directory.iterdir()] if directory.exists() else []
        assert not [name for name in names if name.startswith((".new-", ".old-"))]
        return len([name for name in names if not name.startswith(".")])

    def assert_clean(self, layers: int) -> None:
        assert_nothing_left(self.home)
        assert self.made() == layers
        verified = run("image", "verify")
        assert (verified.returncode, verified.stderr) == (0, "")
        assert verified.stdout == f"✓ {layers} layer{'s' * (layers != 1)} as made\n"

    def assert_next_run_is_right(self) -> None:
        (self.marks / "free").touch()
        result = run("run", str(self.program), **self.settings)
        assert (result.returncode, result.stdout) == (0, RIGHT), result.stderr
        self.assert_clean(2)


@pytest.fixture(params=["process", "oci"])
def sandbox(request: pytest.FixtureRequest) -> str:
    if request.param == "oci":
        Need.runtime("crun")
    return str(request.param)


@pytest.fixture
def trial(home: Path, tmp_path: Path, sandbox: str) -> Iterator[Trial]:
    made = Trial(home, tmp_path, sandbox)
    yield made
    os.close(made.go)
    for process in made.started:
        with process:  # closes its pipes
            process.kill()


@pytest.mark.parametrize("victim", ["client", "server"])
def test_sigkill_of_whom_the_build_is_for(trial: Trial, victim: str) -> None:
    process = trial.start()
    trial.wait_inside()
    trial.kill(victim)
    process.communicate(timeout=60)
    trial.assert_clean(1)
    trial.assert_next_run_is_right()


@pytest.mark.parametrize("victim", ["supervisor", "agent", "child"])
def test_sigkill_in_the_step_fails_the_build(trial: Trial, victim: str) -> None:
    process = trial.start()
    trial.wait_inside()
    trial.kill(victim)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "@build Model.download" in err
    why = {"supervisor": "its supervisor was killed", "agent": "killed by signal 9", "child": "SIGKILL"}
    assert why[victim] in err, err
    assert "Traceback" not in err or victim == "child"
    trial.assert_clean(1)
    trial.assert_next_run_is_right()


def test_sigkill_of_the_worker_begins_the_step_anew(trial: Trial) -> None:
    process = trial.start()
    trial.wait_inside()
    trial.kill("worker")
    trial.wait_inside(2)
    wait_for(lambda: len(trial.children()) == 1, what="the first hook has ended")
    trial.let_go()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, RIGHT), err
    trial.assert_clean(2)
    trial.assert_next_run_is_right()
    assert trial.inside() == 2


def test_everything_killed_at_once(trial: Trial) -> None:
    process = trial.start()
    trial.wait_inside()
    for pid in (pid_of(trial.home, "worker"), pid_of(trial.home, "server"), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    wait_for(lambda: len(trial.children()) == 0, what="the hook's container ends by itself")
    trial.assert_next_run_is_right()


def test_ctrl_c_ends_the_build_at_once(trial: Trial) -> None:
    process = trial.start()
    trial.wait_inside()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    trial.assert_clean(1)
    trial.assert_next_run_is_right()


def says(process: "subprocess.Popen[str]", text: str) -> None:
    """Read its stderr until a line says so."""
    assert process.stderr is not None
    seen = ""
    while text not in seen:
        ready, _, _ = select.select([process.stderr], [], [], 45)
        more = os.read(process.stderr.fileno(), 4096).decode() if ready else ""
        assert more, f"it never said {text!r}: {seen}"
        seen += more


def test_two_at_once_build_it_once(trial: Trial) -> None:
    one = trial.start()
    trial.wait_inside()
    two = trial.start()
    says(two, "another build makes it")
    assert trial.inside() == 1
    trial.let_go()
    for process in (one, two):
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, RIGHT), err
    assert trial.inside() == 1
    trial.assert_clean(2)


def test_the_other_finishes_when_the_builder_is_killed(trial: Trial) -> None:
    one = trial.start()
    trial.wait_inside()
    victims = [pid_of(trial.home, "worker"), pid_of(trial.home, "server"), one.pid]
    two = trial.start()
    says(two, "another build makes it")
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    one.communicate(timeout=60)
    trial.wait_inside(2)
    wait_for(lambda: len(trial.children()) == 1, what="the first hook has ended")
    trial.let_go()
    out, err = two.communicate(timeout=60)
    assert (two.returncode, out) == (0, RIGHT), err
    trial.assert_next_run_is_right()


def test_a_layer_that_was_tampered_with_is_found(trial: Trial) -> None:
    trial.assert_next_run_is_right()
    (model,) = (trial.home / "layers").glob(
        "*/fs/root/model" if trial.settings["GREENROOM_SANDBOX"] == "oci" else "*/fs/home/model"
    )
    model.write_text("half and hald")
    verified = run("image", "verify")
    assert verified.returncode == 1
    layer = model.relative_to(trial.home / "layers").parts[0][:12]
    assert f"✗ {layer} @build Model.download: it has changed since it was made\n" in verified.stdout
    pruned = run("image", "prune", "--all")
    assert pruned.stdout.startswith("removed 2 layers, ")
    trial.assert_next_run_is_right()


# ---- disks ----

SCRIPT = """
    import os, pathlib, subprocess, sys
    home, program, size = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    command = sys.argv[4:]

    def mount(*words):
        subprocess.run(["mount", *words, str(home)], check=True)

    def greenroom(*words):
        done = subprocess.run([*command, *words], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def hidden():
        return [path.name for path in (home / "layers").glob(".[no]*-*")]

    mount("-t", "tmpfs", "-o", f"size={size}", "none")
"""
"""Runs in a mount namespace of its own, so that what it mounts goes with it."""

LARGE = """
    import os
    import greenroom

    app = greenroom.App("large")

    @app.cls()
    class Model:
        @greenroom.build()
        def small(self):
            with open("small", "wb") as file:
                file.write(b"x" * 1_000_000)

        @greenroom.build()
        def large(self):
            with open("large", "wb") as file:
                for _ in range(8):
                    file.write(b"x" * 1_000_000)

        @greenroom.method()
        def get(self):
            return os.stat("small").st_size, os.stat("large").st_size

    @app.local_entrypoint()
    def main():
        print(*Model().get.remote())
"""


@pytest.fixture
def on_a_small_disk(home: Path, tmp_path: Path, sandbox: str) -> Callable[[str, str], str]:
    """Run a script whose state directory is a disk of that size."""
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(home)], capture_output=True, text=True
    )
    if tried.returncode:
        pytest.skip(f"can't mount a small disk here: {tried.stderr.strip()}")

    def go(size: str, script: str) -> str:
        program = write(tmp_path, LARGE)
        whole = write(tmp_path, SCRIPT + script, "script.py")
        words = ["unshare", "--mount", sys.executable, str(whole), str(home), str(program), size, *COMMAND]
        done = subprocess.run(
            words, env=environment(GREENROOM_SANDBOX=sandbox), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr + done.stdout
        assert_nothing_left(home)
        return done.stdout

    return go


def test_a_full_disk_is_said_and_nothing_half_is_used(on_a_small_disk: Callable[[str, str], str]) -> None:
    told = on_a_small_disk("7m", """
    status, out, err = greenroom("run", program)
    assert (status, out) == (1, ""), err
    assert "No space left on device" in err, err
    assert "@build Model.large" in err, err
    assert not hidden(), hidden()
    assert greenroom("image", "verify") == (0, "✓ 1 layer as made\\n", "")
    mount("-o", "remount,size=40m")
    status, out, err = greenroom("run", program)
    assert (status, out) == (0, "1000000 8000000\\n"), err
    assert greenroom("image", "verify") == (0, "✓ 2 layers as made\\n", "")
    assert not hidden()
    print("done")
    """)  # fmt: skip
    assert told == "done\n"


def test_a_full_disk_can_be_pruned(on_a_small_disk: Callable[[str, str], str]) -> None:
    told = on_a_small_disk("40m", """
    assert greenroom("run", program)[0] == 0
    with open(home / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            pass
    before = os.statvfs(home)
    status, out, err = greenroom("image", "prune", "--all")
    assert (status, err) == (0, ""), err
    after = os.statvfs(home)
    assert (after.f_bfree - before.f_bfree) * after.f_bsize >= 9_000_000
    print(out)
    """)  # fmt: skip
    assert told.startswith("removed 2 layers, ")


def test_a_read_only_state_directory_is_said(on_a_small_disk: Callable[[str, str], str]) -> None:
    told = on_a_small_disk("40m", """
    assert greenroom("run", program)[0] == 0
    mount("-o", "remount,ro")
    assert greenroom("image", "verify") == (0, "✓ 2 layers as made\\n", "")
    status, out, err = greenroom("image", "list")
    assert (status, err, out.count("\\n")) == (0, "", 3), (out, err)
    for words in (("image", "prune", "--all"), ("run", program), ("image", "build", program)):
        status, out, err = greenroom(*words)
        assert status in (1, 2) and "ead-only file system" in err and "Traceback" not in err, (words, status, err)
    assert greenroom("image", "prune", "--all", "--dry-run")[1].startswith("would remove 2 layers, ")
    print("done")
    """)  # fmt: skip
    assert told == "done\n"
