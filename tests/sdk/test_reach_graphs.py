"""The digest changes exactly when what is edited is reached; and it is the same wherever and however a program is run."""

import importlib
import itertools
import linecache
import os
import subprocess
import sys
import textwrap

from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.sdk.reach import source_digest

KINDS = ("function", "constant", "method", "attribute", "class")
numbers = itertools.count()


@st.composite
def graphs(draw):
    """Nodes of several kinds, and for each the later or earlier ones that it uses; the hook is the last."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=7))
    anyone = st.sets(st.integers(0, len(kinds) - 1), max_size=3)
    uses = [draw(anyone) if kind in ("function", "method") else set() for kind in kinds]
    return kinds, [*uses, draw(anyone)]


def program(kinds, uses, values):
    """A module of those nodes; node ``i`` says ``values[i]``."""

    def body(number):
        called = {"function": "n{0}(self)", "constant": "n{0}", "method": "self.n{0}()", "attribute": "self.n{0}"}
        parts = [called.get(kinds[used], "n{0}().value()").format(used) for used in sorted(uses[number])]
        return ", ".join(parts) + "," if parts else ""

    outside, inside = ["import enum"], ["class Model:"]
    for number, kind in enumerate(kinds):
        value = values[number]
        match kind:
            case "function":
                outside.append(f"def n{number}(self):\n    return {value}, ({body(number)})")
            case "constant":
                outside.append(f"n{number} = {value}")
            case "method":
                inside.append(f"    def n{number}(self):\n        return {value}, ({body(number)})")
            case "attribute":
                inside.append(f"    n{number} = {value}")
            case "class":
                outside.append(f"class n{number}:\n    def value(self):\n        return {value}")
    inside.append(f"    def hook(self):\n        return ({body(len(kinds))})")
    return "\n".join([*outside, *inside, ""])


def reached_by(uses):
    found, waiting = set(), [len(uses) - 1]
    while waiting:
        for used in uses[waiting.pop()] if waiting[-1] < len(uses) else ():
            if used not in found:
                found.add(used)
                waiting.append(used)
    return found


def digest_of(folder, text):
    name = f"graph{next(numbers)}"
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    try:
        model = importlib.import_module(name).Model
        return source_digest(model.hook, model)
    finally:
        del sys.modules[name]


@settings(deadline=None, max_examples=150)
@given(graphs(), st.data())
def test_an_edit_changes_it_exactly_when_it_is_reached(tmp_path_factory, graph, data):
    kinds, uses = graph
    folder = tmp_path_factory.mktemp("graphs")
    sys.path.insert(0, str(folder))
    try:
        values = list(range(len(kinds)))
        before = digest_of(folder, program(kinds, uses, values))
        assert digest_of(folder, program(kinds, uses, values)) == before
        edited = data.draw(st.integers(0, len(kinds) - 1))
        values[edited] += 100
        after = digest_of(folder, program(kinds, uses, values))
    finally:
        sys.path.remove(str(folder))
    assert (after != before) is (edited in reached_by(uses))


FILES = {
    "program.py": """
        import os
        import helper
        from package import inner
        HERE = os.path.dirname(__file__)
        NAMES = {"one", "two", "three", "four"}
        def local(): return helper.back(), __name__
        MIXED = {local, print, "a", "b", ("c", 1)}
        class Base:
            def __init__(self): self.x = {1, 2}
        class Model(Base):
            def other(self): return inner.deep(), {"a", "b", "c"}, HERE
            def hook(self): return self.other(), NAMES, MIXED, local(), "x" in {"x", "y", "z"}, self
        generated = {}
        exec("def made(x=NAMES): return x in {'p', 'q', 'r'}, local()", globals(), generated)
        Model.made = generated["made"]
        if __name__ == "__main__":
            from greenroom.sdk.reach import source_digest
            print(source_digest(Model.hook, Model))
        """,
    "helper.py": """
        def back():
            import program
            return program.local()
        """,
    "eager.py": "import program\nfrom program import local\n",
    "package/__init__.py": "",
    "package/inner.py": "def deep(): return 1\n",
}


def test_it_is_the_same_in_every_process_and_place(tmp_path):
    found = {}
    by_name = "from greenroom.sdk.reach import source_digest as d; from program import Model as M; print(d(M.hook, M))"
    ways = {
        "as main": ["program.py"],
        "as a module": ["-m", "program"],
        "by name": ["-c", by_name],
        "after others": ["-c", f"import package.inner, helper; {by_name}"],
    }
    for seed, place in (("0", "a"), ("1", "b/deeper"), ("4242", "c")):
        folder = tmp_path / place
        for name, text in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(text))
        for way, arguments in ways.items():
            environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
            command = [sys.executable, *arguments]
            ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            assert ended.returncode == 0, ended.stderr
            found[seed, way] = ended.stdout.strip()
    assert len(set(found.values())) == 1, found
    assert len(next(iter(found.values()))) == 64


def test_a_main_module_that_is_imported_too(tmp_path):
    (tmp_path / "program.py").write_text(
        textwrap.dedent(FILES["program.py"].replace("import helper", "import helper, twice"))
    )
    (tmp_path / "helper.py").write_text("import sys\ndef back(): return twice.again()\nimport twice\n")
    (tmp_path / "twice.py").write_text("def again():\n    import program\n    return program.local(), program.Base\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "inner.py").write_text("def deep(): return 1\n")
    (tmp_path / "package" / "__init__.py").write_text("")
    show = "from greenroom.sdk.reach import source_digest as d; import program; print(d(program.Model.hook, program.Model))"
    found = [
        subprocess.run([sys.executable, *how], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for how in (["program.py"], ["-c", show])
    ]
    assert found[0] == found[1] != ""


def in_module(text, **names):
    """What ``hook`` is after running a text that is in no file."""
    found = {"__name__": "nowhere", **names}
    exec(textwrap.dedent(text), found)
    model = found.get("Model")
    return (found["hook"], None) if model is None else (type.__getattribute__(model, "hook"), model)


def test_without_source_the_code_counts():
    text = '''
    LIMIT = 3
    OTHER = 1
    def deep(): return LIMIT
    def hook(x=1):
        """Says what."""
        return [deep() for _ in range(2)]
    def idle(): return OTHER
    '''

    def digest(*edit):
        return source_digest(in_module(text.replace(*edit) if edit else text)[0])

    assert digest() == digest() == digest("Says what.", "Says more.") == digest("OTHER = 1", "OTHER = 2")
    assert digest() == digest("LIMIT = 3", "\n\n    # remark\n    LIMIT = 3")
    edits = [("LIMIT = 3", "LIMIT = 4"), ("range(2)", "range(3)"), ("x=1", "x=2"), ("return LIMIT", "return -LIMIT")]
    assert len({digest(), *(digest(*edit) for edit in edits)}) == len(edits) + 1


def test_methods_without_source():
    text = """
    class Model:
        SIZE = 1
        def used(self): return self.SIZE
        def idle(self): return 1
        def hook(self): return self.used()
    """

    def digest(*edit):
        return source_digest(*in_module(text.replace(*edit) if edit else text))

    assert digest() == digest("return 1", "return 2")
    assert len({digest(), digest("SIZE = 1", "SIZE = 2"), digest("return self.SIZE", "return -self.SIZE")}) == 3


def test_no_user_code_runs(tmp_path, monkeypatch):
    ran = []
    text = """
    class Meta(type):
        def __getattribute__(cls, name): ran.append(name); return super().__getattribute__(name)
        def __eq__(cls, other): ran.append("=="); return cls is other
        def __hash__(cls): ran.append("hash"); return 1
        def __instancecheck__(cls, thing): ran.append("isinstance"); return True
        def __subclasscheck__(cls, thing): ran.append("issubclass"); return True
    class Descriptor:
        def __get__(self, *a): ran.append("get"); return 1
        def __set__(self, *a): ran.append("set")
    class Sly(metaclass=Meta):
        def __getattribute__(self, name): ran.append(name); return object.__getattribute__(self, name)
        def __getattr__(self, name): ran.append(name)
        def __eq__(self, other): ran.append("=="); return True
        def __hash__(self): ran.append("hash"); return 1
        def __repr__(self): ran.append("repr"); return ""
        def __len__(self): ran.append("len"); return 1
        def __iter__(self): ran.append("iter"); return iter(())
        def __bool__(self): ran.append("bool"); return True
        @property
        def __class__(self): ran.append("class"); return int
        @property
        def __dict__(self): ran.append("dict"); return {}
    class Text(str):
        def __eq__(self, other): ran.append("text"); return True
        def __hash__(self): ran.append("text"); return 1
        def __repr__(self): ran.append("text"); return ""
    sly = Sly()
    kept = [sly, {"a": sly}, {sly, Sly}, (Sly, Text("t"))]
    ran.clear()
    class Model(Sly):
        field = Descriptor()
        deep = sly
        @property
        def prop(self): ran.append("prop")
        def hook(self, default=sly):
            self.field = 1
            return self.field, self.prop, self.deep.x, sly.y, kept, Sly.z, Sly, self.unset, len(self), Model
    """
    hook, model = in_module(text, ran=ran)
    ran.clear()
    source_digest(hook, model)
    source_digest(hook)
    assert ran == []
    (tmp_path / "sly.py").write_text("ran = []\n" + textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("sly")
    try:
        module.ran.clear()
        source_digest(type.__getattribute__(module.Model, "hook"), module.Model)
        assert module.ran == []
    finally:
        del sys.modules["sly"]


def test_an_old_text_in_linecache_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "cached.py"
    digests = []
    for body in ("1", "2"):
        path.write_text(f"def hook(): return {body}\n")
        os.utime(path, (1, 1))  # the same size and time, which is all that linecache looks at
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        importlib.invalidate_caches()
        sys.modules.pop("cached", None)
        digests.append(source_digest(importlib.import_module("cached").hook))
        linecache.getlines(str(path))
    del sys.modules["cached"]
    assert digests[0] != digests[1]


def test_a_notebook_s_cell_has_source():
    def digest(cell):
        name = f"<ipython-input-{next(numbers)}>"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        found = {"__name__": "__main__"}
        exec(compile(cell, name, "exec"), found)
        return source_digest(found["hook"])

    assert digest("def hook(): return 1\n") == digest("\n# remark\ndef hook():\n    return 1\n")
    assert digest("def hook(): return 1\n") != digest("def hook(): return 2\n")


def test_a_file_that_was_edited_since(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "edited.py"
    path.write_text("def hook(): return 1\n")
    hook = importlib.import_module("edited").hook
    try:
        first = source_digest(hook)
        path.write_text("\n\ndef before(): return 2\ndef hook(): return 1\n")
        assert source_digest(hook) == first
        path.write_text("def hook(: broken")
        assert source_digest(hook) not in {"", first}, "without syntax, the code counts"
        path.unlink()
        assert source_digest(hook) not in {"", first}
    finally:
        del sys.modules["edited"]


def test_deep_programs_end(tmp_path):
    depth = 2000
    calls = "\n".join(f"def f{n}(): return f{n + 1}()" for n in range(depth))
    hook, _ = in_module(f"{calls}\ndef f{depth}(): return VALUE\ndef hook(): return f0()\n", VALUE=1)
    hook.__globals__["VALUE"] = nested = []
    for _ in range(depth):
        nested.append(nested := [])
    assert len(source_digest(hook)) == 64
    path = tmp_path / "long.py"
    path.write_text(f"def hook(x): return {' + '.join(['x'] * 900)}\n")
    found = {"__name__": "nowhere"}
    exec(compile(path.read_text(), str(path), "exec"), found)
    first = source_digest(found["hook"])
    path.write_text(path.read_text().replace("(x)", "(x,)"))
    assert source_digest(found["hook"]) == first


def test_what_cannot_be_read_is_no_error():
    for thing in (len, print, str.join, functools_partial(), object(), int, 5, None):
        assert len(source_digest(thing)) == 64


def functools_partial():
    import functools

    return functools.partial(len, [1])


def test_importing_greenroom_reads_no_syntax():
    program = "import sys, greenroom; greenroom.App; greenroom.build; print('ast' in sys.modules, 'greenroom.sdk.reach' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split()[-1] == "False"
