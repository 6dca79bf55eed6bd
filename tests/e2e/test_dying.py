"""Containers that die in the same moments as their server, and its worker perhaps: what they had begun has failed an attempt.

What they had finished is told, and what they had not begun is run, at no cost.
"""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.wire.lasting import read_lasting
from tests.cli.stays import Stays
from tests.conftest import Need, assert_nothing_left, wait_for
from tests.e2e.programs import run, write
from tests.e2e.test_faults import pid_of, pids_of
from tests.e2e.test_returning import Caller, kill, lines

PROGRAM = """
    import os
    import time

    import greenroom

    app = greenroom.App("dying")


    def note(name, x):
        with open(f"MARKS/{name}", "a") as file:
            file.write(f"{x}\\n")


    def until(name):
        note("ran", name)
        while not os.path.exists(f"MARKS/{name}"):
            time.sleep(0.01)
        return name


    @app.function(max_containers=1)
    def once(name):
        return until(name)


    @app.function(max_containers=1, retries=greenroom.Retries(max_retries=1, initial_delay=0.0))
    def twice(name):
        return until(name)


    @app.function(max_containers=1)
    @greenroom.concurrent(max_inputs=3)
    def beside(name):
        return until(name)


    @app.function()
    def passes_on(name):
        return once.remote(name)


    @app.function()
    def passes_on_later(name):
        return once.remote(until(name)[:1])


    @app.function(max_containers=1)
    def lies(call):
        import gc

        from greenroom.wire.lasting import Lasting

        (ledger,) = [found for found in gc.get_objects() if isinstance(found, Lasting)]
        items = [[50, call, 0, "", "spawn"], [51, "fc-none", 2**62, "", "map"], [52, "fc-" + "x" * 500, 0, "no", "odd"]]
        for number, item in enumerate(items[: 2 if os.path.exists("MARKS/again") else 3]):
            ledger.given([item], {}, {})
            ledger.keep(item[0], b"no pickle", "ok" if number else "error")
        ledger.begin(60)
        return until("lies")


    @app.function(max_containers=1)
    @greenroom.batched(max_batch_size=2, wait_ms=60_000)
    def together(names):
        note("ran", ",".join(sorted(names)))
        while True:
            time.sleep(0.01)
"""
CALL = """
function = greenroom.Function.from_name("dying", "NAME")
try:
    print(function.remote("x"))
except greenroom.ContainerCrashed as error:
    print("crashed:", error)
"""
SPAWN = 'print(greenroom.Function.from_name("dying", "NAME").spawn("x").object_id)'
GET = """
try:
    print(greenroom.FunctionCall.from_id("ID").get(timeout=60))
except greenroom.ContainerCrashed as error:
    print("crashed:", error)
"""
DEATHS = [("agent",), ("supervisor",), ("worker", "agent"), ("worker", "supervisor"), ("agent", "worker")]


class World:
    """A server that stays, with that app, and callers of it."""

    def __init__(self, home: Path, directory: Path, sandbox: str) -> None:
        self.home, self.directory = home, directory
        self.stays = Stays(home, directory, sandbox)
        done = run("deploy", str(write(directory, PROGRAM.replace("MARKS", str(directory)), "program.py")))
        assert done.returncode == 0, done.stderr

    def call(self, function: str, x: str) -> Caller:
        return Caller(CALL.replace("NAME", function).replace('"x"', repr(x)))

    def spawn(self, function: str, x: str) -> str:
        return Caller(SPAWN.replace("NAME", function).replace('"x"', repr(x))).output()

    def get(self, call: str) -> str:
        return Caller(GET.replace("ID", call)).output()

    def ran(self) -> list[str]:
        return lines(self.directory / "ran")

    def runs(self, *names: str) -> None:
        wait_for(lambda: sorted(self.ran()) == sorted(names), what=f"{names} run")

    def let(self, name: str) -> None:
        (self.directory / name).touch()

    def die(self, *others: str, before: tuple[str, ...] = ()) -> None:
        """The server, and then these: SIGKILL."""
        for victim in before:
            os.kill(pid_of(self.home, victim), signal.SIGKILL)
        kill(self.stays)
        for victim in others:
            os.kill(pid_of(self.home, victim), signal.SIGKILL)

    def ledgers(self) -> Iterator[Path]:
        return (self.home / "run" / "standing" / "containers").glob("*/ledger")

    def finished(self) -> int:
        """Results that no server has, or has said to be safe."""
        found = 0
        for path in self.ledgers():
            fd = os.open(path, os.O_RDONLY)
            found += len(read_lasting(fd).results)
            os.close(fd)
        return found

    def settled(self) -> None:
        """Nothing that followed from a container's end is waited for any more."""
        ended = self.home / "run" / "standing" / "ended"
        wait_for(lambda: not ended.exists() or not list(ended.iterdir()), what="what they left is forgotten")


@pytest.fixture(params=["process", "oci"])
def world(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    if request.param == "oci":
        Need.runtime("crun")
    monkeypatch.setenv("GREENROOM_RECONNECT_WINDOW", "6")
    found = World(home, tmp_path, request.param)
    yield found
    found.settled()
    assert found.stays.end() == 0
    assert_nothing_left(home)


@pytest.mark.parametrize("others", DEATHS, ids="+".join)
def test_without_retries_its_caller_is_told(world, others):
    remote = world.call("once", "a")
    world.runs("a")
    behind, last = world.spawn("once", "b"), world.spawn("once", "c")
    world.die(*others)
    world.let("b")
    world.let("c")
    world.stays.start()
    said = remote.output()
    assert said.startswith("crashed: the container of once died: ")
    assert "killed" in said
    assert world.get(behind) == "b"  # it had not begun
    assert world.get(last) == "c"
    assert sorted(world.ran()) == ["a", "b", "c"]


@pytest.mark.parametrize("others", DEATHS, ids="+".join)
def test_a_spawned_call_too(world, others):
    spawned = world.spawn("once", "a")
    world.runs("a")
    world.die(*others)
    world.stays.start()
    assert world.get(spawned).startswith("crashed: the container of once died: ")
    assert world.ran() == ["a"]


@pytest.mark.parametrize("others", [("agent",), ("worker", "supervisor")], ids="+".join)
def test_with_retries_it_is_the_next_attempt(world, others):
    remote, spawned = world.call("twice", "a"), None
    world.runs("a")
    world.die(*others)
    world.stays.start()
    world.runs("a", "a")
    world.let("a")
    assert remote.output() == "a"
    spawned = world.spawn("twice", "b")
    world.runs("a", "a", "b")
    world.die(*others)
    world.stays.start()
    world.runs("a", "a", "b", "b")
    # That it was tried once is kept: another server's death gives it no third run.
    world.settled()
    world.die(*others)
    world.stays.start()
    assert world.get(spawned).startswith("crashed: the container of twice died: ")
    assert sorted(world.ran()) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("others", [("agent",), ("worker", "supervisor")], ids="+".join)
def test_of_several_that_ran_at_once_each_is_told_and_one_that_waited_runs(world, others):
    calls = {name: world.call("beside", name) for name in "abc"}
    world.runs(*"abc")
    waits = world.spawn("beside", "d")
    world.die(*others)
    world.let("d")
    world.stays.start()
    for call in calls.values():
        assert call.output().startswith("crashed: ")
    assert world.get(waits) == "d"
    assert sorted(world.ran()) == ["a", "b", "c", "d"]


def test_a_batch_fails_as_a_whole(world):
    calls = [world.call("together", name) for name in "ab"]
    world.runs("a,b")
    world.die("worker", "agent")
    world.stays.start()
    for call in calls:
        assert call.output().startswith("crashed: ")
    assert world.ran() == ["a,b"]


@pytest.mark.parametrize("others", [("agent",), ("worker", "agent"), ("worker", "supervisor")], ids="+".join)
def test_what_it_had_finished_is_told_and_not_run_again(world, others):
    remote = world.call("beside", "a")
    spawned = world.spawn("beside", "b")
    third = world.call("beside", "c")
    world.runs(*"abc")
    kill(world.stays)
    world.let("a")
    world.let("b")
    wait_for(lambda: world.finished() == 2, what="both have ended")
    for victim in others:
        os.kill(pid_of(world.home, victim), signal.SIGKILL)
    world.stays.start()
    assert remote.output() == "a"
    assert world.get(spawned) == "b"
    assert third.output().startswith("crashed: ")
    assert sorted(world.ran()) == ["a", "b", "c"]


def test_what_user_code_has_written_there_of_others_counts_for_nothing(world):
    spawned = world.spawn("once", "a")
    world.runs("a")
    for turn in (1, 2):
        liar = world.call("lies", spawned)
        world.runs("a", *["lies"] * turn)
        (pid,) = [
            record["pid"]
            for record in json.loads(run("container", "list", "--json").stdout)
            if record["function"] == "lies"
        ]
        kill(world.stays)
        os.kill(pid, signal.SIGKILL)
        world.stays.start()
        if turn == 2:  # all that it says could be so, but for whose it is: so its own input is known to have begun
            assert liar.output().startswith("crashed: ")
        else:
            liar.process.kill()
            liar.process.communicate()
        world.let("again")
    world.let("a")
    assert world.get(spawned) == "a"
    assert world.ran().count("a") == 1


@pytest.mark.parametrize("before", [("agent",), ("supervisor",), ("agent", "worker")], ids="+".join)
def test_the_container_first_and_then_its_server(world, before):
    """The server may have heard of it, or not, and have kept what followed, or not."""
    for turn in "abc":
        spawned = world.spawn("once", turn)
        wait_for(lambda turn=turn: world.ran().count(turn) == 1, what="it runs")
        world.die(before=before)
        world.stays.start()
        assert world.get(spawned).startswith("crashed: the container of once died: ")
    assert world.ran() == ["a", "b", "c"]


def test_two_servers_die_before_the_end_of_a_container_is_safe(world):
    """What the first one's worker had set aside is told to the third."""
    spawned = world.spawn("once", "a")
    world.runs("a")
    world.die("agent")
    for _ in range(3):
        world.stays.start()
        kill(world.stays)
    world.stays.start()
    assert world.get(spawned).startswith("crashed: ")
    assert world.ran() == ["a"]


def test_the_containers_of_a_version_that_is_replaced_finish_under_the_next_server(world):
    remote = world.call("once", "a")
    spawned = world.spawn("beside", "b")
    world.runs("a", "b")
    text = PROGRAM.replace("MARKS", str(world.directory)).replace("return name", 'return name + " of 2"')
    assert run("deploy", str(write(world.directory, text, "program.py"))).returncode == 0
    kill(world.stays)
    world.stays.start()
    records = lambda: json.loads(run("container", "list", "--json").stdout)  # noqa: E731
    wait_for(lambda: sum(record["state"] == "DRAINING" for record in records()) == 2, what="both are back")
    world.let("c")
    assert world.call("once", "c").output() == "c of 2"
    world.let("a")
    world.let("b")
    assert remote.output() == "a"
    assert world.get(spawned) == "b"
    assert sorted(world.ran()) == ["a", "b", "c"]
    states = lambda: [record["state"] for record in json.loads(run("app", "list", "--json").stdout)]  # noqa: E731
    wait_for(lambda: states() == ["deployed"], what="the version before has ended")


def test_a_version_that_waits_for_the_one_before_waits_under_the_next_server_too(world):
    remote = world.call("once", "a")
    world.runs("a")
    text = PROGRAM.replace("MARKS", str(world.directory)).replace("return name", 'return name + " of 2"')
    file = write(world.directory, text, "program.py")
    assert run("deploy", "--strategy", "recreate", str(file)).returncode == 0
    world.let("c")
    spawned = world.spawn("once", "c")
    states = lambda: [r["state"] for r in json.loads(run("container", "list", "--json").stdout)]  # noqa: E731
    for _ in range(2):
        kill(world.stays)
        world.stays.start()
        wait_for(lambda: states() == ["DRAINING"], what="it is back, and none is beside it")
    assert world.ran() == ["a"]
    world.let("a")
    assert remote.output() == "a"
    assert world.get(spawned) == "c of 2"
    assert world.ran() == ["a", "c"]


def test_one_of_a_version_that_is_replaced_dies_with_its_server(world):
    remote = world.call("once", "a")
    world.runs("a")
    text = PROGRAM.replace("MARKS", str(world.directory)).replace("return name", 'return name + " of 2"')
    assert run("deploy", str(write(world.directory, text, "program.py"))).returncode == 0
    (draining,) = [
        record["pid"]
        for record in json.loads(run("container", "list", "--json").stdout)
        if record["state"] == "DRAINING"
    ]
    kill(world.stays)
    os.kill(draining, signal.SIGKILL)
    world.stays.start()
    assert remote.output().startswith("crashed: ")
    assert world.ran() == ["a"]
    assert pids_of(world.home, "server")


@pytest.mark.parametrize("dies", [False, True])
def test_what_a_version_calls_while_it_finishes_runs_in_the_one_that_answers(world, dies):
    before, later = world.call("passes_on", "a"), world.call("passes_on_later", "b")
    world.runs("a", "b")
    text = PROGRAM.replace("MARKS", str(world.directory)).replace("return name", 'return name + " of 2"')
    assert run("deploy", str(write(world.directory, text, "program.py"))).returncode == 0
    if dies:
        kill(world.stays)
        world.stays.start()
    states = lambda: [r["state"] for r in json.loads(run("container", "list", "--json").stdout)]  # noqa: E731
    wait_for(lambda: states().count("DRAINING") == 3, what="they finish what they have begun")
    world.let("b")
    assert later.output() == "b of 2"
    world.let("a")
    assert before.output() == "a"
    assert sorted(world.ran()) == ["a", "b", "b"]


CANCELLED = """
try:
    print(CALL)
except greenroom.InputCancellation as error:
    print(error)
"""
COLLECT = CANCELLED.replace("CALL", 'greenroom.FunctionCall.from_id("ID").get(timeout=60)')


def deploy_without(world: World, *functions: str) -> None:
    text = PROGRAM.replace("MARKS", str(world.directory))
    for function in functions:
        text = text.replace(f"def {function}(", f"def other_{function}(")
    assert run("deploy", str(write(world.directory, text, "program.py"))).returncode == 0


def test_what_the_version_after_lacks_finishes_under_the_next_server(world):
    remote, beside = world.call("once", "a"), world.call("beside", "b")
    world.runs("a", "b")
    spawned, waits = world.spawn("beside", "c"), world.spawn("once", "d")
    world.runs("a", "b", "c")
    deploy_without(world, "once", "beside")
    for _ in range(2):
        kill(world.stays)
        world.stays.start()
    assert Caller(COLLECT.replace("ID", waits)).output() == "the call was cancelled: version 2 was deployed"
    for name in "abc":
        world.let(name)
    assert remote.output() == "a"
    assert beside.output() == "b"
    assert Caller(COLLECT.replace("ID", spawned)).output() == "c"
    assert sorted(world.ran()) == ["a", "b", "c"]
    states = lambda: [record["state"] for record in json.loads(run("app", "list", "--json").stdout)]  # noqa: E731
    wait_for(lambda: states() == ["deployed"], what="the version before has ended")


def test_what_the_version_after_lacks_is_not_tried_again_when_its_container_dies(world):
    remote = Caller(CANCELLED.replace("CALL", 'greenroom.Function.from_name("dying", "twice").remote("a")'))
    world.runs("a")
    spawned = world.spawn("twice", "b")
    deploy_without(world, "twice")
    (draining,) = [record["pid"] for record in json.loads(run("container", "list", "--json").stdout)]
    kill(world.stays)
    os.kill(draining, signal.SIGKILL)
    world.stays.start()
    for said in remote.output(), Caller(COLLECT.replace("ID", spawned)).output():
        assert said == "the call was cancelled: version 2 was deployed"
    assert world.ran() == ["a"]
    assert [record["state"] for record in json.loads(run("app", "list", "--json").stdout)] == ["deployed"]
