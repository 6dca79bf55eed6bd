"""Fixtures that every tier shares."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from greenroom.worker.cgroups import home_mark

# A busy machine is no failure.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, on a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="gr-"))
    monkeypatch.setenv("GREENROOM_HOME", str(path))
    yield path
    shutil.rmtree(path, ignore_errors=True)


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
