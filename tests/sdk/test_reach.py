"""When a build step runs again: a program, an edit of it, and whether what the step reaches has changed."""

import importlib
import sys
import textwrap
from pathlib import Path

import pytest

from greenroom.sdk.reach import source_digest


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes files, imports the first as a program anew and gives the digest of its ``hook``, or of ``Model.hook``."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def digest(files):
        for name in set(sys.modules) - before:
            path = getattr(sys.modules[name], "__file__", None)
            if path and Path(path).is_relative_to(tmp_path):
                del sys.modules[name]
        importlib.invalidate_caches()
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        module = importlib.import_module(next(iter(files)).removesuffix(".py").replace("/", "."))
        model = vars(module).get("Model")
        if model is None:
            return source_digest(module.hook)
        raw = getattr(model, "__greenroom_raw__", model)
        return source_digest(raw.hook, raw)

    yield digest
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None)
        if path and Path(path).is_relative_to(tmp_path):
            del sys.modules[name]


def case(name, files, *edits):
    files = files if isinstance(files, dict) else {"program.py": files}
    return [
        pytest.param(files, old, new, changes, id=f"{name}-{number}")
        for number, (old, new, changes) in enumerate(edits)
    ]


SAME, DIFFERENT = False, True

CASES = [
    *case(
        "plain",
        '''
        """About."""
        import json
        LIMIT = 3
        OTHER = 4
        def deep(): return LIMIT
        def near(): return deep()
        def unrelated(): return OTHER
        def hook():
            """Says what."""
            x = near()  # a remark
            return json.dumps({"x": x, 'y': [1, 2]})
        ''',
        ("# a remark", "# another", SAME),
        ('"""About."""', '"""About.\n\n"""\n\n\n# moved', SAME),
        ("Says what.", "Says something else.", SAME),
        ("OTHER = 4", "OTHER = 5", SAME),
        ("return OTHER", "return OTHER + 1", SAME),
        ("def unrelated(): return OTHER", "", SAME),
        ("'y': [1, 2]", '"y": [\n  1,\n  2,\n ]', SAME),
        ("LIMIT = 3", "LIMIT = 0x3", SAME),
        ("[1, 2]", "[1, 3]", DIFFERENT),
        ("LIMIT = 3", "LIMIT = 5", DIFFERENT),
        ("LIMIT = 3", "LIMIT = 3.0", DIFFERENT),
        ("return LIMIT", "return LIMIT + 1", DIFFERENT),
        ("return deep()", "return deep() + 1", DIFFERENT),
        ("json.dumps", "json.loads", DIFFERENT),
        ("import json", "import pickle as json", DIFFERENT),
    ),
    *case(
        "self",
        """
        import functools
        class Far:
            DEPTH = 1
            UNREAD = 1
            def start(self): return self.finish()
            def finish(self): return 0
        class Base(Far):
            NAME = "base"
            def start(self): return super().start() + 1
            def shared(self): return self.step()
            def idle(self): return 1
        class Model(Base):
            SIZE = 1
            TABLE = {"a": [1, 2]}
            def __init__(self): self.place = "/here"
            def start(self): return super().start()
            def step(self): return self.SIZE
            def other(self): return 3
            @property
            def url(self): return "u"
            @staticmethod
            def fixed(): return "f"
            @classmethod
            def made(cls): return cls.NAME
            @functools.cached_property
            def kept(self): return "k"
            def __private(self): return "p"
            def hook(self):
                self.start(); self.shared(); self.fixed(); self.made(); self.__private()
                self.loaded = self.TABLE
                return [self.url, self.kept, self.DEPTH, type(self).TABLE, [self.place for _ in range(3)]]
        """,
        ("def other(self): return 3", "def other(self): return 4", SAME),
        ("def other(self): return 3", "", SAME),
        ("def idle(self): return 1", "def idle(self): return 2", SAME),
        ("UNREAD = 1", "UNREAD = 2", SAME),
        ("def step(self): return self.SIZE", "\n\n    def step(self):\n        return self.SIZE", SAME),
        ("DEPTH = 1", "DEPTH = 2", DIFFERENT),
        ("return self.finish()", "return self.finish() + 1", DIFFERENT),
        ("def finish(self): return 0", "def finish(self): return 1", DIFFERENT),
        ('NAME = "base"', 'NAME = "best"', DIFFERENT),
        ("return super().start() + 1", "return super().start() + 2", DIFFERENT),
        ("return self.step()", "return -self.step()", DIFFERENT),
        ("SIZE = 1", "SIZE = 2", DIFFERENT),
        ("[1, 2]}", "[1, 3]}", DIFFERENT),
        ('"/here"', '"/there"', DIFFERENT),
        ("return self.SIZE", "return self.SIZE + 1", DIFFERENT),
        ('return "u"', 'return "v"', DIFFERENT),
        ('return "f"', 'return "g"', DIFFERENT),
        ("return cls.NAME", "return cls.NAME + '.'", DIFFERENT),
        ('return "k"', 'return "l"', DIFFERENT),
        ('return "p"', 'return "q"', DIFFERENT),
    ),
    *case(
        "handed on",
        """
        class Base:
            def setup(self): return self.a()
        class Model(Base):
            def a(self): return 1
            def b(self): return 2
            def c(self): return 3
            def hook(self):
                Base.setup(self)
                return helper(self)
        def helper(model): return model.b()
        """,
        ("return 1", "return 10", DIFFERENT),
        ("return 2", "return 20", DIFFERENT),
        ("return 3", "return 30", SAME),
    ),
    *case(
        "anything of self",
        """
        class Model:
            def a(self): return 1
            def hook(self):
                return getattr(self, "a")()
        """,
        ("return 1", "return 10", DIFFERENT),
    ),
    *case(
        "defaults",
        """
        import os
        SIZE = 1
        def fetch(): return 1
        def other(): return 2
        def hook(size=SIZE, *, how=fetch, sep=os.sep): return how()
        """,
        ("SIZE = 1", "SIZE = 2", DIFFERENT),
        ("def fetch(): return 1", "def fetch(): return 2", DIFFERENT),
        ("how=fetch", "how=other", DIFFERENT),
        ("def other(): return 2", "def other(): return 3", SAME),
    ),
    *case(
        "decorators",
        """
        import contextlib, functools
        def plain(function):
            def wrapper(*args): return function(*args) + 1
            return wrapper
        def retry(times):
            def decorate(function):
                @functools.wraps(function)
                def wrapper(*args, **kwargs):
                    return [function(*args, **kwargs) for _ in range(times)]
                return wrapper
            return decorate
        @plain
        def first(): return "first"
        @retry(2)
        def second(): return "second"
        @functools.lru_cache
        def third(): return "third"
        @contextlib.contextmanager
        def fourth(): yield "fourth"
        @functools.singledispatch
        def fifth(x): return "fifth"
        @fifth.register
        def _(x: int): return "int"
        sixth = functools.partial(third, 1)
        class Model:
            @plain
            def inner(self): return "inner"
            def other(self): return "other"
            @retry(3)
            def hook(self):
                with fourth():
                    return first(), second(), third(), fifth(1), sixth, self.inner()
        """,
        ("return function(*args) + 1", "return function(*args) + 2", DIFFERENT),
        ("return [function", "return [function or function", DIFFERENT),
        ('"first"', '"1"', DIFFERENT),
        ('"second"', '"2"', DIFFERENT),
        ("retry(2)", "retry(4)", DIFFERENT),
        ("retry(3)", "retry(4)", DIFFERENT),
        ('"third"', '"3"', DIFFERENT),
        ('"fourth"', '"4"', DIFFERENT),
        ('"fifth"', '"5"', DIFFERENT),
        ('"int"', '"integer"', DIFFERENT),
        ('"inner"', '"in"', DIFFERENT),
        ("third, 1)", "third, 2)", DIFFERENT),
        ('"other"', '"another"', SAME),
    ),
    *case(
        "scopes",
        """
        A = B = C = D = E = 1
        path = 1
        def shadowed(): return 1
        def hook():
            global A
            path = A
            double = lambda x: x * B
            def nested():
                nonlocal path
                path = path + C
                shadowed = 1
                return shadowed, path
            return [double(y) for y in range(3) if y > D], f"{E:>10}", nested()
        """,
        ("path = 1\n", "path = 2\n", SAME),
        ("def shadowed(): return 1", "def shadowed(): return 2", SAME),
        ("A = B", "A = 2; B", DIFFERENT),
        ("A = B = C", "A = C = 1; B = 2; C", DIFFERENT),
        ("C = D", "C = 2; D", DIFFERENT),
        ("= D = E = 1", "= E = 1; D = 2", DIFFERENT),
        ("= E = 1", "= 1; E = 2", DIFFERENT),
        (":>10", ":>11", DIFFERENT),
        ("x * B", "B * x", DIFFERENT),
        ("shadowed = 1\n", "shadowed = 2\n", DIFFERENT),
    ),
    *case(
        "closures",
        """
        def make(url, how):
            unused = 1
            def fetch(): return how(url)
            return fetch
        def one(x): return 1
        def two(x): return 2
        fetch = make("a", one)
        other = make("b", two)
        pair = (lambda: "left", lambda: "right")
        hook = lambda: (fetch(), pair[0]())
        """,
        ('"a"', '"c"', DIFFERENT),
        ("return 1", "return 3", DIFFERENT),
        ("how(url)", "how(url + '/')", DIFFERENT),
        ('"left"', '"l"', DIFFERENT),
        ('"right"', '"r"', DIFFERENT),
        ("pair[0]", "pair[1]", DIFFERENT),
        ('"b"', '"d"', SAME),
        ("return 2", "return 3", SAME),
        ("unused = 1", "unused = 2", SAME),
    ),
    *case(
        "values",
        """
        import pathlib, re, threading
        def first(): return 1
        class Loader:
            def __init__(self, name): self.name = name
            def load(self): return self.name
        A = [1, {"x": (2, b"3")}]
        B = {"a", "b", frozenset({"c", "d"})}
        C = {"go": first}
        D = {first, len}
        E = re.compile("a+")
        F = pathlib.Path("/models")
        G = Loader("g")
        LOCK = threading.Lock()
        UNREAD = Loader("h")
        def hook():
            with LOCK:
                return A, B, C, D, E, F / "x", G.load()
        """,
        ('(2, b"3")', '(2, b"4")', DIFFERENT),
        ('{"c", "d"}', '{"c", "e"}', DIFFERENT),
        ('{"a", "b"', '{"b", "a"', SAME),
        ("return 1", "return 2", DIFFERENT),
        ('"go"', '"run"', DIFFERENT),
        ("{first, len}", "{len}", DIFFERENT),
        ("a+", "b+", DIFFERENT),
        ("/models", "/others", DIFFERENT),
        ('Loader("g")', 'Loader("i")', DIFFERENT),
        ("return self.name", "return self.name * 2", DIFFERENT),
        ('Loader("h")', 'Loader("i")', SAME),
        ("threading.Lock()", "threading.RLock()", DIFFERENT),
    ),
    *case(
        "classes",
        """
        import dataclasses, enum
        class Unused:
            pass
        class Base:
            def inherited(self): return 1
        class Tool(Base):
            STEP = 1
            def use(self): return self.STEP
            def rest(self): return 2
        class Config:
            SIZE = 1
            OTHER = 1
            @staticmethod
            def make(): return 5
        class Color(enum.Enum):
            RED = "r"
        def zero(): return []
        @dataclasses.dataclass
        class Row:
            a: int = 7
            b: list = dataclasses.field(default_factory=zero)
        def hook():
            return Tool().use(), Config.SIZE, Config.make(), Color.RED, Row()
        """,
        ("def use(self): return self.STEP", "def use(self): return 2", DIFFERENT),
        ("STEP = 1", "STEP = 2", DIFFERENT),
        ("return 2", "return 3", DIFFERENT),
        ("return 1", "return 3", DIFFERENT),
        ("(Base)", "(Unused)", DIFFERENT),
        ("SIZE = 1", "SIZE = 2", DIFFERENT),
        ("OTHER = 1", "OTHER = 2", SAME),
        ("return 5", "return 6", DIFFERENT),
        ('"r"', '"red"', DIFFERENT),
        ("a: int = 7", "a: int = 8", DIFFERENT),
        ("a: int = 7", "a: float = 7", DIFFERENT),
        ("return []", "return [1]", DIFFERENT),
        ("pass", "x = 1", SAME),
    ),
    *case(
        "modules",
        {
            "program.py": """
                import other
                import pack.deep.leaf
                from pack import shown as seen
                def hook():
                    import third
                    from fourth import inside, helper as renamed
                    return other.near(), pack.deep.leaf.bottom(), seen, third.name(), inside, renamed()
                """,
            "other.py": "import pack.used as used\ndef near(): return used.VALUE\ndef far(): return 'far'\n",
            "pack/__init__.py": "shown = 1\nhidden = 1\n",
            "pack/used.py": "VALUE = 'v'\nNONE = 'n'\n",
            "pack/deep/__init__.py": "",
            "pack/deep/leaf.py": "def bottom(): return 'bottom'\ndef top(): return 'top'\n",
            "pack/third.py": "",
            "third.py": "def name(): return 'third'\ndef rest(): return 'rest'\n",
            "fourth.py": "inside = 'inside'\ndef helper(): return 'helper'\nrest = 'left'\n",
        },
        ("used.VALUE", "used.VALUE + '!'", DIFFERENT),
        ("'v'", "'w'", DIFFERENT),
        ("'n'", "'m'", SAME),
        ("'far'", "'near'", SAME),
        ("'bottom'", "'b'", DIFFERENT),
        ("'top'", "'t'", SAME),
        ("shown = 1", "shown = 2", DIFFERENT),
        ("hidden = 1", "hidden = 2", SAME),
    ),
    *case(
        "imported inside",
        {
            "program.py": """
                import fourth, third, pack
                def hook():
                    import third
                    from fourth import inside, helper as renamed
                    from pack.lazy import run
                    return third.name(), inside, renamed(), run()
                """,
            "third.py": "def name(): return 'third'\ndef rest(): return 'rest'\n",
            "fourth.py": "inside = 'inside'\ndef helper(): return 'helper'\nrest = 'left'\n",
            "pack/__init__.py": "",
            "pack/lazy.py": '"""Not imported yet."""\nfrom .lazier import go\ndef run(): return go()  # so\n',
            "pack/lazier.py": "def go(): return 'go'\n",
            "pack/idle.py": "idle = 'idle'\n",
        },
        ("'third'", "'3'", DIFFERENT),
        ("'rest'", "'r'", SAME),
        ("'inside'", "'in'", DIFFERENT),
        ("'helper'", "'h'", DIFFERENT),
        ("'left'", "'right'", SAME),
        ("return go()", "return go", DIFFERENT),
        ("# so", "# or so", SAME),
        ("Not imported yet.", "Not yet.", SAME),
        ("'go'", "'gone'", DIFFERENT),
        ("'idle'", "'busy'", SAME),
    ),
    *case(
        "greenroom's own",
        """
        import greenroom
        app = greenroom.App("one")
        image = greenroom.Image.debian_slim()
        @app.function(image=image)
        def remote(): return "remote"
        @app.cls()
        class Tool:
            SIZE = 1
            @greenroom.method()
            def work(self): return "work"
        @app.cls()
        class Model:
            size: int = greenroom.parameter(default=3)
            @greenroom.build()
            def hook(self): return app, remote.remote(), Tool().work.remote(), self.answer.local(), self.size
            @greenroom.method()
            def answer(self): return "answer"
            @greenroom.method()
            def other(self): return "other"
            @greenroom.enter()
            def enter(self): return "enter"
        """,
        ('"one"', '"two"', SAME),
        ("debian_slim()", 'debian_slim().pip_install("x")', SAME),
        ('return "other"', 'return "another"', SAME),
        ('return "enter"', 'return "entered"', SAME),
        ('return "remote"', 'return "afar"', DIFFERENT),
        ('return "work"', 'return "rest"', DIFFERENT),
        ("SIZE = 1", "SIZE = 2", DIFFERENT),
        ('return "answer"', 'return "reply"', DIFFERENT),
        ("default=3", "default=4", DIFFERENT),
        ("greenroom.build()", "greenroom.build(force=True)", DIFFERENT),
    ),
    *case(
        "docstrings that are read",
        '''
        def helper():
            """Helps."""
        def hook(): return helper.__doc__
        ''',
        ("Helps.", "Helps more.", DIFFERENT),
    ),
    *case(
        "wrappers of other kinds",
        {
            "program.py": """
                import functools
                from settings import *
                class Cached:
                    def __init__(self, function): self.function = function
                    def __call__(self): return self.function()
                class Sealed:
                    __slots__ = ("function",)
                    def __init__(self, function): self.function = function
                    def __call__(self): return self.function()
                def logged(function):
                    def wrapper(self):
                        print(function.__name__)
                        return function.__get__(self)()
                    return wrapper
                @Cached
                def first(): return "first"
                @Sealed
                def second(): return third()
                def third(): return "third"
                class Model:
                    def inner(self): return "inner"
                    def other(self): return "other"
                    @logged
                    def fourth(self): return self.inner()
                    part = functools.partialmethod(third)
                    async def hook(self, *args):
                        async for x in self.rows(): pass
                        return first(), second(), self.fourth(), PLACE
                    async def rows(self): yield "row"
                """,
            "settings.py": "import pathlib\nPLACE = pathlib.Path('here')\nIDLE = pathlib.Path('idle')\n",
        },
        ('"first"', '"1"', DIFFERENT),
        ("return third()", "return -third()", DIFFERENT),
        ('"third"', '"3"', DIFFERENT),
        ('"inner"', '"in"', DIFFERENT),
        ('"row"', '"line"', DIFFERENT),
        ("'here'", "'there'", DIFFERENT),
        ("'idle'", "'busy'", SAME),
    ),
    *case(
        "properties that are set",
        """
        def size(): return 0
        def setter(): return "global"
        class Dial:
            def __set__(self, obj, value): obj.turned = "turned"
            def __get__(self, obj, cls=None): return 1
        class Model:
            plain = 1
            dial = Dial()
            @property
            def size(self): return self.kept
            @size.setter
            def size(self, value): self.kept = value + 1
            def setter(self): return "set"
            def hook(self):
                self.size = 3
                self.plain = 2
                self.dial = 4
                self.setter()
        """,
        ("return 0", "return 1", SAME),
        ("plain = 1", "plain = 5", SAME),
        ('"global"', '"local"', SAME),
        ("value + 1", "value + 2", DIFFERENT),
        ("return self.kept", "return self.kept + 1", DIFFERENT),
        ('"turned"', '"twisted"', DIFFERENT),
        ('"set"', '"put"', DIFFERENT),
    ),
    *case(
        "circles",
        """
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        class Node:
            def walk(self): return Node(), self.walk()
        LOOP = []
        LOOP.append(LOOP)
        TABLE = {"odd": odd}
        def hook(): return hook, even(3), Node(), LOOP, TABLE
        """,
        ("n != 0", "n > 0", DIFFERENT),
        ("return Node(), self", "return self", DIFFERENT),
    ),
    *case(
        "names of all kinds",
        """
        A = B = C = D = 1
        GONE = 1
        def hook(x):
            match x:
                case {"a": A, **rest}: return A, rest
                case [B, *others]: return others
            try:
                pass
            except ValueError as C:
                return C
            if (D := 3) and [D for _ in x]:
                return D
            return undefined, print
        """,
        ("A = B", "A = 2; B", SAME),
        ("C = D", "C = 2; D", SAME),
        ("D = 1", "D = 2", SAME),
        ("GONE = 1", "GONE = 1\nundefined = 1", DIFFERENT),
        ("GONE = 1", "GONE = 1\ndef print(): pass", DIFFERENT),
    ),
]


@pytest.mark.parametrize(("files", "old", "new", "changes"), CASES)
def test_edits(write, files, old, new, changes):
    edited = {name: textwrap.dedent(text).replace(old, new, 1) for name, text in files.items()}
    assert edited != {name: textwrap.dedent(text) for name, text in files.items()}, "the edit edits nothing"
    assert (write(files) != write(edited)) is changes
