"""Containers, and callers that wait, outlive a killed server: the next one has them, and nothing that runs is run again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stays import Stays
from tests.conftest import Need, assert_nothing_left, wait_for
from tests.e2e.programs import environment, run, write
from tests.long_form import by_turns

PROGRAM = """
    import os
    import time

    import greenroom

    app = greenroom.App("lasting")


    def note(name, x):
        with open(f"MARKS/{name}", "a") as file:
            file.write(f"{x}\\n")


    @app.function(max_containers=1)
    def helper(name):
        note("ran", name)
        while not os.path.exists(f"MARKS/{name}"):
            time.sleep(0.01)
        return name


    @app.cls(max_containers=2, scaledown_window=60, env={"GIVEN": "a value, which is kept sealed"})
    class Worker:
        @greenroom.enter()
        def start(self):
            self.number = 0
            note("entered", os.getpid())

        @greenroom.method()
        def wait_for(self, name):
            note("ran", name)
            while not os.path.exists(f"MARKS/{name}"):
                time.sleep(0.01)
            self.number += 1
            return name, self.number

        @greenroom.method()
        def passes_on(self, name):
            note("ran", name)
            while not os.path.exists(f"MARKS/{name}"):
                time.sleep(0.01)
            note("passed", name)
            return name, helper.remote("help"), helper.spawn("help").get()

        @greenroom.method()
        def large(self, name):
            return self.wait_for.local(name)[0] * 100_000

        @greenroom.method()
        def quick(self, x):
            note("quick", x)
            time.sleep(0.002)
            return x * x

        @greenroom.exit()
        def end(self):
            note("left", os.getpid())
"""
CALLER = """
import sys
import greenroom

Worker = greenroom.Cls.from_name("lasting", "Worker")
helper = greenroom.Function.from_name("lasting", "helper")
exec(sys.argv[1])
"""


WAIT = """
call = greenroom.FunctionCall.from_id("ID")
try:
    call.get(timeout=0.01)
except greenroom.TimeoutError:
    print("waits", flush=True)
print(call.get(timeout=60))
"""


class Caller:
    """A program that calls, and that goes on when the server dies."""

    def __init__(self, text: str, stdin: "int | None" = None) -> None:
        command = [sys.executable, "-c", CALLER, text]
        self.process = subprocess.Popen(
            command, env=environment(), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def output(self) -> str:
        said, error = self.process.communicate(timeout=90)
        assert self.process.returncode == 0, error
        return said.strip()


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.fixture(params=["process", "oci"])
def stays(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stays]:
    if request.param == "oci":
        Need.runtime("crun")
    monkeypatch.setenv("GREENROOM_RECONNECT_WINDOW", "4")
    found = Stays(home, tmp_path, request.param)
    text = PROGRAM.replace("MARKS", str(tmp_path))
    done = run("deploy", str(write(tmp_path, text, "program.py")))
    assert done.returncode == 0, done.stderr
    yield found
    found.end()  # in order: a worker that is left to clear up would find the directory gone


def kill(stays: Stays) -> None:
    stays.process.kill()
    stays.process.wait()


def test_what_runs_goes_on_and_is_not_run_again(stays, home, tmp_path):
    remote = Caller("print(Worker().wait_for.remote('a'))")
    spawned = Caller("print(Worker().wait_for.spawn('b').object_id)").output()
    wait_for(lambda: sorted(lines(tmp_path / "ran")) == ["a", "b"], what="both run")
    waits = Caller(WAIT.replace("ID", spawned))
    assert waits.process.stdout.readline() == "waits\n"
    kill(stays)
    stays.start()
    for name in "ab":
        (tmp_path / name).touch()
    assert remote.output() == "('a', 1)"
    assert waits.output() == "('b', 1)"
    # Its containers are the same, with what they had in memory.
    (tmp_path / "c").touch()
    assert Caller("print(Worker().wait_for.remote('c'))").output() == "('c', 2)"
    assert sorted(lines(tmp_path / "ran")) == ["a", "b", "c"]
    assert len(lines(tmp_path / "entered")) == 2
    assert lines(tmp_path / "left") == []
    records = json.loads(run("container", "list", "--json").stdout)
    assert {record["state"] for record in records} == {"IDLE"}
    assert stays.end() == 0
    assert sorted(lines(tmp_path / "left")) == sorted(lines(tmp_path / "entered"))
    assert_nothing_left(home)


def test_what_ends_while_there_is_no_server_is_told_to_the_next(stays, tmp_path):
    remote = Caller("print(Worker().wait_for.remote('a'))")
    spawned = Caller("print(Worker().wait_for.spawn('b').object_id)").output()
    wait_for(lambda: sorted(lines(tmp_path / "ran")) == ["a", "b"], what="both run")
    kill(stays)
    for name in "ab":
        (tmp_path / name).touch()
    stays.start()
    assert remote.output() == "('a', 1)"
    get = f"print(greenroom.FunctionCall.from_id({spawned!r}).get(timeout=60))"
    assert Caller(get).output() == "('b', 1)"
    assert sorted(lines(tmp_path / "ran")) == ["a", "b"]


FAILS = """
try:
    greenroom.FunctionCall.from_id("ID").get(timeout=60)
except TypeError as error:
    print(error)
"""


def test_what_a_call_raised_is_raised_by_every_server_after(stays, tmp_path):
    spawned = Caller("print(Worker().quick.spawn('x').object_id)").output()
    said = []
    for _ in range(3):
        said.append(Caller(FAILS.replace("ID", spawned)).output())
        kill(stays)
        stays.start()
    assert said == ["can't multiply sequence by non-int of type 'str'"] * 3
    assert lines(tmp_path / "quick") == ["x"]


def test_what_is_called_while_a_server_ends_in_order_is_for_the_next(stays, tmp_path):
    Caller("helper.spawn('help')").output()
    wait_for(lambda: lines(tmp_path / "ran") == ["help"], what="it runs")
    (tmp_path / "before").touch()
    before, while_it_ends = (Caller(f"print(Worker().passes_on.spawn({name!r}).object_id)").output()
                             for name in ("before", "while"))  # fmt: skip
    wait_for(lambda: lines(tmp_path / "passed") == ["before"] and "while" in lines(tmp_path / "ran"), what="both run")
    stays.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "what runs may finish" in stays.said(), what="the server ends")
    (tmp_path / "while").touch()
    calls = ("helper.remote('help')", "helper.spawn('help').get()", "list(helper.map(['help'] * 3))")
    programs = [Caller(f"print({call})") for call in calls]
    refused = Caller("try: helper.spawn_map(['help'])\nexcept greenroom.NotFoundError as error: print(error)")
    assert refused.output() == "this server is shutting down"
    assert stays.process.poll() is None, "it is told at once: its inputs come but once"
    assert stays.process.wait(60) == 0
    (tmp_path / "help").touch()
    stays.start()
    assert [program.output() for program in programs] == ["help", "help", "['help', 'help', 'help']"]
    for name, call_id in (("before", before), ("while", while_it_ends)):
        get = f"print(greenroom.FunctionCall.from_id({call_id!r}).get(timeout=60))"
        assert Caller(get).output() == f"('{name}', 'help', 'help')"


CANCEL = """
call = greenroom.FunctionCall.from_id("ID")
try:
    call.get(timeout=0)
except greenroom.TimeoutError:
    print("waits", flush=True)
input()
call.cancel()
print("cancelled")
"""


def test_what_is_cancelled_while_there_is_no_server_is_cancelled_by_the_next(stays, home, tmp_path):
    spawned = Caller("print(Worker().wait_for.spawn('b').object_id)").output()
    wait_for(lambda: lines(tmp_path / "ran") == ["b"], what="it runs")
    cancels = Caller(CANCEL.replace("ID", spawned), stdin=subprocess.PIPE)
    assert cancels.process.stdout.readline() == "waits\n"
    kill(stays)
    cancels.process.stdin.write("\n")
    cancels.process.stdin.flush()
    stays.start()
    assert cancels.output() == "cancelled"
    kill(stays)  # it stands whatever becomes of the server that has said so
    stays.start()
    get = f"""
try:
    greenroom.FunctionCall.from_id({spawned!r}).get(timeout=60)
except greenroom.InputCancellation:
    print("it was")
"""
    assert Caller(get).output() == "it was"
    assert lines(tmp_path / "ran") == ["b"]


MAPS = {
    "list": "print(sum(Worker().quick.map(range(COUNT))))",
    "iterator": "print(sum(Worker().quick.map(iter(range(COUNT)))))",
    "unordered": "print(sum(Worker().quick.map(range(COUNT), order_outputs=False)))",
    "async": """
import asyncio
async def main(): return sum([value async for value in Worker().quick.map.aio(range(COUNT))])
print(asyncio.run(main()))
""",
}


@pytest.mark.parametrize(("stays", "how"), by_turns([(how,) for how in MAPS]), indirect=["stays"])
def test_a_map_goes_on_through_two_deaths(stays, tmp_path, how):
    count = 3000
    caller = Caller(MAPS[how].replace("COUNT", str(count)))
    for part in (600, 1500):
        wait_for(lambda part=part: len(lines(tmp_path / "quick")) > part, what="some of it has run")
        kill(stays)
        stays.start()
    assert caller.output() == str(sum(x * x for x in range(count)))
    assert sorted(map(int, lines(tmp_path / "quick"))) == list(range(count))  # each once


def test_without_another_server_they_end_in_order_after_the_window(stays, home, tmp_path):
    remote = Caller("print(Worker().wait_for.remote('a'))")
    wait_for(lambda: lines(tmp_path / "ran") == ["a"], what="it runs")
    remote.process.kill()
    remote.process.communicate()
    kill(stays)
    wait_for(lambda: lines(tmp_path / "left") == lines(tmp_path / "entered"), timeout=60, what="its exit hook has run")
    wait_for(lambda: not list((home / "run").iterdir()), timeout=60, what="all of it is cleared up")
    assert_nothing_left(home)


DRAINING = """
    import os
    import time

    import greenroom

    app = greenroom.App("lasting")


    def note(name, x):
        with open(f"MARKS/{name}", "a") as file:
            file.write(f"{x}\\n")


    @app.cls(scaledown_window=1)
    @greenroom.concurrent(max_inputs=2)
    class Worker:
        @greenroom.method()
        def wait_for(self, name):
            note("ran", f"{name}={os.environ['GREENROOM_CONTAINER_ID']}")
            while not os.path.exists(f"MARKS/{name}"):
                time.sleep(0.01)
            return name

        @greenroom.exit()
        def end(self):
            note("left", os.environ["GREENROOM_CONTAINER_ID"])
"""


def test_one_that_is_let_go_while_it_is_busy_goes_on_to_its_end(stays, tmp_path):
    text = DRAINING.replace("MARKS", str(tmp_path))
    assert run("deploy", str(write(tmp_path, text, "program.py"))).returncode == 0
    calls = {name: Caller(f"print(Worker().wait_for.remote({name!r}))") for name in "abcd"}
    wait_for(lambda: len(lines(tmp_path / "ran")) == 4, what="all run")
    where = dict(line.split("=") for line in lines(tmp_path / "ran"))
    assert len(set(where.values())) == 2
    stay = {container: name for name, container in where.items()}  # one of each
    for name in set("abcd") - set(stay.values()):
        (tmp_path / name).touch()
        assert calls[name].output() == name

    def states():
        return {record["id"]: record["state"] for record in json.loads(run("container", "list", "--json").stdout)}

    wait_for(lambda: sorted(states().values()) == ["DRAINING", "RUNNING"], what="one is let go: fewer are enough")
    before = states()
    kill(stays)
    stays.start()
    wait_for(lambda: states() == before, what="each has said what it is at")
    (draining,) = [container for container, state in before.items() if state == "DRAINING"]
    (tmp_path / "e").touch()
    assert Caller("print(Worker().wait_for.remote('e'))").output() == "e"
    assert draining not in lines(tmp_path / "ran")[-1]
    (tmp_path / stay[draining]).touch()
    assert calls[stay[draining]].output() == stay[draining]
    wait_for(lambda: draining in lines(tmp_path / "left"), what="its exit hook has run")
    for name in stay.values():
        (tmp_path / name).touch()
        if name != stay[draining]:
            assert calls[name].output() == name
    assert len(lines(tmp_path / "ran")) == 5


def test_what_runs_in_a_version_that_is_replaced_may_call_its_app(stays, tmp_path):
    (tmp_path / "help").touch()
    passing = Caller("print(Worker().passes_on.spawn('a').object_id)").output()
    wait_for(lambda: lines(tmp_path / "ran") == ["a"], what="it runs")
    deployed = run("deploy", str(tmp_path / "program.py"))
    assert deployed.returncode == 0, deployed.stderr
    (tmp_path / "a").touch()
    get = f"print(greenroom.FunctionCall.from_id({passing!r}).get(timeout=60))"
    assert Caller(get).output() == "('a', 'help', 'help')"
    assert lines(tmp_path / "ran") == ["a", "help", "help"]


def test_what_runs_in_a_version_that_was_replaced_goes_on_under_the_next_server(stays, tmp_path):
    spawned = Caller("print(Worker().large.spawn('a').object_id)").output()
    wait_for(lambda: lines(tmp_path / "ran") == ["a"], what="it runs")
    deployed = run("deploy", str(tmp_path / "program.py"))
    assert deployed.returncode == 0, deployed.stderr
    kill(stays)
    stays.start()
    (tmp_path / "a").touch()
    assert Caller(f"print(len(greenroom.FunctionCall.from_id({spawned!r}).get(timeout=60)))").output() == "100000"
    assert lines(tmp_path / "ran") == ["a"]


def test_one_that_has_not_come_back_when_another_version_is_deployed_goes_on_too(home, tmp_path, monkeypatch):
    monkeypatch.setenv("GREENROOM_RECONNECT_WINDOW", "60")
    stays = Stays(home, tmp_path, "process")
    file = write(tmp_path, PROGRAM.replace("MARKS", str(tmp_path)), "program.py")
    assert run("deploy", str(file)).returncode == 0
    remote = Caller("print(Worker().large.remote('a') == 'a' * 100_000)")
    spawned = Caller("print(Worker().large.spawn('b').object_id)").output()
    wait_for(lambda: sorted(lines(tmp_path / "ran")) == ["a", "b"], what="both run")
    containers = [int(pid) for pid in lines(tmp_path / "entered")]
    for pid in containers:
        os.kill(pid, signal.SIGSTOP)
    kill(stays)
    stays.start()
    deployed = run("deploy", str(file))
    for pid in containers:
        os.kill(pid, signal.SIGCONT)
    assert deployed.returncode == 0, deployed.stderr
    for name in "ab":
        (tmp_path / name).touch()
    assert remote.output() == "True"
    assert (
        Caller(f"print(greenroom.FunctionCall.from_id({spawned!r}).get(timeout=60) == 'b' * 100_000)").output()
        == "True"
    )
    assert sorted(lines(tmp_path / "ran")) == ["a", "b"]
    wait_for(lambda: set(map(str, containers)) <= set(lines(tmp_path / "left")), what="its containers end")
    assert stays.end() == 0


def test_somebody_removes_the_directory_of_a_server_that_was_killed(stays, home, tmp_path):
    remote = Caller("print(Worker().wait_for.remote('a'))")
    wait_for(lambda: lines(tmp_path / "ran") == ["a"], what="it runs")
    remote.process.kill()
    remote.process.communicate()
    kill(stays)
    shutil.rmtree(home / "run")
    assert_nothing_left(home, timeout=90)
    assert lines(tmp_path / "left") == lines(tmp_path / "entered")
