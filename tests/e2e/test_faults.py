"""After every end, orderly or not: exit hooks have run where their container was not the victim, and nothing is left."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from greenroom.server.machine import this_machine
from tests.conftest import Need, assert_nothing_left, groups_of, wait_for
from tests.e2e.programs import run, start, write
from tests.long_form import LONG, by_turns

PROGRAM = """
    import os, pathlib, time
    import greenroom

    app = greenroom.App("faults")
    marks = os.environ.get("MARKS", "")
    env = {"MARKS": marks, "PYTHONPATH": marks + "/hold"}
    memory = int(os.environ.get("MEMORY", "16"))

    @app.function(env=env, memory=memory)
    def take_memory():
        pathlib.Path(marks, "taken-").touch()
        time.sleep(60)

    @app.cls(env=env, memory=memory, max_containers=1)
    class Model:
        @greenroom.enter()
        def open(self):
            self.mark("opening")

        @greenroom.enter()
        def load(self):
            self.mark("entering")  # from here on, exit hooks are owed
            time.sleep(float(pathlib.Path(os.environ["MARKS"], "enter").read_text()))
            self.mark("entered")

        def mark(self, name):
            pathlib.Path(os.environ["MARKS"], f"{name}-{os.environ['GREENROOM_CONTAINER_ID']}").touch()

        @greenroom.method()
        def work(self, seconds):
            self.mark("working")
            try:
                time.sleep(seconds)
            except greenroom.InputCancellation:
                self.mark("draining")
                time.sleep(0.3)
                raise
            return 1

        @greenroom.exit()
        def close(self):
            print("exit hook prints")
            self.mark("exiting")
            time.sleep(0.3)
            print("exit hook prints again")
            self.mark("exited")

    @app.local_entrypoint()
    def main(seconds: float = 60.0):
        if memory > 16:
            take_memory.spawn()
            while not pathlib.Path(marks, "taken-").exists():
                time.sleep(0.01)
        print("worked", Model().work.remote(seconds))
        time.sleep(60)
"""

HELD_PYTHON = """\
import os
marks = os.environ["MARKS"]
open(f"{marks}/starting-{os.environ['GREENROOM_CONTAINER_ID']}", "w").close()
open(f"{marks}/never").close()
"""
"""As ``sitecustomize`` Python imports it before anything else of a container's, as ``json`` the agent does; the pipe has no
writer, so that it opens for nobody."""
HELD_RUNTIME = """\
#!/bin/sh
case " $* " in
*" run "*)
    echo $$ > "{marks}/new"
    mv "{marks}/new" "{marks}/runtime-"
    read -r line < "{marks}/never"
esac
exec crun "$@"
"""


def pids_of(home: Path, what: str) -> list[int]:
    """The server, the worker, or the container's supervisor, which is one command with its child, the agent."""
    module = f"greenroom.{'agent' if what == 'supervisor' else what}"

    parents = {}
    files = [file for group in groups_of(home) for file in group.glob("*/cgroup.procs")]
    contained = {int(word) for file in files for word in read(file).split()}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        ours = any(str(home).encode() in word for word in words) or int(entry.name) in contained
        if module.encode() in words and ours:
            parents[int(entry.name)] = parent
    return [pid for pid, parent in parents.items() if (parent in parents) == (what == "agent")]


def pid_of(home: Path, what: str) -> int:
    """The first of them, once there is one."""
    return wait_for(lambda: pids_of(home, what), what=f"a greenroom {what} process")[0]


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""  # it has just been removed


class Trial:
    def __init__(
        self,
        home: Path,
        directory: Path,
        sandbox: str = "process",
        *,
        enter: float = 0.0,
        seconds: float = 60.0,
        held: str = "",
    ) -> None:
        """``held``: what is never over: the ``runtime``'s start of a container, the ``interpreter``'s in it, or the ``agent``'s
        after that; or the wait for ``memory``, which another container has taken."""
        self.home = home
        self.sandbox = sandbox
        self.marks = directory / "marks"
        self.marks.mkdir()
        self.marks.chmod(0o777)
        (self.marks / "enter").write_text(str(enter))
        (self.marks / "hold").mkdir()
        extra = {}
        if held == "memory":
            extra["MEMORY"] = str(int(this_machine().memory * 0.6))
        elif held:
            extra["GREENROOM_EXIT_GRACE"] = "1"  # no exit hook will be owed; it is waited for all the same
            os.mkfifo(self.marks / "never")
            (self.marks / "never").chmod(0o666)
        if held in ("interpreter", "agent"):
            name = "sitecustomize.py" if held == "interpreter" else "json.py"
            (self.marks / "hold" / name).write_text(HELD_PYTHON)
        elif held == "runtime":
            extra["GREENROOM_RUNTIME"] = str(directory / "crun")
            (directory / "crun").write_text(HELD_RUNTIME.format(marks=self.marks))
            (directory / "crun").chmod(0o755)
        program = write(directory, PROGRAM)
        self.process = start("run", str(program), "--seconds", str(seconds), MARKS=str(self.marks), **extra,
                             GREENROOM_SANDBOX=sandbox, GREENROOM_SHARED_DIRS=str(self.marks))  # fmt: skip

    def marked(self, name: str) -> list[str]:
        return sorted(path.name.partition("-")[2] for path in self.marks.glob(f"{name}-*"))

    def wait_marked(self, name: str) -> str:
        return wait_for(lambda: self.marked(name), what=f"{name} is marked")[0]

    def pid_of(self, what: str) -> int:
        return pid_of(self.home, what)

    def find(self, what: str) -> int:
        if what == "runtime":
            return int((self.marks / "runtime-").read_text())
        return self.process.pid if what == "client" else self.pid_of(what)

    def kill(self, what: str) -> None:
        os.kill(self.find(what), signal.SIGKILL)

    def is_the_container(self, what: str) -> bool:
        """Whether the container itself dies with that: process 1 of a real one takes all of it along."""
        return what == "agent" or (what == "supervisor" and self.sandbox == "oci")

    def end(self, *, interrupt: bool = True) -> None:
        """The client ends by itself, or by our Ctrl-C; then nothing may be left."""
        if interrupt and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.out, self.err = self.process.communicate(timeout=60)
        assert_nothing_left(self.home)

    def owing(self) -> set[str]:
        """Containers of which a hook had completed, and whose exit hooks have not."""
        return set(self.marked("entering")) - set(self.marked("exited"))


@pytest.fixture(params=["process", "oci"])
def sandbox(request):
    if request.param == "oci":
        Need.runtime("crun")
    return request.param


@pytest.fixture
def trial(home, tmp_path, sandbox):
    made: list[Trial] = []

    def make(**options) -> Trial:
        made.append(Trial(home, tmp_path, sandbox, **options))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


@pytest.mark.parametrize(
    ("sandbox", "phase", "victim"),
    by_turns(
        [
            (phase, victim)
            for phase in ("entering", "working", "idle", "draining", "exiting")
            for victim in ("client", "server", "worker", "supervisor", "agent")
        ],
        in_both=lambda phase, victim: phase == "working",
    ),
    indirect=["sandbox"],
)
def test_sigkill(trial, home, victim, phase):
    one = trial(enter=60.0 if phase == "entering" else 0.0, seconds=0.0 if phase == "idle" else 60.0)
    stopping = phase in ("draining", "exiting")
    container = one.wait_marked("working" if stopping or phase == "idle" else phase)
    pid = one.find(victim)  # now: its end is a matter of moments once it has begun
    if phase == "idle":
        wait_for(lambda: "IDLE" in run("container", "list").stdout, what="idle")
    elif stopping:
        one.process.send_signal(signal.SIGINT)
        one.wait_marked(phase)
    os.kill(pid, signal.SIGKILL)
    spared = {container} if one.is_the_container(victim) else set()
    if victim in ("worker", "supervisor") and not spared:
        # The run goes on, and its container has been told to end.
        wait_for(lambda: container in one.marked("exited"), what="exit hooks run")
    # A second Ctrl-C would kill.
    one.end(interrupt=not stopping)
    assert one.owing() <= spared, f"exit hooks have run of {one.marked('exited')} alone"
    next_run = run("container", "list")
    assert next_run.returncode == 0
    assert "no containers" in next_run.stdout


def states() -> str:
    return run("container", "list").stdout


@pytest.mark.parametrize("victim", ["client", "server", "worker"])
def test_sigkill_while_pending(trial, home, victim):
    """Its container waits for memory that another one has."""
    one = trial(held="memory")
    one.wait_marked("taken")
    wait_for(lambda: "PENDING" in states(), what="pending")
    assert "RUNNING" in states()
    one.kill(victim)
    if victim == "worker":
        one.wait_marked("working")  # the other one was ended: there is room
    one.end()
    assert not one.owing()
    assert (victim == "worker") == bool(one.marked("entering"))
    assert "no containers" in states()


@pytest.mark.parametrize(
    ("sandbox", "held", "victim"),
    by_turns(
        [*(("interpreter", victim) for victim in ("client", "server", "worker", "supervisor")),
         *(("agent", victim) for victim in ("worker", "supervisor", "agent"))],
        in_both=lambda held, victim: victim == "supervisor",
    ),
    indirect=["sandbox"],
)  # fmt: skip
def test_sigkill_while_a_container_starts(trial, home, held, victim):
    one = trial(held=held)
    one.wait_marked("starting")
    wait_for(lambda: "STARTING" in states(), what="starting")
    one.kill(victim)
    one.end()
    assert not one.marked("entering")
    assert "no containers" in states()


@pytest.mark.parametrize("victim", ["client", "server", "worker", "runtime"])
def test_sigkill_while_the_runtime_starts(home, tmp_path, victim):
    Need.runtime("crun")
    one = Trial(home, tmp_path, "oci", held="runtime")
    try:
        one.wait_marked("runtime")
        wait_for(lambda: "STARTING" in states(), what="starting")
        one.kill(victim)
        one.end()
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()
    assert not one.marked("entering")
    assert "no containers" in states()


def test_next_run_is_clean_after_everything_was_killed(trial, home, tmp_path):
    one = trial()
    one.wait_marked("working")
    for what in ("worker", "server"):
        os.kill(one.pid_of(what), signal.SIGKILL)
    one.process.kill()
    one.process.communicate()
    wait_for(lambda: one.marked("exited"), what="exit hooks run")
    program = write(tmp_path, HELLO, "hello.py")
    result = run("run", str(program))
    assert result.returncode == 0, result.stderr
    assert_nothing_left(home)


HELLO = """
    import greenroom
    app = greenroom.App("hello")

    @app.function()
    def f(x):
        return x

    @app.local_entrypoint()
    def main():
        print("got", f.remote(1))
"""


def test_ctrl_c_shows_exit_hooks_and_ends_with_130(trial):
    one = trial()
    one.wait_marked("working")
    one.process.send_signal(signal.SIGINT)
    out, _ = one.process.communicate(timeout=60)
    assert one.process.returncode == 130
    assert "exit hook prints\n" in out
    assert "exit hook prints again\n" in out
    assert_nothing_left(one.home)


def test_second_ctrl_c_kills(trial, tmp_path):
    one = trial()
    container = one.wait_marked("working")
    one.process.send_signal(signal.SIGINT)
    wait_for(lambda: one.marked("exiting"), what="the exit hook runs")
    one.process.send_signal(signal.SIGINT)
    one.process.communicate(timeout=60)
    assert one.process.returncode == 130
    assert container not in one.marked("exited")
    assert_nothing_left(one.home)


def test_sigterm_ends_in_order(trial):
    one = trial()
    container = one.wait_marked("working")
    one.process.send_signal(signal.SIGTERM)
    one.process.communicate(timeout=60)
    assert one.process.returncode == 143
    assert container in one.marked("exited")
    assert_nothing_left(one.home)


@pytest.mark.parametrize("sandbox", by_turns([()]), indirect=True)
def test_sigterm_of_the_server_ends_in_order(trial):
    """Which gives what runs ten seconds."""
    one = trial()
    container = one.wait_marked("working")
    os.kill(one.pid_of("server"), signal.SIGTERM)
    one.process.communicate(timeout=60)
    assert one.process.returncode == 1
    assert container in one.marked("exited")
    assert_nothing_left(one.home)


def test_a_daemon_of_user_code_does_not_stay(home, tmp_path):
    program = write(
        tmp_path,
        """
        import os, subprocess, time
        import greenroom
        app = greenroom.App("daemon")

        @app.function()
        def f():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(600)
                os._exit(0)
            os.wait()
            subprocess.Popen(["sleep", "600"])
            return "started"

        @app.local_entrypoint()
        def main():
            print(f.remote())
        """,
    )
    result = run("run", str(program))
    assert "started" in result.stdout
    assert_nothing_left(home, timeout=10)


@pytest.mark.parametrize("number", range(200 if LONG else 6))
def test_random_kills(home, tmp_path, number):
    """In random phases, random victims; ``make test-faults`` has many more, each time others."""
    sandbox = "oci" if number % 2 else "process"
    if sandbox == "oci":
        Need.runtime("crun")
    given = os.environ.get("GREENROOM_TEST_SEED")
    first = int(given) if given else random.randrange(2**32) if LONG else 0
    seed = first + number
    print(f"GREENROOM_TEST_SEED={seed} and the trial [0] is this one")
    choose = random.Random(seed)
    one = Trial(home, tmp_path, sandbox, enter=choose.choice([0.0, 0.2]), seconds=choose.choice([0.0, 0.1, 60.0]))
    victim = choose.choice(["client", "server", "worker", "supervisor"])
    one.pid_of("server")
    time.sleep(choose.uniform(0, 0.8))
    one.kill(victim)
    one.end()
    assert one.is_the_container(victim) or not one.owing(), (
        f"seed {seed}, {victim} killed: no exit hook of {one.owing()}"
    )


MAPPED = """
    import os, pathlib, time
    import greenroom

    app = greenroom.App("mapped")
    marks = pathlib.Path({marks!r})

    @app.function(max_containers=2, retries=0)
    def square(x):
        with open(marks / str(x), "a") as file:
            file.write("began\\n")
        while x > 1 and not (marks / "go").exists():
            time.sleep(0.01)
        return x * x

    @app.local_entrypoint()
    def main():
        print("squares", list(square.map(range(6))))
"""


def test_a_lost_worker_costs_its_inputs_nothing(home, tmp_path):
    """What ran when the worker died is run again, by functions without retries too; what had returned is not."""

    def began() -> dict[int, int]:
        return {x: len((tmp_path / str(x)).read_text().split()) for x in range(6) if (tmp_path / str(x)).exists()}

    process = start("run", str(write(tmp_path, MAPPED.format(marks=str(tmp_path)))), GREENROOM_SANDBOX="process")
    try:
        wait_for(lambda: len([x for x in began() if x > 1]) == 2, what="two inputs run")
        before = began()
        running = [x for x in before if x > 1]
        os.kill(pid_of(home, "worker"), signal.SIGKILL)
        wait_for(lambda: sum(began().values()) == sum(before.values()) + 2, what="new containers run two")
        (tmp_path / "go").touch()
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, err
    assert "squares [0, 1, 4, 9, 16, 25]\n" in out
    assert began() == {x: 2 if x in running else 1 for x in range(6)}
    assert_nothing_left(home)
