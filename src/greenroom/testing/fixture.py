"""The pytest plugin: its fixture."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from greenroom.testing.cluster import Cluster


@pytest.fixture
def greenroom_cluster() -> "Iterator[Cluster]":
    """A cluster with a held clock; ``app.run()`` uses it."""
    from greenroom.testing.cluster import Cluster

    with Cluster(hold=True) as cluster:
        yield cluster
