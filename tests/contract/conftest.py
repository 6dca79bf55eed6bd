"""The contract suite: what SEMANTICS sections 1, 1.1 and 4 promise, against a real cluster of one sandbox."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from tests.conftest import Need
from tests.contract.registries import Registry, small

ALL_RUNTIMES = os.environ.get("GREENROOM_TEST_RUNTIMES") == "all"
"""Whether the whole contract is tried by runc too, not only its short form."""


@pytest.fixture(autouse=True, scope="module")
def _a_blocked_loop_fails() -> Iterator[None]:
    """A server that blocks its loop (files, sleep, sockets) raises where it does, and the test's call never returns."""
    with blockbuster_ctx("greenroom.server"):
        yield


@pytest.fixture(scope="session")
def _shared() -> Iterator[Path]:
    """A directory that the tests and their containers share."""
    path = Path(tempfile.mkdtemp(prefix="gr-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def tmp_path(_shared: Path) -> Path:
    """As pytest's, and containers find it at the same path."""
    path = Path(tempfile.mkdtemp(dir=_shared))
    path.chmod(0o777)
    return path


def settings_of(sandbox: str, shared: Path) -> Settings:
    """Of a cluster with short grace periods."""
    common = Settings(exit_grace=3.0, cancel_grace=1.0)
    if sandbox == "process":
        return common._replace(sandbox="process")
    Need.runtime(sandbox)
    return common._replace(sandbox="oci", runtime=sandbox, shared_dirs=str(shared))


@pytest.fixture(scope="module", params=["process", "crun", *(["runc"] if ALL_RUNTIMES else [])])
def settings(request: pytest.FixtureRequest, _shared: Path) -> Settings:
    """In each sandbox; by runc, see ``test_runc.py``. A module that is about the server alone has one of its own."""
    return settings_of(request.param, _shared)


@pytest.fixture(scope="module")
def cluster(settings: Settings) -> Iterator[Cluster]:
    """A cluster in real time."""
    with Cluster(settings=settings) as made:
        yield made


@pytest.fixture
def held(settings: Settings) -> Iterator[Cluster]:
    """A cluster whose clock stands still."""
    with Cluster(hold=True, settings=settings) as made:
        yield made


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """Of images, on loopback."""
    for name in ("docker-registry", "skopeo", "umoci", "buildah"):
        Need.runtime(name)
    made = Registry()
    yield made
    made.close()


@pytest.fixture(scope="session")
def python_layer(debian_home: Path) -> bytes:
    """A layer that a container can stand on."""
    return small(debian_in(debian_home), python=True)


@pytest.fixture(scope="session")
def shell_layer(debian_home: Path) -> bytes:
    """A layer that commands can run on."""
    return small(debian_in(debian_home), python=False)


def debian_in(home: Path) -> Path:
    """The layer that is a Debian."""
    # A step may have put a python3 into a layer of its own, but no dpkg.
    (found,) = {
        path.parents[2]
        for path in (home / "layers").glob("*/fs/usr/bin/dpkg")
        if (path.parent / "python3").is_symlink()
    }
    return found


class Recorder:
    """Collects what containers print, line by line."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.notices: list[str] = []
        self.changes: list[tuple[str, str, str]] = []
        self.steps: list[tuple[str, str]] = []
        self.urls: dict[str, str] = {}

    def lines(self) -> list[str]:
        return [line for data in self.data.values() for line in data.decode().splitlines()]

    def log(self, container_id: str, function: str, data: bytes) -> None:
        self.data[container_id] = self.data.get(container_id, b"") + data

    def image_step(self, image_id: str, number: int, total: int, text: str, state: str, seconds: float) -> None:
        self.steps.append((text, state))

    def requested(self, text: str) -> None:
        """Not collected."""

    def served(self, name: str, url: str) -> None:
        self.urls[name] = url

    def image_log(self, image_id: str, data: bytes) -> None:
        """Not what containers of the app print."""

    def built(self) -> list[str]:
        """Steps that were made, in order."""
        return [text for text, state in self.steps if state == "done"]

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def container_changed(self, container_id: str, function: str, state: str, reason: str) -> None:
        self.changes.append((container_id, state, reason))

    def __getattr__(self, name: str):
        if name.startswith(("app_", "map_", "close")):
            return lambda *args, **kwargs: None
        raise AttributeError(name)


@pytest.fixture
def output() -> Iterator[Recorder]:
    """What the test's containers print."""
    from greenroom.sdk.output import use_sink

    recorder = Recorder()
    with use_sink(recorder):
        yield recorder
