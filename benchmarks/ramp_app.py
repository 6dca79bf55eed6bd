"""Fifty calls that each need a container of their own: `greenroom deploy benchmarks/ramp_app.py`."""

import greenroom

app = greenroom.App("bench-ramp")


@app.function(max_containers=50, timeout=600)
def five(x):
    """When it began, in seconds since 1970; five seconds later."""
    import time

    began = time.time()
    time.sleep(5)
    return began


@app.function(max_containers=1, scaledown_window=2)
def one(x):
    return x
