"""The one test with the real thirty seconds."""

import time

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from tests.conftest import Need


@pytest.mark.parametrize("sandbox", ["process", "oci"])
def test_an_exit_hook_of_sixty_seconds_is_killed_after_thirty(sandbox):
    if sandbox == "oci":
        Need.runtime("crun")
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

    with Cluster(settings=Settings(sandbox=sandbox)) as cluster:
        with app.run():
            assert Slow().call.remote() == 1
        (record,) = cluster.ended()
    assert record["reason"] == "its exit phase ran past its 30 s and was killed"
    steps = [event["name"] for event in record["events"] if event["event"] == "HOOK"]
    assert "exit Slow.ends" in steps
    assert "exit Slow.never_ends" not in steps
    times = {event["state"]: event["at"] for event in record["events"]}
    assert 29 < times["FAILED"] - times["EXITING"] < 31
