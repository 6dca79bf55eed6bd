"""Ray's side of the same. A start is that of an actor beyond those that Ray keeps started in advance."""

import json
import statistics
import sys
import time

import ray


@ray.remote(num_cpus=0)
class Actor:
    def echo(self, x):
        return x


def rate(count, work):
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def main(quick):
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    scale = 10 if quick else 1
    found = {}
    starts, actors = [], []
    for _ in range(8):
        started = time.perf_counter()
        actors.append(Actor.remote())
        ray.get(actors[-1].echo.remote(1))
        starts.append(time.perf_counter() - started)
    found["cold"] = statistics.median(starts[4:])  # the first ones were started in advance
    for actor in actors[2:]:
        ray.kill(actor)
    first, second = actors[:2]
    samples = []
    for number in range(2000 // scale):
        started = time.perf_counter()
        ray.get(first.echo.remote(number))
        samples.append(time.perf_counter() - started)
    found["warm"] = statistics.median(samples)
    pair = (first, second)

    def burst():
        ray.get([pair[n % 2].echo.remote(n) for n in range(10_000)])

    found["burst"] = statistics.median(rate(10_000, burst) for _ in range(3))
    many = 10_000 // scale
    pool = ray.util.ActorPool(pair)
    found["map"] = rate(many, lambda: list(pool.map(lambda actor, x: actor.echo.remote(x), range(many))))
    print(json.dumps(found))


if __name__ == "__main__":
    main("--quick" in sys.argv)
