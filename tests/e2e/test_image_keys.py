"""What is made again after an edit, through the real command: the step that was edited or reaches what was, and those above."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import assert_nothing_left
from tests.e2e.programs import run

APP = '''\
import greenroom
import lib
from lib import Base

UNRELATED = "1"
VERSION = "1"
app = greenroom.App("keys")


def first(name):
    with open(name, "w") as file:
        file.write(helper() + VERSION)


def helper():
    return str(lib.deep())


def unrelated():
    return UNRELATED


image = (
    greenroom.Image.host()
    .add_local_dir("data", "/root/data", copy=True, ignore=["*.log"])
    .env({"A": "1"})
    .run_function(first, args=("a",), secrets=[greenroom.Secret.from_dict({"TOKEN": "one"})])
)


@app.cls(image=image)
class Model(Base):
    LIMIT = 3

    @greenroom.build()
    def second(self):
        self.write("second")
        assert self.through_self()

    def through_self(self):
        return self.LIMIT + 1

    @greenroom.build()
    def third(self, made=lib.default):
        """It has a docstring."""
        self.write(f"third {made()} {self.in_base()} {lib.CONSTANT}")

    @greenroom.enter()
    def load(self):
        self.value = 1

    @greenroom.method()
    def get(self):
        return self.value


@app.local_entrypoint()
def main():
    print(Model().get.remote())
'''
LIB = """\
import greenroom

TABLE = {"x": 1}
CONSTANT = 7


def deep():
    return deeper()


def deeper():
    return TABLE["x"]


def default():
    return 5


def unrelated():
    return 1


class Base:
    @greenroom.build()
    def prepare(self):
        self.write("prepare")

    def write(self, name):
        with open(name, "w") as file:
            file.write(name)

    def in_base(self):
        return 1

    def not_reached(self):
        return 1
"""
STEPS = [
    ".add_local_dir('data', '/root/data', copy=True)",
    ".run_function(first)",
    "@build Model.prepare",
    "@build Model.second",
    "@build Model.third",
]


class Project:
    """Two modules and a directory of data, as they were first written, and their state directory."""

    def __init__(self, home: Path, directory: Path) -> None:
        self.home = home
        self.directory = directory

    def write(self) -> None:
        (self.directory / "data").mkdir(exist_ok=True)
        for name, text in (("app.py", APP), ("lib.py", LIB), ("data/a.txt", "a"), ("data/b.txt", "b")):
            path = self.directory / name
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
            path.chmod(0o644)
        for name in ("data/new.txt", "data/new.log"):
            (self.directory / name).unlink(missing_ok=True)

    def replace(self, name: str, old: str, new: str) -> None:
        path = self.directory / name
        text = path.read_text()
        assert text.count(old) == 1, (name, old)
        path.write_text(text.replace(old, new))

    def made(self, *command: str) -> list[str]:
        """The steps that were made by that command, as it printed them."""
        result = run(
            *(command or ("image", "build")),
            "app.py",
            cwd=self.directory,
            GREENROOM_HOME=str(self.home),
            PYTHONDONTWRITEBYTECODE="1",
        )  # a file changes twice within a second
        assert result.returncode == 0, result.stdout + result.stderr
        begun = re.findall(r"^• image \d/\d (.*)$", result.stderr, re.M)
        assert re.findall(r"^✓ image \d/\d (.*?)  [\d.]+ s$", result.stderr, re.M) == begun
        return begun


@pytest.fixture(scope="module")
def built() -> Iterator[Project]:
    """The project, with all of its layers made."""
    home, directory = Path(tempfile.mkdtemp(prefix="gr-")), Path(tempfile.mkdtemp(prefix="gr-"))
    project = Project(home, directory)
    project.write()
    assert project.made("run") == STEPS
    assert project.made("run") == []
    yield project
    assert_nothing_left(home)
    for path in (home, directory):
        shutil.rmtree(path)


def text(name, old, new):
    return lambda project: project.replace(name, old, new)


def touched(project):
    for path in project.directory.rglob("*.*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


EDITS = {
    # ---- nothing is made again ----
    "an unrelated function": (None, text("app.py", "return UNRELATED", "return 2 * UNRELATED")),
    "an unrelated constant": (None, text("app.py", 'UNRELATED = "1"', 'UNRELATED = "2"')),
    "a line above": (None, text("app.py", "import lib\n", "import lib\n\n# lines move\n\n")),
    "a comment within": (None, text("app.py", "        assert self.through", "        # why\n        assert self.through")),
    "another layout": (None, text("app.py", "helper() + VERSION", "(\n            helper()\n            + VERSION\n        )")),
    "a docstring": (None, text("app.py", "It has a docstring.", "It has another docstring.")),
    "an enter hook": (None, text("app.py", "self.value = 1", "self.value = 2")),
    "a method": (None, text("app.py", "return self.value", "return self.value + 1")),
    "the entry point": (None, text("app.py", "print(Model", "print(1, Model")),
    "another module's function that nothing reaches": (None, text("lib.py", "unrelated():\n    return 1", "unrelated():\n    return 2")),
    "a method of the base that nothing reaches": (None, text("lib.py", "not_reached(self):", "not_reached(self, more=1):")),
    "a secret's value": (None, text("app.py", '"TOKEN": "one"', '"TOKEN": "two"')),
    "the times of files": (None, touched),
    "a file that is ignored": (None, lambda project: (project.directory / "data/new.log").touch()),
    # ---- a copied file ----
    "a copied file's content": (0, lambda project: (project.directory / "data/a.txt").write_text("other")),
    "a copied file's right to run": (0, lambda project: (project.directory / "data/a.txt").chmod(0o755)),
    "a copied file more": (0, lambda project: (project.directory / "data/new.txt").touch()),
    "a copied file less": (0, lambda project: (project.directory / "data/b.txt").unlink()),
    "where it is copied to": (0, text("app.py", '"/root/data"', '"/root/other"')),
    # ---- a step's argument ----
    "a variable": (1, text("app.py", '"A": "1"', '"A": "2"')),
    "an argument": (1, text("app.py", 'args=("a",)', 'args=("b",)')),
    "a secret's name": (1, text("app.py", '"TOKEN": "one"', '"OTHER": "one"')),
    # ---- what a function reaches ----
    "the function": (1, text("app.py", "file.write(helper()", 'file.write("x" + helper()')),
    "a function that it calls": (1, text("app.py", "return str(lib.deep())", "return str(lib.deep()) * 2")),
    "a constant of its module": (1, text("app.py", 'VERSION = "1"', 'VERSION = "2"')),
    "a function two calls deep, in another module": (1, text("lib.py", 'return TABLE["x"]', 'return TABLE["x"] + 1')),
    "a constant two calls deep, in another module": (1, text("lib.py", '{"x": 1}', '{"x": 2}')),
    # ---- what a hook reaches ----
    "a hook of the base class": (2, text("lib.py", 'self.write("prepare")', 'self.write("prepared")')),
    "a method of the base class that all reach": (2, text("lib.py", "file.write(name)", "file.write(name * 2)")),
    "a hook": (3, text("app.py", 'self.write("second")', 'self.write("2nd")')),
    "a method, through self": (3, text("app.py", "self.LIMIT + 1", "self.LIMIT + 2")),
    "an attribute of the class, through self": (3, text("app.py", "LIMIT = 3", "LIMIT = 4")),
    "the last hook": (4, text("app.py", 'f"third ', 'f"3rd ')),
    "a default": (4, text("lib.py", "return 5", "return 6")),
    "a method of the base class that one reaches": (4, text("lib.py", "in_base(self):", "in_base(self, more=1):")),
    "a constant of another module": (4, text("lib.py", "CONSTANT = 7", "CONSTANT = 8")),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_made_again(built, edit):
    first, make = EDITS[edit]
    built.write()
    make(built)
    made = [step.replace("/root/other", "/root/data") for step in built.made()]
    assert made == (STEPS[first:] if first is not None else [])
    built.write()
    assert built.made() == [], "what was made before is there still"


def test_what_comes_after_is_made_alone(built):
    """A new hook, of a class whose hooks were all there."""
    built.write()
    built.replace(
        "app.py",
        "    @greenroom.enter()",
        '    @greenroom.build()\n    def fourth(self):\n        self.write("4")\n\n    @greenroom.enter()',
    )
    assert built.made("run") == ["@build Model.fourth"]


def test_one_step_less_makes_those_above_it_anew(built):
    built.write()
    built.replace("lib.py", "    @greenroom.build()\n    def prepare", "    def prepare")
    assert built.made("run") == STEPS[3:]
