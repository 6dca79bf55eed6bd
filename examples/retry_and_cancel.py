"""What fails is tried again; what takes too long is cancelled, and its container goes on.

greenroom run examples/retry_and_cancel.py
"""

import time

import greenroom

app = greenroom.App("retry-and-cancel")


@app.cls(max_containers=1, retries=greenroom.Retries(max_retries=3, initial_delay=0.1))
class Unreliable:
    @greenroom.enter()
    def start(self) -> None:
        self.attempts = 0

    @greenroom.method()
    def fetch(self) -> str:
        self.attempts += 1
        print(f"attempt {self.attempts}")
        if self.attempts < 3:
            raise OSError("nobody answers")
        return "fetched"


@app.function()
def work_for_ever() -> None:
    try:
        while True:
            time.sleep(1)
    except greenroom.InputCancellation:
        print("cancelled: cleaning up")
        raise


@app.local_entrypoint()
def main() -> None:
    print(Unreliable().fetch.remote())
    call = work_for_ever.spawn()
    try:
        call.get(timeout=0.5)
    except TimeoutError:
        call.cancel()
    try:
        call.get()
    except greenroom.InputCancellation as error:
        print(f"no result: {error}")
