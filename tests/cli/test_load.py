"""From a target to what it names."""

import os
import sys
import textwrap
from types import ModuleType

import pytest

import greenroom
from greenroom.cli.load import find, find_whole_app, import_target, load
from greenroom.cli.misuse import Misuse
from greenroom.sdk.entrypoint import LocalEntrypoint
from greenroom.sdk.function import Function


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch, tmp_path):
    """Paths, modules and finders as they were before."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = dict(sys.modules)
    monkeypatch.chdir(tmp_path)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def module(text):
    made = ModuleType("program")
    sys.modules["program"] = made
    exec(textwrap.dedent(text), vars(made))
    return made


ONE = """
    import greenroom
    app = greenroom.App("one")

    @app.function()
    def f(): ...

    @app.function(name="renamed")
    def g(): ...

    @app.cls()
    class Model:
        @greenroom.method()
        def predict(self): ...
        @greenroom.method()
        def train(self): ...

    @app.cls()
    class Small:
        @greenroom.method()
        def only(self): ...

    @app.local_entrypoint()
    def main(): ...
"""


@pytest.mark.parametrize(
    ("name", "finds", "kind"),
    [
        ("", "main", LocalEntrypoint),
        ("app", "main", LocalEntrypoint),
        ("main", "main", LocalEntrypoint),
        ("app.main", "main", LocalEntrypoint),
        ("f", "f", Function),
        ("app.f", "f", Function),
        ("renamed", "renamed", Function),
        ("Model.predict", "Model.predict", tuple),
        ("app.Model.train", "Model.train", tuple),
        ("Small", "Small.only", tuple),
    ],
)
def test_names(name, finds, kind):
    found = find(module(ONE), name, "one.py")
    assert (found.name, isinstance(found.thing, kind), found.app.name) == (finds, True, "one")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mian", "one.py has no mian to run; did you mean main?"),
        ("Model.predikt", "did you mean Model.predict?"),
        ("g", "one.py has no g to run; it has main, f, renamed, Model.predict, Model.train, Small.only"),
        ("Model", "Model is a class: name one of its methods; it has Model.predict, Model.train"),
        ("app.nothing_like_it", "has no nothing_like_it to run; it has main, f"),
    ],
)
def test_unknown_names(name, says):
    with pytest.raises(Misuse) as caught:
        find(module(ONE), name, "one.py")
    assert says in str(caught.value)


def test_which_one_runs():
    app = "import greenroom\napp = greenroom.App()\n"
    f = "@app.function()\ndef f(): ...\n"
    g = "@app.function()\ndef g(): ...\n"
    cls = "@app.cls()\nclass M:\n  @greenroom.method()\n  def m(self): ...\n"
    a = "@app.local_entrypoint()\ndef a(): ...\n"
    b = "@app.local_entrypoint()\ndef main(): ...\n"
    assert find(module(app + f), "", "x.py").name == "f"
    assert find(module(app + f + cls), "", "x.py").name == "f"
    assert find(module(app + cls), "", "x.py").name == "M.m"
    assert find(module(app + f + g + a), "", "x.py").name == "a"
    for text, says in (
        (app, "x.py has nothing to run"),
        (app + f + g, "x.py has several things to run: name one, as in x.py::f; it has f, g"),
        (app + a + b + f, "name one, as in x.py::a; it has a, main"),
    ):
        with pytest.raises(Misuse) as caught:
            find(module(text), "", "x.py")
        assert says in str(caught.value)


def test_several_apps():
    text = """
        import greenroom
        one, two = greenroom.App(), greenroom.App()
        same = two
        @one.function()
        def f(): ...
        @two.function()
        def g(): ...
        @two.function()
        def f(): ...
    """
    made = module(text)
    assert find(made, "g", "x.py").app is made.two
    assert find(made, "one", "x.py").name == "f"
    assert find(made, "two.f", "x.py").app is made.two
    for name in ("", "f", "h"):
        with pytest.raises(Misuse, match=r"x.py has several apps \(one, two, same\): name one, as in x.py::one.NAME"):
            find(made, name, "x.py")


def test_an_app_as_a_whole():
    """What is built, served or deployed is an app: the name of something in it, or of nothing, is a mistake."""
    app = "import greenroom\napp = greenroom.App()\n@app.function()\ndef f(): ...\n"
    one, two = module(app), module(app + "other = greenroom.App()\n@other.function()\ndef g(): ...")
    assert find_whole_app(one, "", "x.py") is find_whole_app(one, "app", "x.py") is one.app
    assert find_whole_app(two, "other", "x.py") is two.other
    for made, name, says in (
        (one, "f", "x.py has no app f; this takes all of one: app"),
        (one, "nosuch", "x.py has no app nosuch; this takes all of one: app"),
        (one, "app.f", "x.py has no app app.f; this takes all of one: app"),
        (two, "g", "x.py has no app g; this takes all of one: app, other"),
        (two, "nosuch", "x.py has no app nosuch; this takes all of one: app, other"),
        (two, "", "x.py has several apps (app, other): name one, as in x.py::app"),
    ):
        with pytest.raises(Misuse) as caught:
            find_whole_app(made, name, "x.py")
        assert str(caught.value) == says


def test_an_app_without_a_name_is_called_as_its_file():
    text = "import greenroom\na = greenroom.App()\n@a.function()\ndef f(): ..."
    for path in ("dir.d/x.py", "x", "pkg.x", "pkg.sub.x"):  # of a package's modules each has its own
        assert find(module(text), "", path).app.name == "x"


def test_no_app():
    with pytest.raises(Misuse, match="x.py has no app"):
        find(module("x = 1"), "", "x.py")


# ---- importing ----


def test_a_file_is_imported_under_its_stem_from_its_directory(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a_program.py").write_text("import a_neighbour, sys\npath = sys.path[0]\n")
    (tmp_path / "sub" / "a_neighbour.py").write_text("")
    made = import_target("sub/a_program.py", as_module=False)
    assert (made.__name__, made.path, made is sys.modules["a_program"]) == ("a_program", str(tmp_path / "sub"), True)


def test_a_program_that_was_saved_again_at_once_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for number in (1, 2):
        (tmp_path / "saved.py").write_text(f"x = {number}\n")
        os.utime(tmp_path / "saved.py", (1_000_000_000, 1_000_000_000))
        assert import_target("saved.py", as_module=False).x == number
        del sys.modules["saved"]


def test_modal_is_greenroom(tmp_path):
    (tmp_path / "for_modal.py").write_text(
        "import modal, modal.exception\nfrom modal import App, enter\nfrom modal.functions import Function\n"
    )
    made = import_target("for_modal.py", as_module=False)
    assert made.App is greenroom.App
    assert made.Function is greenroom.Function
    assert made.modal.exception.InvalidError is greenroom.InvalidError


def test_modules(tmp_path):
    package = tmp_path / "a_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mod.py").write_text("x = 1\n")
    assert import_target("a_package.mod", as_module=False).x == 1
    assert import_target("a_package.mod", as_module=True).x == 1
    assert import_target("a_package", as_module=False).__name__ == "a_package"


@pytest.mark.parametrize(
    ("target", "as_module", "says"),
    [
        ("nothing.py", False, "there is no file nothing.py"),
        ("programm.py", False, "there is no file programm.py; did you mean program.py?"),
        ("sub/program.py", False, "there is no file sub/program.py"),
        ("no.such.module", False, "there is no module no.such.module here; for a file, write its path with .py"),
        ("nothing", True, "there is no module nothing here"),
        ("two.dots.py", False, "two.dots.py can't be imported, for its name has more than one dot"),
        ("sub", False, "there is no module sub here"),
        ("/", False, "/ is a directory"),
        ("json.py", False, "json.py would hide the module json"),
        ("greenroom.py", False, "greenroom.py would hide the module greenroom"),
        ("notes.txt", False, "notes.txt is no Python file"),
        ("", False, "'' names no program"),
        ("::main", False, "'::main' names no program"),
    ],
)
def test_wrong_targets(tmp_path, target, as_module, says):
    for name in ("program.py", "two.dots.py", "json.py", "greenroom.py", "notes.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(Misuse) as caught:
        load(target, as_module)
    assert says in str(caught.value)


def test_syntax_error_shows_file_line_and_caret(tmp_path):
    (tmp_path / "broken.py").write_text("x = 1\ndef f(:\n    pass\n")
    with pytest.raises(Misuse) as caught:
        load("broken.py", False)
    lines = str(caught.value).splitlines()
    assert lines[0] == f'File "{tmp_path}/broken.py", line 2'
    assert "^" in lines[2]
    assert lines[3].startswith("SyntaxError")


def test_what_a_package_fails_to_import_is_not_called_missing_itself(tmp_path):
    package = tmp_path / "lacking"
    package.mkdir()
    (package / "__init__.py").write_text("import not_installed_anywhere\n")
    (package / "mod.py").write_text("")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load("lacking.mod", False)


def test_an_imported_app_does_not_stand_in_the_way():
    def imported(text):
        made = module(text)
        sys.modules["imported"] = made
        made.app.module = "imported"
        return made

    f = "import greenroom\napp = greenroom.App()\n@app.function()\ndef f(): ...\n"
    main = "@app.local_entrypoint()\ndef main(): ...\n"
    imported(f + main)
    own = "import greenroom\nfrom imported import app as other\n"
    made = module(own + f.partition("\n")[2] + main)
    assert find(made, "", "x.py").app is made.app
    assert find(made, "f", "x.py").app is made.app
    assert find(made, "other.f", "x.py").app is made.other
    imported(f)
    made = module(own + "a, b = greenroom.App(), greenroom.App()\n@b.local_entrypoint()\ndef main(): ...\n")
    assert find(made, "", "x.py").app is made.b
