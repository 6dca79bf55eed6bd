"""A server's worth of callers in a process of its own, each waiting for its commit before the next; for tests to kill.

It writes a line for each thing it is told: ``call ID``, ``output ID`` or ``refused ID WHY`` of a caller, ``said TEXT`` of
the store. Run with the path of the database and a name that no other run has.
"""

import asyncio
import os
import sys
from pathlib import Path

from greenroom.server.store import calls as c
from greenroom.server.store.database import Database

CALLERS = 16
INPUTS = [b"small", b"l" * 20_000]


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


class Writer:
    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.loop = asyncio.get_running_loop()
        self.database = Database(path, self.loop, lambda text: say(f"said {text}"))

    def call(self, caller: int, number: int = 0) -> None:
        """The next call of a caller: first it with its inputs, then an output of one of them."""
        call_id = f"fc-{self.name}-{caller}-{number}"
        row = c.CallRow(call_id, "ap-1", "fu-1", "", "", "spawn", len(INPUTS), 1.0, idempotency=call_id)

        def add(connection):
            assert c.add_call(connection, row) is None
            c.add_inputs(connection, call_id, 0, INPUTS)

        def added(done):
            if self.told("call", call_id, done):
                output = c.OutputRow(call_id, 1, "ok", "", INPUTS[1])
                self.database.write(lambda connection: c.put_outputs(connection, [output]), ended)
            else:
                self.again(caller, number + 1)

        def ended(done):
            if self.told("output", call_id, done):
                self.call(caller, number + 1)
            else:
                self.again(caller, number + 1)

        self.database.write(add, added)

    def told(self, what, call_id, done) -> bool:
        if (error := done.exception()) is not None:
            say(f"refused {call_id} {what} {type(error).__name__}: {error}")
            return False
        say(f"{what} {call_id}")
        return True

    def again(self, caller: int, number: int) -> None:
        """After a refusal, not in a tight circle."""
        self.loop.call_later(0.02, self.call, caller, number)


async def main() -> None:
    writer = Writer(Path(sys.argv[1]), sys.argv[2])
    for caller in range(CALLERS):
        writer.call(caller)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
