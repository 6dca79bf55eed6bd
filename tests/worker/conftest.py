"""A worker of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Need, assert_nothing_left
from tests.worker.peer import SETTINGS, Peer


@pytest.fixture
def peer(home: Path) -> Iterator[Peer]:
    """A worker; whatever the test does to it, nothing is left of it afterwards."""
    made = Peer(home)
    yield made
    made.close()
    assert_nothing_left(home)


@pytest.fixture(params=["crun", "runc"])
def contained(request: pytest.FixtureRequest, home: Path) -> Iterator[Peer]:
    """A worker whose containers are real ones."""
    Need.runtime(request.param)
    made = Peer(home, SETTINGS._replace(sandbox="oci", runtime=request.param))
    yield made
    made.close()
    assert_nothing_left(home)
