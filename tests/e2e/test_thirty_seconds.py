"""The one test with the real thirty seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import Need
from tests.e2e.programs import write

PROGRAM = """
    import json, sys, time
    import greenroom
    from greenroom.model.settings import Settings
    from greenroom.testing import Cluster

    app = greenroom.App("slow")

    @app.cls(serialized=True)
    class Slow:
        @greenroom.method()
        def call(self):
            return 1

        @greenroom.exit()
        def never_ends(self):
            time.sleep(60)

        @greenroom.exit()
        def ends(self):  # exit hooks run in reverse: this one is first
            print("ended")

    with Cluster(settings=Settings(sandbox=sys.argv[1])) as cluster:
        with app.run():
            assert Slow().call.remote() == 1
        (record,) = cluster.ended()
    print(json.dumps(record))
"""


def test_an_exit_hook_of_sixty_seconds_is_killed_after_thirty(tmp_path: Path) -> None:
    """In both sandboxes at once, each in a program of its own: nobody has to wait twice."""
    sandboxes = ["process"]
    if os.geteuid() == 0:
        Need.runtime("crun")
        sandboxes.append("oci")
    program = write(tmp_path, PROGRAM)
    running = [
        subprocess.Popen([sys.executable, program, sandbox], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for sandbox in sandboxes
    ]
    for process in running:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        record = json.loads(out)
        assert record["reason"] == "its exit phase ran past its 30 s and was killed"
        steps = [event["name"] for event in record["events"] if event["event"] == "HOOK"]
        assert "exit Slow.ends" in steps
        assert "exit Slow.never_ends" not in steps
        times = {event["state"]: event["at"] for event in record["events"]}
        assert 29 < times["FAILED"] - times["EXITING"] < 31
