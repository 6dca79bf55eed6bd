"""The rooms and the edges between them, as docs/architecture.md lists them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom.model.image import OLDEST_PYTHON
from tests.interpreters import interpreter

SOURCE = Path(__file__).parent.parent / "src" / "greenroom"
MAY_IMPORT = {
    "model": set(),
    "wire": {"model"},
    "usercode": {"model"},
    "sdk": {"usercode", "wire", "model"},
    "cli": {"sdk", "usercode", "wire", "model"},
    "server": {"wire", "model"},
    "worker": {"wire", "model"},
    "agent": {"usercode", "wire", "model"},
}
INSIDE_CONTAINERS = {"model", "wire", "usercode", "agent"}
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_edges(path):
    room = path.relative_to(SOURCE).parts[0]
    if room not in MAY_IMPORT:
        return
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == "greenroom" and rest:
            assert rest.partition(".")[0] in MAY_IMPORT[room] | {room}, f"{path} imports {name}"
        elif room in INSIDE_CONTAINERS and top != "greenroom":
            assert top in sys.stdlib_module_names | {"cloudpickle"}, f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_names_and_sizes(path):
    assert path.stem not in {"utils", "helpers", "manager", "common"}
    text = path.read_text()
    assert len(text.splitlines()) <= 460, f"{path} has grown: is it one thing?"
    assert "TO" + "DO" not in text


def loaded_by(statement):
    program = f"import sys; sys.path[:0] = [{str(SOURCE.parent)!r}]; {statement}; print(' '.join(sys.modules))"
    command = [sys.executable, "-S", "-c", program]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_import_greenroom_is_light():
    heavy = {"asyncio", "inspect", "dataclasses", "rich", "click", "subprocess", "logging", "uvloop", "cloudpickle"}
    assert not loaded_by("import greenroom") & heavy


def test_the_agent_is_light():
    heavy = {
        "asyncio",
        "inspect",
        "dataclasses",
        "rich",
        "click",
        "subprocess",
        "logging",
        "ctypes",
        "traceback",
        "tempfile",
    }
    assert not loaded_by("import greenroom.agent.main, greenroom.agent.serve_serial") & heavy


def test_a_program_that_calls_nothing_asynchronously_loads_no_event_loop():
    heavy = {"asyncio", "inspect", "dataclasses", "subprocess", "logging", "tarfile", "shutil", "rich", "click"}
    heavy |= {"hashlib", "pathlib", "urllib", "datetime"}
    names = "greenroom.App, greenroom.method, greenroom.enter, greenroom.Secret, greenroom.Retries, greenroom.Period(days=1)"
    assert not loaded_by(f"import greenroom; {names}") & heavy


def test_what_goes_into_containers_is_imported_by_an_older_python(tmp_path):
    """``make check`` types it as 3.10 does; here such an interpreter reads it, where there is one."""
    from greenroom.worker.toolbox import ROOMS

    makefile = (SOURCE.parent.parent / "Makefile").read_text()
    assert f"\nINSIDE := {' '.join(ROOMS)}\nOLDEST_INSIDE := {'.'.join(map(str, OLDEST_PYTHON))}\n" in makefile
    files = [path for path in FILES if path.relative_to(SOURCE).parts[0] in ROOMS and path.stem != "__main__"]
    names = [".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in files]
    program = (
        f"import sys, importlib; sys.path[:0] = [{str(SOURCE.parent)!r}]; list(map(importlib.import_module, {names}))"
    )
    command = [interpreter("3.10"), "-X", f"pycache_prefix={tmp_path}", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
