"""Fixtures that every tier shares."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from greenroom.worker.cgroups import home_mark
from greenroom.worker.removal import remove_tree

# A busy machine is no failure.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


DEBIAN = 480
"""Seconds beyond its own that a test has which needs a Debian: one of them makes it, and others wait for that. It takes 20 on
a machine that does nothing else."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    own = float(config.getini("timeout"))
    for item in items:
        if "debian_home" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(own + DEBIAN))


CANARY = "canary-5e1d2f"
"""In the settings of this machine when ``debian_home`` is made; it is to be in no layer."""


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, on a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="gr-"))
    monkeypatch.setenv("GREENROOM_HOME", str(path))
    monkeypatch.setenv("GREENROOM_SERVER", "local")  # whatever profile whoever runs this has active
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def debian_home() -> Iterator[Path]:
    """A state directory that has ``Image.debian_slim()`` already: it is made once for all the tests of a run."""
    Need.runtime("crun")
    Need.runtime("mmdebstrap")
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    home = Path(tempfile.gettempdir(), f"gr-base-{run[:12]}")
    home.mkdir(mode=0o700, exist_ok=True)
    users = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(users, fcntl.LOCK_SH)
    with (home / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        app = greenroom.App("base", image=greenroom.Image.debian_slim())
        app.function(serialized=True)(lambda: None)
        with pytest.MonkeyPatch.context() as around:
            for name in ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL", "PIP_PROXY", "UV_HTTP_BASIC_X_PASSWORD", "ANY"):
                around.setenv(name, f"http://user:{CANARY}@127.0.0.1:9/")
            with Cluster(settings=Settings(sandbox="oci", runtime="crun"), home=home):
                app.build()
    yield home
    fcntl.flock(users, fcntl.LOCK_UN)
    with contextlib.suppress(BlockingIOError):  # another process of this run still uses it
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(home)
    os.close(users)


@pytest.fixture
def need() -> "type[Need]":
    """``need.file(path)``: skip on a laptop, fail in CI, where it isn't there."""
    return Need


class Need:
    @staticmethod
    def file(pattern: str) -> Path:
        root = Path("/")
        found = sorted(root.glob(pattern.lstrip("/")))
        if not found:
            Need.missing(pattern)
        return found[-1]

    @staticmethod
    def runtime(name: str) -> None:
        """What starts real containers, and the right to."""
        if os.geteuid() != 0:
            pytest.skip("real containers need root for now")
        if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            Need.missing(name)

    @staticmethod
    def missing(what: str) -> None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} is missing, and CI must have it")
        pytest.skip(f"{what} is missing")


def processes_of(home: Path) -> list[str]:
    """Command lines of processes that have anything to do with a state directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environ = (entry / "environ").read_bytes().split(b"\0")
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        ours = f"GREENROOM_RUN={home}".encode()
        if line and int(entry.name) != os.getpid() and (str(home) in line or any(e.startswith(ours) for e in environ)):
            found.append(f"{entry.name} {line}")
    return found


def wait_for(condition, timeout: float = 45.0, what: str = ""):
    """Until ``condition()`` is true; its value."""
    limit = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > limit:
            raise AssertionError(f"not so within {timeout} s: {what or condition}")
        time.sleep(0.01)
    return value


def groups_of(home: Path) -> list[Path]:
    """Control groups of a state directory's containers."""
    root, name = Path("/sys/fs/cgroup"), f"{home_mark(home)}-*"
    return [path for pattern in (f"greenroom/{name}", f"*/greenroom/{name}") for path in root.glob(pattern)]


def mounts_of(home: Path) -> list[str]:
    """What is mounted, as this process sees it, from or below a state directory or where containers' roots lie."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(home) in line or "/run/greenroom" in line]


def assert_nothing_left(home: Path, timeout: float = 45.0) -> None:
    """No process, socket, scratch directory, control group or mount of that state directory."""
    run = home / "run"
    wait_for(lambda: not processes_of(home), timeout, f"processes end: {processes_of(home)}")
    wait_for(lambda: not groups_of(home), timeout, f"control groups go: {groups_of(home)}")
    assert not mounts_of(home)
    wait_for(lambda: not run.exists() or not list(run.iterdir()), timeout, "run directories go")
