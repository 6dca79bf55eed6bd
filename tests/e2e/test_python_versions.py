"""Containers on other Pythons than the one that the program runs on, down to the oldest that they may be of."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.test_packages import wheel
from tests.e2e.programs import run, write
from tests.interpreters import builds
from tests.long_form import long_form

PROGRAM = """
    import asyncio, os, sys, time
    import greenroom

    VERSION, MARKS = os.environ["VERSION"], os.environ["MARKS"]
    app = greenroom.App("versions", image=greenroom.Image.debian_slim().add_python(VERSION).env({"VERSION": VERSION, "MARKS": MARKS}))

    class Refused(Exception):
        def __init__(self, number):
            super().__init__(f"refused {number}")
            self.number = number

    @app.cls(timeout=60)
    @greenroom.concurrent(max_inputs=4)
    class Together:
        @greenroom.build()
        async def download(self):
            with open("/srv/weights", "w") as file:
                file.write(sys.version.split()[0])

        @greenroom.enter()
        def first(self):
            with open("/srv/weights") as file:
                self.weights = file.read()

        @greenroom.enter()
        async def second(self):
            self.loop, self.inside = asyncio.get_running_loop(), 0

        @greenroom.method()
        async def meet(self, number):
            self.inside += 1
            while self.inside < number:
                await asyncio.sleep(0.01)
            return self.weights, asyncio.get_running_loop() is self.loop

        @greenroom.method()
        async def count(self, number):
            for n in range(number):
                yield n

        @greenroom.method()
        async def fail(self, number):
            try:
                {}["missing"]
            except KeyError as error:
                raise Refused(number) from error

        @greenroom.exit()
        async def leave(self):
            print("left", self.weights)

    @app.cls(timeout=1, max_containers=1)
    class Alone:
        def __init__(self):
            self.ended = []

        @greenroom.method()
        def stay(self, name):
            open(f"{os.environ['MARKS']}/{name}", "w").close()
            try:
                while True:
                    time.sleep(0.01)
            except BaseException as error:
                self.ended.append(type(error).__name__)
                raise

        @greenroom.method()
        async def stay_async(self, name):
            open(f"{os.environ['MARKS']}/{name}", "w").close()
            try:
                await asyncio.sleep(1000)
            except BaseException as error:
                self.ended.append(type(error).__name__)
                raise

        @greenroom.method()
        def told(self):
            return self.ended

    @app.function()
    def versions():
        return sys.version_info[:2]

    @app.function()
    def call_back(thing):
        return thing()

    @app.function()
    def code():
        return lambda: 1

    @app.function(serialized=True)
    def by_value():
        pass

    @app.function()
    def broken():
        raise ValueError("to the end")

    @app.local_entrypoint()
    def main():
        assert ".".join(map(str, versions.remote())) == VERSION
        together = Together()
        met = list(together.meet.map([4] * 4))
        assert len(met) == 4 and met == [(met[0][0], True)] * 4 and met[0][0].startswith(VERSION + "."), met
        assert list(together.count.remote_gen(3)) == [0, 1, 2]
        try:
            together.fail.remote(7)
        except Refused as error:
            assert error.number == 7 and type(error.__cause__) is KeyError
        alone = Alone()
        for method in (alone.stay, alone.stay_async):
            try:
                method.remote("late")
            except greenroom.exception.FunctionTimeoutError:
                pass
            call = method.spawn(f"spawned-{method is alone.stay}")
            while not os.path.exists(f"{MARKS}/spawned-{method is alone.stay}"):
                time.sleep(0.01)
            call.cancel()
            try:
                call.get(timeout=60)
            except greenroom.exception.InputCancellation:
                pass
        print("ended by", *alone.told.remote())
        for function, *arguments in ((call_back, lambda: 1), (code,), (by_value,)):
            try:
                print("not refused", function.remote(*arguments))
            except (greenroom.exception.DeserializationError, greenroom.exception.InvalidError) as error:
                print(error)
        broken.remote()
"""


HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """For the builds: whoever is a container's root may read it."""
    directory = Path(tempfile.mkdtemp(prefix="gr-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def on(debian_home: Path, tmp_path: Path, place: Path):
    """Run a program where uv can get builds of those versions, and no others."""
    marks = tmp_path / "marks"
    marks.mkdir()
    marks.chmod(0o777)

    def go(program: str, *versions: str, timeout: float = 100) -> "subprocess.CompletedProcess[str]":
        return run(
            "run", str(write(tmp_path, program)), timeout=timeout, VERSION=versions[0] if versions else "", MARKS=str(marks),
            GREENROOM_HOME=str(debian_home), GREENROOM_SANDBOX="oci", GREENROOM_SHARED_DIRS=str(marks),
            UV_PYTHON_DOWNLOADS_JSON_URL=builds(place, *versions),
        )  # fmt: skip

    return go


OTHERS = [version for version in ("3.10", "3.12", "3.13") if version != HERE]


@pytest.mark.parametrize(
    "version", [OTHERS[0], *(pytest.param(version, marks=long_form) for version in OTHERS[1:-1]), OTHERS[-1]]
)
def test_all_of_a_containers_life(on, version):
    result = on(PROGRAM, version)
    assert result.returncode == 1, result.stderr
    *said, left = result.stdout.splitlines()
    same = "use the same Python on both sides, or define"
    assert said == [
        "ended by InputCancellation InputCancellation CancelledError CancelledError",
        f"a value arrived that has code of Python {HERE} in it, and here is {version}: {same} what it is made of in a file",
        f"a value arrived that has code of Python {version} in it, and here is {HERE}: {same} what it is made of in a file",
        f"by_value was sent by value from Python {HERE}, and the container has {version}; {same} it in a file",
    ], result.stderr
    assert left.startswith(f"left {version}.")
    traceback = result.stderr.partition("Traceback (most recent call last):")[2]
    assert 'app.py", line' in traceback and ", in broken" in traceback and "ValueError: to the end" in traceback
    assert ".greenroom" not in traceback


WHICH = """
    import sys
    import greenroom

    app = greenroom.App("which", image=greenroom.Image.debian_slim({base}){steps})

    @app.function()
    def which():
        import subprocess

        said = subprocess.run(["python", "-V"], capture_output=True, text=True, check=True).stdout.strip()
        try:
            import grone
        except ImportError:
            return said, sys.version.split()[0], sys.prefix
        return said, sys.version.split()[0], sys.prefix, grone.__file__

    @app.local_entrypoint()
    def main():
        print(*which.remote())
"""


def test_of_two_pythons_the_last_counts_and_gets_the_packages(on, place):
    wheel(place, "grone", "1.0")
    install = f".pip_install('grone', find_links={str(place)!r}, extra_options='--no-index')"
    result = on(WHICH.format(base="", steps=f".add_python('3.12').add_python('3.10'){install}"), "3.10", "3.12")
    assert result.returncode == 0, result.stderr
    said, version, prefix, package = result.stdout.removeprefix("Python ").split()
    assert said == version and version.startswith("3.10.")
    assert prefix.startswith("/opt/python/3.10/")
    assert package == f"{prefix}/lib/python3.10/site-packages/grone.py"


def test_a_python_that_is_not_to_be_had_is_said_in_a_line(on):
    result = on(WHICH.format(base="", steps=".add_python('3.12.99')"))
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("greenroom: ")]
    assert (
        "Image.add_python('3.12.99') (app.py:5): no build of Python 3.12.99 is within reach: No download found" in line
    )
    assert "Traceback" not in result.stderr


@long_form  # each makes another Debian
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("version", "prefix"), [("3.13", "/usr"), ("3.12", "/opt/python/3.12/")])
def test_another_debian(on, version, prefix):
    """Trixie's own, and one that Debian hasn't got."""
    result = on(WHICH.format(base=repr(version), steps=""), "3.12", timeout=300)
    said, found, where = result.stdout.removeprefix("Python ").split()
    assert said == found and found.startswith(f"{version}."), result.stderr
    assert where.startswith(prefix)
