"""The guide's own examples, byte for byte, with a prelude that supplies what the guide leaves out."""

import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import assert_nothing_left, wait_for
from tests.e2e.programs import run, start

GUIDE = Path(__file__).resolve().parents[3] / "shared" / "spec" / "container-lifecycle-hooks.txt"
_STARTS = ("import ", "from ", "app = ", "image = ", "@", "class ", "def ", "async def ")


def blocks() -> list[str]:
    """The guide's code blocks: what is indented, or begins like a statement, from ``import modal`` on."""
    found: list[list[str]] = []
    inside = False
    for line in GUIDE.read_text().splitlines():
        code = not line.strip() or line.startswith((" ", *_STARTS))
        if not inside and line in ("import modal", "from fastapi import Request"):
            found.append([])
            inside = True
        inside = inside and code
        if inside:
            found[-1].append(line)
    return ["\n".join(block).rstrip() + "\n" for block in found]


pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="the guide isn't here")

PICKLE = """
import builtins
import pickle


class Doubler:
    def predict(self, x):
        print("predicted", 2 * x)
        return 2 * x


with builtins.open("model.pickle", "wb") as file:
    pickle.dump(Doubler(), file)


def open(path):
    return builtins.open(path, "rb")
"""

ASYNC = """
async def load_cache():
    print("cache loaded")
    return {"a": 1}


async def do_some_async_stuff(x, cache):
    print("ran", x, cache)
    return x
"""


def program(directory: Path, prelude: str, number: int) -> Path:
    path = directory / "guide.py"
    text = blocks()[number]
    path.write_text(prelude + "\n\n" + text)
    assert text in path.read_text()
    return path


def test_there_are_six_blocks():
    assert len(blocks()) == 6
    assert all("modal.App(" in block for block in blocks())


def test_first_block(home, tmp_path):
    result = run("run", str(program(tmp_path, PICKLE, 0)), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "predicted 246" in result.stdout
    if (os.cpu_count() or 1) < 8:
        assert "asks for 8 CPUs" in result.stdout + result.stderr
    assert_nothing_left(home)


def test_second_block(home, tmp_path):
    result = run("run", str(program(tmp_path, ASYNC, 1)), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.index("cache loaded") < result.stdout.index("ran 123 {'a': 1}")
    assert_nothing_left(home)


@pytest.fixture
def postgres(need, tmp_path) -> Iterator[tuple[str, Path]]:
    """A PostgreSQL server of the test's own on 127.0.0.1: its URI and its log."""
    binaries = need.file("/usr/lib/postgresql/*/bin/initdb").parent
    pytest.importorskip("psycopg2")
    directory = Path("/tmp") / f"gr-pg-{os.getpid()}"
    directory.mkdir()
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(directory, "nobody")
        as_user = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    data, log = directory / "data", directory / "log"
    initdb = [*as_user, str(binaries / "initdb"), "-D", str(data), "-U", "test", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, env=environment, cwd=directory)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "log_connections": "on",
        "log_disconnections": "on",
        "fsync": "off",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with log.open("wb") as opened:
        command = [*as_user, str(binaries / "postgres"), "-D", str(data), *options]
        server = subprocess.Popen(command, stdout=opened, stderr=opened, env=environment, cwd=directory)
    try:
        wait_for(lambda: "ready to accept connections" in log.read_text(errors="replace"), what="PostgreSQL is up")
        yield f"postgresql://test@127.0.0.1:{port}/postgres", log
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def test_third_block_against_postgresql(home, tmp_path, postgres):
    uri, log = postgres
    prelude = f"import os\n\nos.environ['DATABASE_URI'] = {uri!r}\n"
    before = log.read_text().count("connection authorized")
    result = run("run", str(program(tmp_path, prelude, 2)), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    wait_for(lambda: "disconnection: session time" in log.read_text(), what="the connection is closed")
    text = log.read_text()
    assert text.count("connection authorized") - before == 1
    assert text.index("connection authorized") < text.index("disconnection: session time")
    assert "unexpected EOF on client connection" not in text
    assert_nothing_left(home)


BUILD = """
def download_model_to_disk():
    with open("weights", "w") as file:
        file.write("42")
    print("downloaded")


def load_model_from_disk():
    with open("weights") as file:
        print("loaded", file.read())
"""

CACHE = """
import os


def load_model_from_network(local_cache_dir):
    cached = os.path.join(local_cache_dir, "weights")
    if not os.path.exists(cached):
        print("downloaded")
        with open(cached, "w") as file:
            file.write("42")
    print("loaded from", cached)
"""


def test_fourth_block_builds_once(home, tmp_path):
    guide = program(tmp_path, BUILD, 3)
    for expected in (["downloaded", "loaded 42"], ["loaded 42"]):
        result = run("run", f"{guide}::Model.predict", "--x", "1", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        printed = [line.strip() for line in (result.stderr + result.stdout).splitlines()]
        assert [line for line in printed if line in ("downloaded", "loaded 42")] == expected
        assert ("✓ image 1/1 @build Model.download_model" in result.stderr) is (len(expected) == 2)
    assert_nothing_left(home)


def test_fifth_block_stacks_build_on_enter(home, tmp_path, need):
    need.runtime("crun")  # it writes to "/"
    guide = program(tmp_path, CACHE, 4)
    for downloads in (1, 0):
        result = run("run", f"{guide}::Model.predict", "--x", "1", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert (result.stdout + result.stderr).count("downloaded") == downloads
        assert "loaded from /weights" in result.stdout
    assert_nothing_left(home)


def test_sixth_block_answers_requests(debian_home, tmp_path):
    """Debian and FastAPI in the image, none of this machine's."""
    served = start(
        "serve", "--no-reload", "--sandbox", "oci", str(program(tmp_path, PICKLE, 5)), cwd=tmp_path,
        GREENROOM_HOME=str(debian_home), GREENROOM_WEB_PORT="0",
    )  # fmt: skip
    assert served.stderr is not None
    said = ""
    while "answers at" not in said:
        line = served.stderr.readline()
        assert line, said
        said += line
    url = said.rpartition("answers at ")[2].strip()
    assert url.endswith("/web-endpoint-cls-model-predict-dev/")
    with urllib.request.urlopen(url, timeout=60) as response:
        assert (response.status, response.read()) == (200, b"null")
    served.send_signal(signal.SIGINT)
    _, rest = served.communicate(timeout=60)
    assert served.returncode == 130, rest
    assert "Traceback" not in said + rest
