"""A real cluster in a test's own process: server in a thread, worker and containers as real processes.

With a clock that can be held, so that nothing waits for an idle window or a timeout. Where Greenroom is installed, pytest
knows its fixture::

    def test_scale_down(greenroom_cluster):
        with app.run():
            f.remote(1)
            greenroom_cluster.clock.advance(60)
            greenroom_cluster.wait_until(lambda: not greenroom_cluster.containers())
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greenroom.testing.clock import HeldClock
    from greenroom.testing.cluster import Cluster

__all__ = ["Cluster", "HeldClock"]

# Loaded when asked for: pytest imports this package with every run, for its fixture.
_HOMES = {"Cluster": "greenroom.testing.cluster", "HeldClock": "greenroom.testing.clock"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
