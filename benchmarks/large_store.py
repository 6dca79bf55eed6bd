"""A state directory with many deployed apps and many finished calls, filled by the store's own functions.

`python -m benchmarks.large_store HOME APP`: each of the apps is a copy of the deployed APP, without containers to keep.
"""

import sys
import time
from pathlib import Path

from greenroom.model.ids import new_call_id, new_id
from greenroom.server.store import calls as c
from greenroom.server.store import versions as v
from greenroom.server.store.file import NAME, hold, open_database, release

APPS, CALLS = 1000, 100_000


def fill(home, template, apps=APPS, calls=CALLS):
    """Add so many; no server may use the directory meanwhile."""
    path = home / NAME
    lock = hold(path)
    connection = open_database(path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        kept = v.current(connection, template)
        functions, now = v.functions_of(connection, kept.app_id), time.time()
        for number in range(apps):
            app_id = new_id("ap")
            rows = [
                v.FunctionRow(
                    f"{app_id}/{row.spec['name']}",
                    {**row.spec, "app_id": app_id, "function_id": f"{app_id}/{row.spec['name']}", "min_containers": 0},
                    row.definition,
                )
                for row in functions
            ]
            v.add_version(connection, f"app-{number:04}", app_id, now, rows, [], v.VersionState.CURRENT)
        function = f"deployed:{template}/{functions[0].spec['name']}"
        for _ in range(calls):
            call_id = new_call_id()
            c.add_call(connection, c.CallRow(call_id, kept.app_id, function, "", "", "spawn", 1, now))
            c.add_inputs(connection, call_id, 0, [b"x" * 100])
            c.put_outputs(connection, [c.OutputRow(call_id, 0, "ok", "", b"x" * 100)])
            c.finish(connection, call_id, now)
        connection.execute("COMMIT")
    finally:
        connection.close()
        release(lock)


if __name__ == "__main__":
    fill(Path(sys.argv[1]), sys.argv[2])
