"""Every code block of the docs runs; every example runs as a new user would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import assert_nothing_left
from tests.e2e.programs import python, run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(language, text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (language, text) in enumerate(re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S))
]
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != "web.py")
"""But for what is served until somebody ends it: see ``tests/e2e/test_browser.py``."""


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_block(home, tmp_path, language, text):
    if language == "python":
        program = tmp_path / "app.py"
        program.write_text(text)
        result = run_block(program, text)
        assert result.returncode == 0, result.stdout + result.stderr
        assert_nothing_left(home)
    elif language == "bash":
        for line in text.splitlines():
            # Some of make's targets take minutes, and this suite is one: what they would run is asked for. The demo runs below.
            command = line.partition("#")[0] + (" -n" if line.startswith("make ") else "")
            command = command.replace(".venv/bin/python", sys.executable)
            path = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            result = subprocess.run(
                ["bash", "-c", command], cwd=ROOT, env=path, capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stderr
            assert not line.startswith("make ") or ".venv" in result.stdout
    else:
        assert language in ("text", "mermaid")


def run_block(program, text):
    """As its reader would; a test in a directory of its own, without this suite's configuration."""
    if "def test_" not in text:
        by_itself = "app.run()" in text or "simulate(" in text
        return python(program) if by_itself else run("run", str(program))
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(program.parent),
            str(program),
        ],
        cwd=program.parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_demo(home, need):
    """In earnest, where it has nothing to install: the suite runs in the same virtual environment."""
    if subprocess.run(["make", "-q", ".venv/.installed"], cwd=ROOT, capture_output=True, check=False).returncode:
        need.missing("the virtual environment that make makes")
    result = subprocess.run(
        ["make", "--no-print-directory", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    told = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in told if not line.startswith("result")] == [
        "enter", "call 1", "call 2", "call 3", "exit",
    ]  # fmt: skip
    assert [line for line in told if line.startswith("result")] == ["result: 10", "result: 11", "result: 12"]
    assert_nothing_left(home)


def test_the_benchmarks_say_what_they_take():
    command = [sys.executable, "-m", "benchmarks"]
    result = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "--only WORD" in result.stdout
    assert subprocess.run([*command, "--fast"], cwd=ROOT, capture_output=True, check=False).returncode == 2


def test_every_row_of_the_benchmarks_has_its_command():
    text = (ROOT / "docs" / "performance.md").read_text()
    words = re.findall(r"--only (\w+)", text)
    names = re.findall(r"^(\S.*?) {2,}[\d.,]+ (?:µs|/s|ms|s|MB|MB/s)\b", text, re.M)
    assert len(names) >= 10
    for name in names:
        assert any(word in name for word in words), name


def test_diagrams_and_pictures_are_fresh():
    result = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate.py"), "--check"], capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example(home, example):
    text = example.read_text()
    result = python(example) if "app.run()" in text else run("run", str(example))
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert_nothing_left(home)


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
