"""A real cluster in a test's own process: server in a thread, worker and containers as real processes.

With a clock that can be held, so that nothing waits for an idle window or a timeout. Where Greenroom is installed, pytest
knows its fixture::

    def test_scale_down(greenroom_cluster):
        with app.run():
            f.remote(1)
            greenroom_cluster.clock.advance(60)
            greenroom_cluster.wait_until(lambda: not greenroom_cluster.containers())

And :func:`simulate`, which runs nothing, but shows what the server would do with a load::

    trace = simulate(Load("f", burst(200), seconds=1.0, max_containers=20), seconds=60)
    print(max(moment.containers for moment in trace.tracks[0].moments))
    Path("burst.svg").write_text(trace.svg("200 calls at once"))
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greenroom.testing.clock import HeldClock
    from greenroom.testing.cluster import Cluster
    from greenroom.testing.simulation import Load, Moment, Trace, Track, burst, ramp, simulate, steady

__all__ = ["Cluster", "HeldClock", "Load", "Moment", "Trace", "Track", "burst", "ramp", "simulate", "steady"]

# Loaded when asked for: pytest imports this package with every run, for its fixture.
_HOMES = {"Cluster": "greenroom.testing.cluster", "HeldClock": "greenroom.testing.clock"}
_HOMES |= dict.fromkeys(__all__[2:], "greenroom.testing.simulation")


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
