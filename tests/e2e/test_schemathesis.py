"""What schemathesis finds of an API that is served directly, and of the same through Greenroom, is the same."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import wait_for
from tests.e2e.programs import start
from tests.long_form import LONG

API = Path(__file__).parent / "api.py"
_FOUND = re.compile(r"^_+ ([A-Z]+ \S+) _+$|^- (.+)$", re.MULTILINE)


def findings(url: str, directory: Path) -> set[tuple[str, str]]:
    """``(operation, what is wrong with it)``."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{url}openapi.json", "--url", url, "--seed", "1",
        "--max-examples", "40" if LONG else "10", "--phases", "examples,coverage,fuzzing", "--no-color",
        "--generation-deterministic",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=directory)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found, operation = set(), ""
    for line in _FOUND.finditer(done.stdout):
        operation = line[1] or operation
        if line[2] and operation:
            found.add((operation, line[2]))
    return found


@pytest.fixture
def directly():
    program = "import sys; sys.path.insert(0, sys.argv[1]); import uvicorn, api; uvicorn.run(api.make(), port=0)"
    command = [sys.executable, "-c", program, str(API.parent)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = ""
        while (found := re.search(r"running on (http://\S+)", said)) is None:
            line = server.stderr.readline()
            assert line, said
            said += line
        threading.Thread(target=server.stderr.read, daemon=True).start()
        yield f"{found[1]}/"
        server.terminate()


@pytest.fixture
def through_greenroom(home):
    server = start("serve", "--no-reload", "--sandbox", "process", str(API), GREENROOM_HOME=str(home))
    assert server.stderr is not None
    said = ""
    while (found := re.search(r"answers at (\S+)", said)) is None:
        line = server.stderr.readline()
        assert line, said
        said += line
    yield found[1]
    server.terminate()
    server.communicate(timeout=60)


def test_what_it_finds_is_the_same(directly, through_greenroom, tmp_path):
    wait_for(lambda: urlopen(f"{through_greenroom}openapi.json").status == 200, what="it answers")
    expected = findings(directly, tmp_path)
    named = " ".join(operation for operation, _ in expected)
    assert "divided" in named
    assert "header" in named
    assert findings(through_greenroom, tmp_path) == expected
