"""``greenroom serve``, through the real command: what a client sees while the program is edited."""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import assert_nothing_left, wait_for

PROGRAM = """
import greenroom

app = greenroom.App("hot")
VERSION = 1


@app.cls()
class K:
    @greenroom.enter()
    def load(self):
        self.version = VERSION

    @greenroom.asgi_app()
    def api(self):
        async def application(scope, receive, send):
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                await receive()
                return
            if scope["type"] != "http":
                raise RuntimeError("no lifespan")
            import asyncio

            await asyncio.sleep(0.005)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"%d" % self.version})

        return application

    @greenroom.exit()
    def leave(self):
        print("exit of", self.version)
"""


class Serve:
    """A ``greenroom serve`` of a program in a directory of its own."""

    def __init__(self, directory: Path, sandbox: str, program: str = PROGRAM, until: str = "is ready") -> None:
        self.file = directory / "program.py"
        self.file.write_text(program)
        self.output = ""
        command = [sys.executable, "-m", "greenroom.cli.main", "serve", str(self.file), "--sandbox", sandbox]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=directory
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: until in self.output, what=self.output)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def save(self, text: str) -> None:
        """As editors do: a whole new file in the place of the other."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.file)

    def get(self) -> bytes:
        url = self.output.partition("answers at ")[2].split()[0]
        port = int(url.split(":")[2].partition("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/hot-k-api-dev/")
            response = connection.getresponse()
            return b"%d: %b" % (response.status, response.read())
        finally:
            connection.close()

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(60)
        self.close()
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(params=["process", "oci"])
def serve(request, home, tmp_path, need):
    if request.param == "oci":
        need.runtime("crun")
    made = Serve(tmp_path, request.param)
    yield made
    made.close()


def test_edits_are_served_without_a_failed_request(serve, home):
    seen: Counter[bytes] = Counter()
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            try:
                seen[serve.get()] += 1
            except OSError as error:
                seen[repr(error).encode()] += 1

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    wait_for(lambda: seen[b"200: 1"] > 10, what="the first version answers")
    serve.save(PROGRAM.replace("VERSION = 1", "VERSION = 2"))
    wait_for(lambda: seen[b"200: 2"] > 10, what="the second version answers")
    wait_for(lambda: "exit of 1" in serve.output, what="the first one's exit hook has run")
    serve.save("def (\n")
    wait_for(lambda: "the version before it goes on" in serve.output, what="the error is shown")
    assert "SyntaxError" in serve.output
    before = seen[b"200: 2"]
    wait_for(lambda: seen[b"200: 2"] > before + 10, what="the version before goes on")
    serve.save(PROGRAM.replace("VERSION = 1", "VERSION = 3"))
    wait_for(lambda: seen[b"200: 3"] > 10, what="the third version answers")
    stop.set()
    for client in clients:
        client.join()
    assert set(seen) == {b"200: 1", b"200: 2", b"200: 3"}
    assert serve.end() == 130
    for version in (1, 2, 3):
        assert f"exit of {version}" in serve.output
    assert_nothing_left(home)


def test_requests_are_shown_and_no_flood_of_them(serve):
    for _ in range(60):
        assert serve.get() == b"200: 1"
    wait_for(lambda: "more requests in this second" in serve.output, what="those left out are counted")
    assert "• GET /hot-k-api-dev/ 200 in " in serve.output
    shown = serve.output.count("GET /hot-k-api-dev/")
    left_out = sum(int(n) for n in re.findall(r"… and (\d+) more requests in this second", serve.output))
    assert left_out >= 1
    assert shown + left_out <= 60
    assert serve.end() == 130


def test_a_container_that_can_not_start_leaves_the_version_before(serve):
    assert serve.get() == b"200: 1"
    broken = PROGRAM.replace("self.version = VERSION", "raise RuntimeError('no model')")
    serve.save(broken)
    wait_for(lambda: "the version before it goes on" in serve.output, what=serve.output)
    assert "no model" in serve.output
    assert serve.get() == b"200: 1"
    serve.save(PROGRAM.replace("VERSION = 1", "VERSION = 2"))
    wait_for(lambda: serve.get() == b"200: 2", what="what was mended is served")
    assert serve.end() == 130


def test_what_can_not_be_served_at_all(tmp_path, home):
    (tmp_path / "program.py").write_text("def (\n")
    command = [sys.executable, "-m", "greenroom.cli.main", "serve", "--no-reload", str(tmp_path / "program.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "SyntaxError" in done.stderr
    assert_nothing_left(home)


def test_a_file_that_is_not_there_is_misuse(tmp_path, home):
    command = [sys.executable, "-m", "greenroom.cli.main", "serve", str(tmp_path / "nofile.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, f"greenroom: there is no file {tmp_path}/nofile.py\n")


def test_a_second_ctrl_c_waits_for_no_exit_hook(serve, home):
    assert serve.get() == b"200: 1"
    serve.save(PROGRAM.replace('print("exit of", self.version)', "__import__('time').sleep(600)"))
    wait_for(lambda: serve.output.count("is ready") == 2, what="the edit is served")
    assert serve.get() == b"200: 1"
    serve.process.send_signal(signal.SIGINT)
    wait_for(lambda: "once more to kill" in serve.output, what="the first is answered")
    assert serve.end() == 130
    assert "killing" in serve.output
    assert_nothing_left(home)


HANGING = """
import os, time
print("imported by", os.getpid(), flush=True)
time.sleep(600)
"""
STUBBORN = HANGING.replace(
    "time.sleep(600)",
    """try:
    time.sleep(600)
except KeyboardInterrupt:
    print("goes on", flush=True)
    time.sleep(600)
""",
)


def test_an_edit_supersedes_an_import_that_does_not_end(tmp_path, home):
    serve = Serve(tmp_path, "process", PROGRAM + HANGING, until="imported by")
    try:
        serve.save(PROGRAM)
        wait_for(lambda: "is ready" in serve.output, what="the edit is served")
        assert "waiting for the next edit" not in serve.output
        assert serve.get() == b"200: 1"
        assert serve.end() == 130
    finally:
        serve.close()
    assert_nothing_left(home)


@pytest.mark.parametrize("program", [HANGING, STUBBORN])
def test_ctrl_c_ends_what_is_imported(program, tmp_path, home):
    serve = Serve(tmp_path, "process", PROGRAM + program, until="imported by")
    try:
        if program == STUBBORN:
            serve.process.send_signal(signal.SIGINT)
            wait_for(lambda: "goes on" in serve.output, what="it is interrupted")
        assert serve.end() == 130
        assert not os.path.exists(f"/proc/{serve.output.partition('imported by ')[2].split()[0]}")
    finally:
        serve.close()
    assert_nothing_left(home)


def test_what_is_saved_while_the_program_is_imported_counts(tmp_path, home):
    """A module of it, that nobody knows of by then."""
    (tmp_path / "helper.py").write_text("NUMBER = 1\n")
    go = tmp_path / "go"
    slow = f"import helper, os, time\nprint('imports', flush=True)\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.01)\n"
    serve = Serve(
        tmp_path, "process", slow + PROGRAM.replace("VERSION = 1", "VERSION = helper.NUMBER"), until="imports"
    )
    try:
        (tmp_path / "helper.py").write_text("NUMBER = 2\n")
        go.touch()
        wait_for(lambda: "helper.py was saved" in serve.output, what="it is noticed")
        wait_for(lambda: "is ready" in serve.output and serve.get() == b"200: 2", what="it is served")
        assert serve.end() == 130
    finally:
        serve.close()
    assert_nothing_left(home)
