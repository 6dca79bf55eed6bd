"""A real server in this process, and what went wrong inside it."""

import pytest

from greenroom.model.settings import Settings
from greenroom.testing import Cluster


@pytest.fixture(scope="module")
def cluster():
    """With plain processes; what raises on the server's loop fails the module."""
    raised = []
    with Cluster(settings=Settings(sandbox="process", exit_grace=3.0, cancel_grace=1.0)) as made:
        made.on_server(lambda server: server.loop.set_exception_handler(lambda _, context: raised.append(context)))
        yield made
    assert raised == []
