"""Images as a program writes them: what is recorded, what is refused, and that nothing else happens."""

import functools
import itertools
import os
import subprocess
import sys
import threading

import pytest

import greenroom
from greenroom.model.image import ImageSpec, Step, keys
from greenroom.model.secrets import StoredSecret
from greenroom.model.settings import Settings
from greenroom.sdk.image_plan import Plan
from greenroom.sdk.output import use_sink
from greenroom.server.secrets import stored_in
from greenroom.testing import Cluster
from tests.contract.conftest import Recorder

HOST = greenroom.Image.host()
SECRET = greenroom.Secret.from_dict({"TOKEN": "canary-77"})
STORED = greenroom.Secret.from_name("stored")


def plain(x=1):
    return x


async def later():
    return 1


def generator():
    yield 1


async def async_generator():
    yield 1


class Thing:
    def method(self): ...

    @staticmethod
    def static(): ...

    def __call__(self): ...


app = greenroom.App("module")


@app.function()
def decorated():
    return 1


@app.cls()
class Decorated:
    @greenroom.method()
    def get(self): ...


HOST_BASE = Step("host", "Image.host()", {})


def spec(image):
    """As it would be sent: what a server takes for one."""
    return ImageSpec.from_json(Plan("b" * 64).describe(image).to_json())


# ---- what is refused ----

REFUSED = [
    (lambda: greenroom.Image("x"), r"not made by calling it: begin with one of Image.host\(\)"),
    (lambda: HOST.env(["A"]), "Image.env takes a dict of names and values, not a list"),
    (lambda: HOST.env({"A": 1}), "Image.env: the value of A is a int, not a str"),
    (lambda: HOST.env({"A=B": "1"}), "Image.env: 'A=B' can't be the name"),
    *(
        (lambda wrong=wrong: HOST.workdir(wrong), "Image.workdir takes a path, not ")
        for wrong in ("", None, 3, b"/x", "a\0b", ["x"])
    ),
    (lambda: HOST.entrypoint("run me"), r"Image.entrypoint\('run me'\) takes a list of words: write \['run', 'me'\]"),
    (lambda: HOST.cmd([1]), r"Image.cmd\(\[1\]\) takes a list of words, such as"),
    (lambda: HOST.cmd(None), r"Image.cmd\(None\) takes a list of words"),
    (lambda: HOST.cmd(["a\0"]), "takes a list of words"),
    (lambda: HOST.shell([]), r"Image.shell\(\[\]\) takes a program and its arguments, such as \['/bin/bash', '-c'\]"),
    (lambda: HOST.shell(None), r"Image.shell\(None\) takes a list of words"),
    *(
        (lambda wrong=wrong: HOST.run_commands(*wrong), "Image.run_commands takes shell commands as text")
        for wrong in ((), ([],), (1,), (b"ls",), (["ls", 1],), ("a\0",), (("ls",),))
    ),
    (lambda: HOST.run_commands("x", env=["A"]), "Image.run_commands: env= takes a dict"),
    (lambda: HOST.run_commands("x", env=[]), "Image.run_commands: env= takes a dict"),
    (lambda: HOST.run_commands("x", secrets=SECRET), r"Image.run_commands: secrets= takes a list"),
    (
        lambda: HOST.run_function(plain()),
        r"takes a function, not 1: write a def, and give its name without parentheses",
    ),
    (lambda: HOST.run_function("plain"), "takes a function, not 'plain'"),
    (lambda: HOST.run_function(None), "takes a function, not None"),
    (lambda: HOST.run_function(functools.partial(plain, 1)), "give it plain itself, and args= and kwargs="),
    (lambda: HOST.run_function(functools.partial(functools.partial(plain, 1), 2)), "give it plain itself"),
    (lambda: HOST.run_function(Thing().method), "write a def that makes the object and calls its method"),
    (lambda: HOST.run_function(Decorated().get), "write a def that makes the object and calls its get"),
    (
        lambda: HOST.run_function(Thing),
        r"write a def that makes one; a class has @greenroom.build\(\) hooks of its own",
    ),
    (lambda: HOST.run_function(Decorated), r"a class has @greenroom.build\(\) hooks of its own"),
    (lambda: HOST.run_function(Thing()), "write a def that calls it"),
    (lambda: HOST.run_function(print), "write a def that calls it"),
    (lambda: HOST.run_function([].append), "write a def that calls it"),
    (
        lambda: HOST.run_function(generator),
        r"run_function\(generator\): calling a generator runs nothing of it: .*without yield",
    ),
    (lambda: HOST.run_function(async_generator), "calling a generator runs nothing of it"),
    (
        lambda: HOST.run_function(plain, args="ab"),
        r"run_function\(plain\): args= takes a tuple or a list: write args=\('ab',\)",
    ),
    (lambda: HOST.run_function(plain, args=1), r"write args=\(1,\)"),
    (lambda: HOST.run_function(plain, args={"x": 1}), "args= takes a tuple or a list"),
    (lambda: HOST.run_function(plain, kwargs=[("x", 1)]), "kwargs= takes a dict, not"),
    (lambda: HOST.run_function(plain, timeout=0), r"Image.run_function.*timeout"),
    (lambda: HOST.run_function(plain, cpu="many"), r"Image.run_function.*cpu"),
    (lambda: HOST.run_function(plain, memory=-1), r"Image.run_function.*memory"),
    (lambda: HOST.run_function(plain, env={"A": 1}), "Image.run_function: env=: the value of A"),
    (lambda: HOST.add_local_file(None, "/x"), "Image.add_local_file takes a path, not None"),
    (lambda: HOST.add_local_file("x", ""), "Image.add_local_file takes a path, not ''"),
    (lambda: HOST.add_local_dir("x", "a\0"), "Image.add_local_dir takes a path, not "),
    (lambda: HOST.add_local_dir(b"x", "/x"), "Image.add_local_dir takes a path, not b'x'"),
    (lambda: HOST.add_local_dir("x", "/x", ignore="*.py"), r"ignore= takes a list of patterns: write \['\*.py'\]"),
    (lambda: HOST.add_local_dir("x", "/x", ignore=["[x"]), "opens a bracket"),
    (lambda: HOST.add_local_python_source(sys), "takes names of modules, such as 'my_package', not <module"),
    (lambda: HOST.add_local_python_source("lib/x.py"), "takes names of modules"),
    (lambda: HOST.add_local_python_source(""), "takes names of modules"),
]


@pytest.mark.parametrize(("wrong", "said"), REFUSED)
def test_what_is_refused_where_it_is_written(wrong, said):
    with pytest.raises(greenroom.InvalidError, match=said):
        wrong()


def test_a_step_after_files_that_are_only_bound():
    bound = HOST.add_local_dir("a", "/a")
    for after in (
        lambda: bound.run_commands("x"),
        lambda: bound.env({"A": "1"}),
        lambda: bound.add_local_file("b", "/b").run_function(plain),
        lambda: bound.add_local_dir("b", "/b", copy=True),
    ):
        with pytest.raises(
            greenroom.InvalidError, match=r"Image.add_local_dir\('a', '/a'\) is bound .*add copy=True to it"
        ):
            after()
    bound.add_local_file("b", "/b").add_local_python_source("greenroom")


# ---- what is recorded ----


def test_each_step_gives_another_image_and_leaves_its_own_as_it_is():
    variables, words, commands, args, kwargs = {"A": "1"}, ["sh"], ["make"], [1], {"x": [2]}
    chain = [HOST]
    for step in (
        lambda image: image.env(variables),
        lambda image: image.workdir("/srv"),
        lambda image: image.entrypoint(words),
        lambda image: image.cmd(words),
        lambda image: image.shell(words),
        lambda image: image.run_commands(commands, env=variables),
        lambda image: image.run_function(plain, args=args, kwargs=kwargs, env=variables),
    ):
        chain.append(step(chain[-1]))
    before = [(repr(image), list(spec(image).steps)) for image in chain]
    variables["A"], words[0], commands[0], args[:], kwargs["y"] = "2", "zsh", "rm", [3], 4
    for image in chain:
        image.run_commands("a branch of its own")
    assert [(repr(image), list(spec(image).steps)) for image in chain] == before
    assert [len(steps) for _, steps in before] == list(range(8))
    for shorter, longer in itertools.pairwise(before):
        assert longer[1][:-1] == shorter[1]
        assert longer[0].startswith(shorter[0])


def test_how_it_is_shown():
    image = (
        greenroom.Image.host()
        .env({"TOKEN": "canary-77"})
        .workdir("/srv")
        .run_commands("make", ["make install"], secrets=[SECRET])
        .run_function(plain, args=("canary-77",))
        .add_local_dir("data", "/data", copy=True)
        .add_local_python_source("a", "b.c")
    )
    assert repr(image) == (
        "Image.host().env({'TOKEN': …}).workdir('/srv').run_commands('make', 'make install').run_function(plain)"
        ".add_local_dir('data', '/data', copy=True).add_local_python_source('a').add_local_python_source('b.c')"
    )


def test_a_step_knows_its_line():
    image = HOST.run_commands("x").copy_local_file(__file__)
    line = test_a_step_knows_its_line.__code__.co_firstlineno + 1
    assert [(step.text, step.where) for step in spec(image).steps] == [
        (".run_commands('x')", f"test_image.py:{line}"),
        (f".add_local_file({__file__!r}, './', copy=True)", f"test_image.py:{line}"),
    ]


def test_secrets_count_by_name_and_variables_by_value():
    def key(env=None, **secrets):
        given = [greenroom.Secret.from_dict(secrets)] if secrets else []
        (step,) = spec(HOST.run_commands("x", env=env, secrets=given)).steps
        assert "canary" not in str(step.key) + step.text
        return list(keys(HOST_BASE, [step]))[-1]

    assert key(TOKEN="canary-1") == key(TOKEN="canary-2") != key(OTHER="canary-1") != key()
    assert key({"A": "1"}) != key({"A": "2"})
    assert key({"A": None}) == key()


def test_stored_secrets_count_by_their_names_and_are_left_to_the_server():
    def step(*secrets, env=None):
        (made,) = spec(HOST.run_commands("x", env=env, secrets=secrets)).steps
        return made, list(keys(HOST_BASE, [made]))[-1]

    made, key = step(SECRET, STORED, greenroom.Secret.from_dict({"LATER": "canary-78"}), env={"E": "1"})
    assert made.key == {"commands": ["x"], "env": {"E": "1"}, "secrets": ["LATER", "TOKEN"], "stored": ["stored"]}
    after = {"LATER": "canary-78", "E": "1"}
    assert made.rest["environment"] == {"TOKEN": "canary-77", "E": "1"}
    assert stored_in(made) == {"environment": [StoredSecret("stored", [], after)]}
    assert step(STORED)[1] == step(greenroom.Secret.from_name("stored", required_keys=["A"]))[1]
    assert len({key, step(STORED)[1], step(greenroom.Secret.from_name("other"))[1], step()[1]}) == 4


def test_stored_credentials_for_a_registry(tmp_path):
    names = ["REGISTRY_USERNAME", "REGISTRY_PASSWORD"]
    credentials = greenroom.Secret.from_name("ours", required_keys=["MORE"])
    base = spec(greenroom.Image.from_registry("python:3.12-slim", secret=credentials)).base
    assert base.key == {"reference": "python:3.12-slim", "secrets": [], "stored": ["ours"]}
    asked = [StoredSecret("ours", ["MORE", *names], {}, names)]
    assert stored_in(base) == {"environment": asked}

    (tmp_path / "Dockerfile").write_text("FROM python:3.12-slim")
    base = spec(
        greenroom.Image.from_dockerfile(
            tmp_path / "Dockerfile", context_dir=tmp_path, registry_secret=credentials, secrets=[STORED], env={"E": "1"}
        )
    ).base
    assert (base.key["registry"], base.key["stored"], base.key["env"]) == (["ours"], ["stored"], {"E": "1"})
    assert stored_in(base) == {"environment": asked, "values": [StoredSecret("stored", [], {"E": "1"})]}


def test_what_a_step_finds_and_what_it_may_use_changes_no_key():
    def key(**options):
        return list(keys(HOST_BASE, spec(HOST.run_function(plain, **options)).steps))[-1]

    assert (
        len({key(), key(timeout=5), key(cpu=2), key(memory=(64, 128)), key(args=()), key(kwargs={}), key(timeout=None)})
        == 1
    )
    assert len({key(), key(args=(1,)), key(args=(2,)), key(kwargs={"x": 1}), key(args=("1",))}) == 5


ARGUMENTS = """
import greenroom
from greenroom.model.image import keys
from greenroom.sdk.image_plan import Plan

words = "".join(["a", "b"]), "".join(["a", "b"])
for args in (({"one", "two", "three"}, frozenset("abc")), words, (words[0],) * 2, (b"x" * 100_000,)):
    image = greenroom.Image.host().run_function(lambda *args: None, args=args)
    print(list(keys(*Plan("").describe(image)[:2]))[-1])
"""


def test_equal_arguments_are_equal_in_every_process(tmp_path):
    (tmp_path / "program.py").write_text(ARGUMENTS)
    found = [
        subprocess.run(
            [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.split()
        for seed in ("1", "2")
    ]  # fmt: skip
    assert found[0] == found[1]
    sets, words, same_words, large = found[0]
    assert words == same_words
    assert len({sets, words, large}) == 3


def test_a_forced_step_is_another_one_each_time():
    image = HOST.run_commands("x").run_commands("y", force_build=True).run_commands("z")
    one, two = (list(keys(HOST_BASE, spec(image).steps)) for _ in range(2))
    assert one[:2] == two[:2]
    assert not set(one[2:]) & set(two[2:])


def test_files_go_where_they_are_to_go(tmp_path):
    (tmp_path / "a.txt").write_text("a")

    def goes(remote):
        step = spec(HOST.add_local_file(tmp_path / "a.txt", remote, copy=True)).steps[0]
        plan = Plan("")
        plan.describe(HOST.add_local_file(tmp_path / "a.txt", remote))
        (found,) = plan.bundles.values()
        return step.key["path"], [*found.entries]

    assert goes("/srv/b.txt") == ("/srv", ["b.txt"])
    assert goes("/srv/") == ("/srv", ["a.txt"])
    assert goes("b.txt") == ("", ["b.txt"])
    assert goes("/b.txt") == ("/", ["b.txt"])
    for directory in (".", "./", "/srv/..", "../"):
        assert goes(directory)[1] == ["a.txt"]


def test_the_older_names(tmp_path):
    (tmp_path / "a").write_text("a")
    pairs = [
        (HOST.copy_local_file(tmp_path / "a"), HOST.add_local_file(tmp_path / "a", "./", copy=True)),
        (HOST.copy_local_dir(tmp_path), HOST.add_local_dir(tmp_path, ".", copy=True)),
        (
            HOST.copy_local_dir(tmp_path, "/x", ignore=["*"]),
            HOST.add_local_dir(tmp_path, "/x", copy=True, ignore=["*"]),
        ),
    ]
    for old, new in pairs:
        assert repr(old) == repr(new)
        assert [step.key for step in spec(old).steps] == [step.key for step in spec(new).steps]


def test_files_are_read_once_for_all_images_that_have_them(tmp_path):
    (tmp_path / "a").write_text("a")
    asked = []
    image = HOST.add_local_dir(tmp_path, "/x", copy=True, ignore=lambda path: bool(asked.append(path)))
    found = {}
    specs = [Plan("", found).describe(other) for other in (image, image.run_commands("x"), image)]
    assert len(asked) == 1
    assert len({each.steps[0].key["files"] for each in specs}) == 1


# ---- functions ----


def test_a_function_of_the_app_is_the_function_itself():
    (step,) = spec(HOST.run_function(decorated)).steps
    assert step.text == ".run_function(decorated)"
    assert (step.rest["spec"]["module"], step.rest["spec"]["qualname"]) == (__name__, "decorated")
    assert not step.rest["spec"]["serialized"]


@pytest.mark.parametrize("function", [plain, later, Thing.static, lambda: 1], ids=["def", "async", "static", "lambda"])
def test_functions_of_each_kind(function):
    (step,) = spec(HOST.run_function(function)).steps
    assert step.rest["spec"]["serialized"] == ("<" in function.__qualname__)
    assert step.rest["spec"]["needs_loop"] == (function is later)


def test_a_lambda_needs_cloudpickle(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    image = HOST.run_function(lambda: 1)
    with pytest.raises(greenroom.InvalidError, match="<lambda> is sent by value, which needs cloudpickle: pip install"):
        spec(image)
    with pytest.raises(greenroom.Error, match="cloudpickle"):
        spec(HOST.run_function(lambda x: 1, args=(1,)))
    spec(HOST.run_function(plain, args=(1,)))


def test_threads_send_by_value_at_once():
    """As two apps do that start at once."""
    failed = []

    def describe():
        try:
            for _ in range(50):
                spec(HOST.run_function(lambda: 1))
        except ValueError as error:
            failed.append(error)

    threads = [threading.Thread(target=describe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings=Settings(sandbox="process")) as made:
        yield made


def test_decorated_and_nested_functions_run(cluster):
    def nested(text):
        with open("nested", "w") as file:
            file.write(text)

    own = greenroom.App("t")

    @own.function(serialized=True)
    def also_called():
        with open("decorated", "w") as file:
            file.write("d")

    image = (
        HOST.run_function(nested, args=("n",))
        .run_function(also_called)
        .run_function(lambda: open("lambda", "x").close())
    )

    @own.function(serialized=True, image=image)
    def look():
        import os

        with open("nested") as one, open("decorated") as two:
            return one.read() + two.read(), os.path.exists("lambda")

    with own.run():
        assert look.remote() == ("nd", True)


# ---- what isn't built ----


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: HOST.run_commands("x", volumes={"/v": 1}), r"Image.run_commands\(volumes=…\) is not built yet"),
        (lambda: HOST.run_commands("x", gpu="T4"), r"Image.run_commands\(gpu=…\) is not built yet"),
        (lambda: HOST.run_function(plain, volumes={"/v": 1}), r"Image.run_function\(volumes=…\) is not built yet"),
        (
            lambda: HOST.run_function(plain, secrets=[SECRET], network_file_systems={"/n": 1}),
            r"Image.run_function\(network_file_systems=…\) is not built yet",
        ),
        (lambda: HOST.uv_sync().run_commands("y"), r"Image.uv_sync is not built yet"),
        (lambda: HOST.pip_install("x", gpu="T4"), r"Image.pip_install\(gpu=…\) is not built yet"),
    ],
)
def test_a_step_that_needs_what_is_not_built_is_refused_when_it_is_used(make, said):
    """As with functions: a program may name it, and runs without what needs it."""
    own = greenroom.App("t")
    f = own.function(serialized=True, image=make().env({"A": "1"}))(lambda: None)
    with pytest.raises(NotImplementedError, match=said):
        f.remote()


def test_options_that_mean_nothing_here_are_said(cluster):
    own = greenroom.App("t")
    image = HOST.run_function(plain, cloud="aws", region="eu").env({"A": "1"})
    own.function(serialized=True, image=image)(lambda: None)
    recorder = Recorder()
    with use_sink(recorder), own.run():
        pass
    assert [line for line in recorder.notices if "ignored" in line] == [
        "ignored, for it means nothing on one's own machines: cloud=, region="
    ]


# ---- nothing happens before an app starts ----


def test_files_that_are_missing_matter_when_an_app_starts(cluster, tmp_path):
    """Containers import the same lines, and don't have them."""
    for image, said in (
        (HOST.add_local_file(tmp_path / "none", "/root/x"), "Image.add_local_file.*: there is no file"),
        (HOST.add_local_dir(tmp_path / "none", "/root/x", copy=True), "Image.add_local_dir.*: there is no directory"),
        (HOST.add_local_python_source("no_such_module"), "Image.add_local_python_source.*: there is no module no_such"),
    ):
        own = greenroom.App("t")
        f = own.function(serialized=True, image=image)(lambda: 1)
        with pytest.raises(greenroom.InvalidError, match=said), own.run():
            pytest.fail("its block was entered")
        (tmp_path / "none").mkdir(exist_ok=True)
        assert own.app_id in (None, "")
        assert f.local() == 1
        (tmp_path / "none").rmdir()


HEAVY = {"tarfile", "hashlib", "ast", "inspect", "pathlib", "shutil", "tempfile", "subprocess", "asyncio", "cloudpickle",
         "dataclasses", "greenroom.sdk.image_plan", "greenroom.sdk.local_files"}  # fmt: skip
PROGRAM = """
import sys
import greenroom

def step(): ...

def yields():
    yield

image = (
    greenroom.Image.host().env({"A": "1"}).workdir("/x").entrypoint(["a"]).cmd(["b"]).shell(["sh", "-c"])
    .run_commands("x", secrets=[greenroom.Secret.from_dict({"T": "1"})]).run_function(step, args=(1,))
    .add_local_file("none", "/x", copy=True).copy_local_dir("none", "/y", ignore=["**/*.x"])
    .add_local_python_source("none").add_local_dir("none", "/z")
)
for wrong in (yields, step, print):
    try:
        greenroom.Image.host().run_function(wrong)
    except greenroom.InvalidError:
        pass
with image.imports():
    import no_such_module
app = greenroom.App(image=image)
app.function(image=image)(step)
print(" ".join(sys.modules))
"""


def test_to_make_an_image_is_light():
    """Each container does it again, whenever it starts."""
    paths = [entry for entry in sys.path if entry.endswith("src")]
    program = f"import sys; sys.path[:0] = {paths!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & HEAVY == set()


# ---- modules that only the image has ----


def test_imports_pass_over_what_is_missing_and_nothing_else(capsys):
    with HOST.imports():
        import no_such_module  # noqa: F401
    with HOST.imports():
        from greenroom import no_such_name  # noqa: F401
    assert capsys.readouterr() == ("", ""), "here it may be missing"
    with pytest.raises(ZeroDivisionError), HOST.imports():
        raise ZeroDivisionError
    with HOST.imports():
        import string
    assert string.digits


def test_arguments_that_can_not_travel_name_their_step():
    image = HOST.run_function(plain, args=(threading.Lock(),))
    with pytest.raises(
        greenroom.SerializationError, match=r"^Image\.run_function\(plain\) \(test_image\.py:\d+\): argument 1 "
    ):
        Plan("").describe(image)


def test_a_python_that_is_too_old_is_refused_where_it_is_written():
    debian = greenroom.Image.debian_slim
    for make in (
        lambda: debian("3.9"),
        lambda: debian().add_python("3.9.1"),
        lambda: greenroom.Image.micromamba("3.8"),
    ):
        with pytest.raises(greenroom.InvalidError, match=r"\('3\.\d[.1]*'\): containers need Python 3.10 or newer"):
            make()
    for version in ("3.10", "3.14"):
        assert repr(debian().add_python(version)).endswith(f".add_python('{version}')")
