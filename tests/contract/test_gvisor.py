"""The contract in a short form, in containers with a kernel of their own: gVisor's ``runsc``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from greenroom.wire.payload import INLINE_ONLY
from tests.conftest import Need, assert_nothing_left
from tests.contract import short_form

running = short_form.running
globals().update(
    {test.__name__: test for test in short_form.SHORT}
)  # collected here once more, with this module's fixtures


@pytest.fixture(scope="module")
def settings(_shared: Path) -> Settings:
    """Of the sandbox that these are for."""
    Need.runtime("runsc")
    return Settings(exit_grace=3.0, cancel_grace=1.0, sandbox="oci", runtime="runsc", shared_dirs=str(_shared))


@pytest.fixture(scope="module")
def cluster(settings: Settings) -> Iterator[Cluster]:
    """One of which nothing is left."""
    with Cluster(settings=settings) as made:
        yield made
    assert_nothing_left(made.home)


def test_the_kernel_is_not_the_hosts(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f():
        import os

        return os.uname().version

    with app.run():
        import os

        assert f.remote() != os.uname().version


def test_what_is_too_large_for_a_frame_is_refused_in_one_line(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def size(data):
        return len(data)

    @app.function(serialized=True)
    def make(count):
        return bytes(count)

    with app.run():
        with pytest.raises(greenroom.RequestSizeError, match="more than the 50331648 that can be passed"):
            size.remote(bytes(INLINE_ONLY + 1))
        with pytest.raises(greenroom.RequestSizeError, match="50331648 bytes"):
            make.remote(INLINE_ONLY + 1)
        assert size.remote(bytes(1 << 20)) == 1 << 20
