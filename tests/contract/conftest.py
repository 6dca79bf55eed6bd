"""The contract suite: what SEMANTICS sections 1, 1.1 and 4 promise, against a real cluster of one sandbox."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from tests.conftest import Need


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


@pytest.fixture(scope="module", params=["process", "crun", "runc"])
def settings(request: pytest.FixtureRequest, _shared: Path) -> Settings:
    """Of a cluster with short grace periods, in each sandbox."""
    common = Settings(exit_grace=3.0, cancel_grace=1.0)
    if request.param == "process":
        return common._replace(sandbox="process")
    Need.runtime(request.param)
    return common._replace(sandbox="oci", runtime=request.param, shared_dirs=str(_shared))


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


class Recorder:
    """Collects what containers print, line by line."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.notices: list[str] = []
        self.changes: list[tuple[str, str, str]] = []

    def lines(self) -> list[str]:
        return [line for data in self.data.values() for line in data.decode().splitlines()]

    def log(self, container_id: str, function: str, data: bytes) -> None:
        self.data[container_id] = self.data.get(container_id, b"") + data

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
