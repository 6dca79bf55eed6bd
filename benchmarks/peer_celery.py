"""Celery's side: tasks through Redis and its result backend, one worker with two processes; prints one JSON object."""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from celery import Celery

PORT = int(os.environ.get("BENCH_REDIS_PORT", "0"))
app = Celery("peer_celery", broker=f"redis://127.0.0.1:{PORT}/0", backend=f"redis://127.0.0.1:{PORT}/1")
app.conf.update(worker_prefetch_multiplier=64, task_ignore_result=False)


@app.task(name="echo")
def echo(x):
    return x


def main(quick):
    count = 200 if quick else 2_000
    echo.delay(0).get(timeout=60)
    rates, sent = [], []
    for _ in range(3):
        started = time.perf_counter()
        results = [echo.delay(number) for number in range(count)]
        sent.append(count / (time.perf_counter() - started))
        for result in results:
            result.get(timeout=60)
        rates.append(count / (time.perf_counter() - started))
    print(json.dumps({
        "through": statistics.median(rates), "sent": statistics.median(sent),
        "through_many": statistics.median(through_many(count * 2, 64) for _ in range(3)),
    }))  # fmt: skip


def through_many(count, callers):
    """Tasks a second, sent by so many threads, run and collected by them."""
    each = count // callers

    def work():
        results = [echo.delay(number) for number in range(each)]
        for result in results:
            result.get(timeout=60)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return each * callers / (time.perf_counter() - started)


def serve(quick):
    """With a Redis and a worker of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "BENCH_REDIS_PORT": str(port)}
    with tempfile.TemporaryDirectory() as directory:
        redis = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""],
                                 stdout=subprocess.DEVNULL)  # fmt: skip
        worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", "benchmarks.peer_celery", "worker", "-c", "2", "-l", "error"],
                                  env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.peer_celery", *["--quick"] * quick, "--client"],
                env=environment,
                check=True,
            )
        finally:
            for process in (worker, redis):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    (main if "--client" in sys.argv else serve)("--quick" in sys.argv)
