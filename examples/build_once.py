"""A build hook makes a table once; every container then starts with it. Run it twice: the second run builds nothing."""

import json
import time

import greenroom

app = greenroom.App("build-once")

LIMIT = 200_000


def primes_below(limit: int) -> list[int]:
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return [number for number in range(limit) if sieve[number]]


@app.cls()
class Primes:
    @greenroom.build()
    def compute(self):
        print(f"looking for the primes below {LIMIT:,}")
        with open("primes.json", "w") as file:
            json.dump(primes_below(LIMIT), file)

    @greenroom.enter()
    def load(self):
        began = time.perf_counter()
        with open("primes.json") as file:
            self.primes = json.load(file)
        print(f"loaded {len(self.primes):,} primes in {(time.perf_counter() - began) * 1000:.0f} ms")

    @greenroom.method()
    def nth(self, n: int) -> int:
        return self.primes[n - 1]


@app.local_entrypoint()
def main(n: int = 1000):
    print(f"prime number {n} is {Primes().nth.remote(n)}")
