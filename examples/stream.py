"""A generator that runs in a container; its values arrive as they are yielded.

greenroom run examples/stream.py
"""

from collections.abc import Iterator

import greenroom

app = greenroom.App("stream")


@app.function()
def primes(limit: int) -> Iterator[int]:
    for n in range(2, limit):
        if all(n % d for d in range(2, int(n**0.5) + 1)):
            yield n


@app.local_entrypoint()
def main(limit: int = 30) -> None:
    for prime in primes.remote_gen(limit):
        print(prime, end=" ", flush=True)
    print()
