"""The cluster by itself."""

import pytest

import greenroom
from greenroom.testing import Cluster


def test_what_fails_on_the_server_is_raised_here():
    with Cluster() as cluster:
        with pytest.raises(ZeroDivisionError):
            cluster.on_server(lambda server: 1 // 0)
        assert cluster.on_server(lambda server: server.id) == "sv-test"


def test_it_is_refused_outside_of_its_time():
    cluster = Cluster()
    with pytest.raises(greenroom.InvalidError, match="isn't up"):
        cluster.containers()
    with cluster:
        pass
    with pytest.raises(greenroom.InvalidError, match="has ended"):
        cluster.containers()
    assert not cluster.home.exists()
