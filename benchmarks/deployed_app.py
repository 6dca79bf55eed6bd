"""What is deployed: `greenroom deploy benchmarks/deployed_app.py`."""

import greenroom

app = greenroom.App("bench-deployed")


@app.function(min_containers=2, max_containers=2, timeout=3600)
def echo(x):
    return x


@app.local_entrypoint()
def main():
    """The same as an app that runs beside its program: the median seconds of a warm call."""
    import statistics
    import time

    samples = []
    for number in range(3000):
        started = time.perf_counter()
        echo.remote(number)
        samples.append(time.perf_counter() - started)
    print(statistics.median(samples[500:]))
