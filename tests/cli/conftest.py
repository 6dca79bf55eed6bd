"""Servers that stay."""

import pytest

from tests.cli.stays import Stays
from tests.conftest import Need


@pytest.fixture
def plain(home, tmp_path):
    """One whose containers are plain processes: for what is not about them."""
    made = Stays(home, tmp_path, "process")
    yield made
    made.end()


@pytest.fixture(params=["process", "oci"])
def stays(request, home, tmp_path):
    """One of each."""
    if request.param == "oci":
        Need.runtime("crun")
    made = Stays(home, tmp_path, request.param)
    yield made
    made.end()
