"""Ray Serve's side of the same: two replicas of the JSON route."""

import json
import statistics
import sys

import ray
from fastapi import FastAPI
from ray import serve

from benchmarks.web import requests_a_second

PORT = 18473
application = FastAPI()


@serve.deployment(num_replicas=2, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
@serve.ingress(application)
class Api:
    @application.get("/json")
    async def small(self):
        return {"id": 7, "name": "tea", "price": 3.5}


def main(quick):
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Api.bind(), route_prefix="/")
    url = f"http://127.0.0.1:{PORT}/json"
    requests_a_second(url, 2)
    rates = [requests_a_second(url, 1 if quick else 4) for _ in range(1 if quick else 3)]
    serve.shutdown()
    print(json.dumps({"rate": statistics.median(rates)}))


if __name__ == "__main__":
    main("--quick" in sys.argv)
