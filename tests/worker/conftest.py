"""A worker of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import assert_nothing_left
from tests.worker.peer import Peer


@pytest.fixture
def peer(home: Path) -> Iterator[Peer]:
    """A worker; whatever the test does to it, nothing is left of it afterwards."""
    made = Peer(home)
    yield made
    made.close()
    assert_nothing_left(home)
