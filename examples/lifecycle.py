"""A class whose container starts once, serves several calls, and cleans up: the three parts of a container's life.

greenroom run examples/lifecycle.py
"""

import greenroom

app = greenroom.App("lifecycle")


@app.cls()
class Counter:
    @greenroom.enter()
    def start(self) -> None:
        """Runs once, before the first call: the place for what is slow to load."""
        self.calls = 0
        print("enter: a container is up")

    @greenroom.method()
    def add(self, x: int, y: int) -> int:
        self.calls += 1
        print(f"call {self.calls}: {x} + {y}")
        return x + y

    @greenroom.exit()
    def stop(self) -> None:
        """Runs once, however the container ends in order: the place to close and to save."""
        print(f"exit: served {self.calls} calls")


@app.local_entrypoint()
def main(n: int = 3) -> None:
    counter = Counter()
    for i in range(n):
        print(f"result: {counter.add.remote(i, 10)}")
