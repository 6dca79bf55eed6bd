"""Bases and their steps that are killed, interrupted or crowded while they are made: no half layer, and nothing is left."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import Need, assert_nothing_left, groups_of, wait_for
from tests.contract.test_packages import wheel
from tests.e2e.programs import start, write
from tests.e2e.test_faults import pid_of, read
from tests.e2e.test_image_faults import says
from tests.long_form import LONG

PROGRAM = """
    import greenroom

    app = greenroom.App("faults", image=greenroom.Image.debian_slim(){steps})

    @app.function()
    def look():
        import os

        return sorted(os.listdir("/srv"))

    @app.local_entrypoint()
    def main():
        print("found", *look.remote())
"""


class Trial:
    """A program whose image is made; what runs in its steps' containers is known by name."""

    def __init__(self, home: Path, directory: Path) -> None:
        self.home = home
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []

    def start(self, steps: str = "") -> "subprocess.Popen[str]":
        program = write(self.directory, PROGRAM.format(steps=steps))
        self.started.append(start("run", str(program), GREENROOM_HOME=str(self.home), GREENROOM_SANDBOX="oci"))
        return self.started[-1]

    def running(self, name: str) -> list[int]:
        """Programs of that name in containers, the eldest first."""
        files = [file for group in groups_of(self.home) for file in group.glob("*/cgroup.procs")]
        found = sorted({int(word) for file in files for word in read(file).split()})
        return [pid for pid in found if self._is(pid, name)]

    def _is(self, pid: int, name: str) -> bool:
        """By its own name, or, where a dynamic loader was told to start it, by its path."""
        words = read(Path(f"/proc/{pid}/cmdline")).split("\0")
        return read(Path(f"/proc/{pid}/comm")).strip() == name or any(word.endswith(f"/{name}") for word in words)

    def wait_for(self, name: str) -> int:
        return wait_for(lambda: self.running(name), what=f"{name} runs")[0]

    def wait_for_lists(self) -> None:
        """Until mmdebstrap's apt has begun to download."""
        wait_for(lambda: list(self.home.glob("layers/.new-*/base/fs/var/lib/apt/lists/partial/*")), what="lists come")

    def layers(self) -> set[str]:
        """Keys of those that are there; and nothing half-made is."""
        directory = self.home / "layers"
        names = {path.name for path in directory.iterdir()} if directory.exists() else set()
        assert not [name for name in names if name.startswith((".new-", ".old-"))]
        return {name for name in names if not name.startswith(".")}

    def ends(self, process: "subprocess.Popen[str]", status: int) -> str:
        """What it says, when it has ended with that status and left nothing."""
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (status, ""), err
        assert "Traceback" not in err
        assert_nothing_left(self.home)
        return err


@pytest.fixture
def trial(home: Path, tmp_path: Path) -> Iterator[Trial]:
    Need.runtime("crun")
    Need.runtime("mmdebstrap")
    made = Trial(home, tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


# ---- while mmdebstrap is at it, which is never let come to its end but in the long form ----


@pytest.mark.parametrize("victim", ["mmdebstrap", "apt-get"])
def test_sigkill_of_what_makes_debian_is_said(trial: Trial, victim: str) -> None:
    process = trial.start()
    trial.wait_for_lists()
    os.kill(trial.wait_for(victim), signal.SIGKILL)
    said = trial.ends(process, 1)
    assert "greenroom: Image.debian_slim() (app.py:4): Debian can't be made: " in said
    assert victim != "mmdebstrap" or said.endswith("Debian can't be made: mmdebstrap was killed by signal 9\n")
    assert trial.layers() == set()


def test_ctrl_c_while_debian_is_made(trial: Trial) -> None:
    process = trial.start()
    trial.wait_for_lists()
    process.send_signal(signal.SIGINT)
    trial.ends(process, 130)
    assert trial.layers() == set()


def test_sigkill_of_the_worker_begins_debian_anew(trial: Trial) -> None:
    process = trial.start()
    trial.wait_for_lists()
    first = trial.wait_for("mmdebstrap")
    os.kill(pid_of(trial.home, "worker"), signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{first}").exists(), what="the first one ends")
    trial.wait_for("mmdebstrap")
    trial.wait_for_lists()
    drafts = lambda: len(list((trial.home / "layers").glob(".new-*")))  # noqa: E731
    wait_for(lambda: drafts() == 1, what="what the first one left is swept away")
    process.send_signal(signal.SIGINT)
    trial.ends(process, 130)
    assert trial.layers() == set()


def test_of_two_one_makes_debian_and_the_other_waits(trial: Trial) -> None:
    """And makes it itself, when all of the first are killed."""
    one = trial.start()
    trial.wait_for_lists()
    victims = [pid_of(trial.home, "worker"), pid_of(trial.home, "server"), one.pid]
    first = trial.wait_for("mmdebstrap")
    two = trial.start()
    says(two, "another build makes it")
    assert len(list((trial.home / "layers").glob(".new-*"))) == 1
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    one.communicate(timeout=60)
    wait_for(lambda: not Path(f"/proc/{first}").exists(), what="the first one ends")
    trial.wait_for("mmdebstrap")
    if LONG:
        out, err = two.communicate(timeout=120)
        assert (two.returncode, out) == (0, "found\n"), err
    else:
        two.send_signal(signal.SIGINT)
        two.communicate(timeout=60)
        assert two.returncode == 130
    three = trial.start()  # which sweeps away what the first, all of it killed, could not
    if LONG:
        out, err = three.communicate(timeout=60)
        assert (three.returncode, out) == (0, "found\n"), err
        assert_nothing_left(trial.home)
        assert len(trial.layers()) == 2
    else:
        trial.wait_for("mmdebstrap")
        three.send_signal(signal.SIGINT)
        trial.ends(three, 130)
        assert trial.layers() == set()


# ---- while a step downloads ----


class Archive:
    """An index of Python packages and an archive of Debian's, which answers nobody until it is let go."""

    def __init__(self, directory: Path) -> None:
        self.free = threading.Event()
        self.asked = threading.Event()
        files = {
            "/simple/grone/": b'<a href="/grone-1.0-py3-none-any.whl">grone-1.0-py3-none-any.whl</a>',
            "/./Packages": b"",
        }
        files["/grone-1.0-py3-none-any.whl"] = wheel(directory, "grone", "1.0").read_bytes()
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                archive.asked.set()
                archive.free.wait()
                found = files.get(self.path)
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(found or b"")))
                self.end_headers()
                self.wfile.write(found or b"")

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    pass  # whoever asked was killed

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.free.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path)
    yield made
    made.close()


@pytest.fixture
def on_debian(trial: Trial, debian_home: Path) -> Trial:
    """A trial whose state directory has Debian, and is nobody else's."""
    (trial.home / "layers").mkdir(mode=0o700)
    for record in debian_home.glob("layers/*/layer.json"):
        if '"Image.debian_slim()"' in read(record) or '"greenroom\'s own files"' in read(record):
            copy = trial.home / "layers" / record.parent.name
            subprocess.run(["cp", "--archive", "--link", str(record.parent), str(copy)], check=True)
    return trial


STEPS = {
    "uv": """.pip_install("grone", index_url="{0}/simple")""",
    "apt-get": """.run_commands("echo 'deb [trusted=yes] {0} ./' > /etc/apt/sources.list").apt_install("apt")""",
}


@pytest.mark.parametrize("program", STEPS)
def test_a_step_that_is_killed_while_it_downloads(on_debian: Trial, archive: Archive, program: str) -> None:
    """First the program, then the worker, then by Ctrl-C: and then it is done at once."""
    trial, steps = on_debian, STEPS[program].format(archive.address)
    before = trial.layers()
    process = trial.start(steps)
    assert archive.asked.wait(60)
    os.kill(trial.wait_for(program), signal.SIGKILL)
    said = trial.ends(process, 1)
    title = {"uv": "Image.pip_install('grone')", "apt-get": "Image.apt_install('apt')"}[program]
    assert f"greenroom: {title} (app.py:4): exit status 137, after" in said
    assert said.endswith("    it was killed by signal 9\n")
    made = trial.layers()
    assert len(made - before) == (program == "apt-get")  # the command before it

    archive.asked.clear()
    process = trial.start(steps)
    assert archive.asked.wait(60)
    first = trial.wait_for(program)
    archive.asked.clear()
    os.kill(pid_of(trial.home, "worker"), signal.SIGKILL)
    assert archive.asked.wait(60), "the step begins anew"
    wait_for(lambda: first not in trial.running(program), what="the first one ends")
    process.send_signal(signal.SIGINT)
    trial.ends(process, 130)
    assert trial.layers() == made

    archive.free.set()
    process = trial.start(steps)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "found\n"), err
    assert_nothing_left(trial.home)
    assert len(trial.layers() - made) == 1
