"""The contract suite: what SEMANTICS sections 1, 1.1 and 4 promise, against a real cluster of one sandbox."""

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx

from greenroom.model.settings import Settings
from greenroom.testing import Cluster


@pytest.fixture(autouse=True, scope="module")
def _a_blocked_loop_fails() -> Iterator[None]:
    """A server that blocks its loop (files, sleep, sockets) raises where it does, and the test's call never returns."""
    with blockbuster_ctx("greenroom.server"):
        yield


SETTINGS = Settings(exit_grace=3.0, cancel_grace=1.0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster in real time, with short grace periods."""
    with Cluster(settings=SETTINGS) as made:
        yield made


@pytest.fixture
def held() -> Iterator[Cluster]:
    """A cluster whose clock stands still."""
    with Cluster(hold=True, settings=SETTINGS) as made:
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
