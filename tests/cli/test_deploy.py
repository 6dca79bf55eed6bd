"""``greenroom server``, ``deploy`` and ``app``, through the real command: what stays, and what a restart keeps."""

import contextlib
import json
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from greenroom.model.app_logs import file_of
from tests.conftest import Need, assert_nothing_left, processes_of, wait_for
from tests.e2e.programs import COMMAND, environment, run, start, write
from tests.long_form import by_turns

PROGRAM = """
    import greenroom

    app = greenroom.App("shop")
    VERSION = 1


    @app.function()
    def which(x):
        return VERSION, x


    @app.function(max_containers=2)
    def slow(x):
        import time
        with open("MARKS/ran", "a") as file:
            file.write(f"{x}\\n")
        time.sleep(0.02)
        return x * x


    @app.cls()
    class Model:
        @greenroom.enter()
        def load(self):
            self.loaded = VERSION

        @greenroom.method()
        def get(self):
            return self.loaded

        @greenroom.exit()
        def leave(self):
            with open("MARKS/left", "a") as file:
                file.write(f"{self.loaded}\\n")
"""
CALL = """
import greenroom
print(greenroom.Function.from_name("shop", "which").remote(7), greenroom.Cls.from_name("shop", "Model")().get.remote())
"""


def python(text: str) -> str:
    """What a program prints; it fails with what it says."""
    done = subprocess.run([sys.executable, "-c", f"import greenroom\n{text}"], env=environment(), capture_output=True,
                          text=True, timeout=90, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class Stays:
    """A ``greenroom server`` of the test's home."""

    def __init__(self, home: Path, directory: Path, sandbox: str, **settings: str) -> None:
        self.home = home
        self.directory = directory
        self.directory.chmod(0o777)
        self._said = directory / "server.log"
        self._settings = {"GREENROOM_SANDBOX": sandbox, "GREENROOM_SHARED_DIRS": str(directory), **settings}
        self.start()

    def start(self) -> None:
        before = self.said().count("ready")
        with open(self._said, "a") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "server"], stderr=output, env=environment(**self._settings), start_new_session=True
            )
        wait_for(lambda: self.said().count("ready") > before or self.process.poll() is not None, what=self.said())

    def said(self) -> str:
        return self._said.read_text() if self._said.exists() else ""

    def deploy(self, version: int, *options: str) -> "subprocess.CompletedProcess[str]":
        text = PROGRAM.replace("VERSION = 1", f"VERSION = {version}").replace("MARKS", str(self.directory))
        return run("deploy", *options, str(write(self.directory, text, "shop.py")))

    def call(self) -> str:
        done = subprocess.run(
            [sys.executable, "-c", CALL], env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    def apps(self) -> "list[dict[str, object]]":
        found: list[dict[str, object]] = json.loads(run("app", "list", "--json").stdout)
        return found

    def ran(self) -> "list[int]":
        file = self.directory / "ran"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def left(self) -> "list[str]":
        file = self.directory / "left"
        return file.read_text().split() if file.exists() else []

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def plain(home, tmp_path):
    """One whose containers are plain processes: for what is not about them."""
    made = Stays(home, tmp_path, "process")
    yield made
    made.end()


@pytest.fixture(params=["process", "oci"])
def stays(request, home, tmp_path):
    """One of each."""
    if request.param == "oci":
        Need.runtime("crun")
    made = Stays(home, tmp_path, request.param)
    yield made
    made.end()


def test_versions_come_go_and_come_back(stays, home):
    assert stays.deploy(1).stdout == "✓ shop is deployed: version 1\n"
    assert stays.call() == "(1, 7) 1"
    assert stays.deploy(2).stdout == "✓ shop is deployed: version 2\n"
    assert stays.call() == "(2, 7) 2"
    wait_for(lambda: stays.left() == ["1"], what="the exit hook of the first has run")
    (record,) = stays.apps()
    assert (record["name"], record["state"], record["version"]) == ("shop", "deployed", 2)
    assert run("app", "rollback", "shop").stdout == "✓ shop is rolled back: version 3\n"
    assert stays.call() == "(1, 7) 1"
    history = json.loads(run("app", "history", "shop", "--json").stdout)
    assert [(row["number"], row["state"]) for row in history] == [(3, "CURRENT"), (2, "REPLACED"), (1, "REPLACED")]
    gone = run("app", "rollback", "shop", "9")
    assert (gone.returncode, gone.stderr) == (
        2, "greenroom: shop has no version 9 to go back to; there are: 3, 2, 1\n")  # fmt: skip
    assert run("app", "stop", "shop").stdout == "✓ shop has ended\n"
    assert sorted(stays.left()) == ["1", "1", "2"]
    assert stays.apps() == []
    assert "no app 'shop' is deployed" in stays.call()
    assert stays.end() == 0
    assert_nothing_left(home)


@pytest.fixture
def impatient(monkeypatch):
    """Containers of a killed server wait for the next one for a moment alone."""
    monkeypatch.setenv("GREENROOM_RECONNECT_WINDOW", "1")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("stays", "number"), by_turns([(signal.SIGTERM,), (signal.SIGKILL,)]), indirect=["stays"])
def test_what_was_deployed_is_there_after_a_restart(stays, home, number):
    stays.deploy(1)
    assert stays.call() == "(1, 7) 1"
    stays.end(number)
    wait_for(lambda: stays.left() == ["1"], what="its exit hook has run")
    told = "ends, since it got SIGTERM: what runs may finish, for 10 s; then exit hooks run"
    assert (told in stays.said()) == (number == signal.SIGTERM)
    assert "no app is running" in stays.call()
    stays.start()
    assert stays.call() == "(1, 7) 1"
    assert stays.apps()[0]["version"] == 1
    assert stays.end() == 0
    assert stays.left() == ["1", "1"]
    assert_nothing_left(home)


@pytest.mark.parametrize(("stays", "number"), by_turns([(signal.SIGKILL,), (signal.SIGTERM,)]), indirect=["stays"])
def test_spawned_calls_go_on_after_a_restart(stays, home, number):
    stays.deploy(1)
    spawned = python("call = greenroom.Function.from_name('shop', 'slow').spawn_map(range(200)); print(call.object_id)")
    call = spawned.strip()
    wait_for(lambda: len(stays.ran()) >= 20, what="some have run")
    stays.end(number)
    stays.start()
    collect = f"print(list(greenroom.FunctionCall.from_id({call!r}).iter()) == [x * x for x in range(200)])"
    assert python(collect) == "True\n"
    ran = stays.ran()
    assert set(ran) == set(range(200))
    assert len(ran) <= 200 + (4 if number == signal.SIGTERM else 0)  # what didn't end by itself runs again
    stays.end(signal.SIGKILL)
    stays.start()
    assert python(collect) == "True\n"
    assert stays.ran() == ran
    assert stays.end() == 0
    assert_nothing_left(home)


def test_a_version_that_can_not_be_imported_leaves_the_one_before(plain):
    plain.deploy(1)
    broken = run("deploy", str(write(plain.directory, "def (\n", "shop.py")))
    assert broken.returncode == 2
    assert "SyntaxError" in broken.stderr
    assert plain.call() == "(1, 7) 1"


def test_programs_use_it_rather_than_start_one_of_their_own(plain):
    text = PROGRAM.replace("MARKS", str(plain.directory)) + (
        '\n\n    @app.local_entrypoint()\n    def main():\n        print(which.remote(1), Model().get.remote())\n'
    )  # fmt: skip
    file = write(plain.directory, text, "mine.py")
    assert run("run", str(file)).stdout == "(1, 1) 1\n"
    assert plain.left() == ["1"]
    assert len(os.listdir(plain.home / "run")) == 1
    assert run("run", "--sandbox", "process", str(file)).stdout == "(1, 1) 1\n"
    assert plain.apps() == []


def test_there_is_one_at_the_most(plain):
    other = run("server")
    assert other.returncode == 2
    assert other.stderr == (
        f"greenroom: a server stays in {plain.home} already (process {plain.process.pid}); end it first, or set GREENROOM_HOME\n"
    )


def test_without_one_it_is_said_what_to_do(home, tmp_path):
    for arguments in (["deploy", str(write(tmp_path, PROGRAM))], ["app", "stop", "x"], ["app", "rollback", "x"]):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("greenroom: no server stays here")
        assert "greenroom server" in done.stderr
    assert run("app", "list").stdout == "no apps; `greenroom deploy` makes one that stays\n"


def test_a_store_of_a_newer_version_is_refused(home, tmp_path):
    made = Stays(home, tmp_path, "process")
    assert made.end() == 0
    with sqlite3.connect(home / "greenroom.db") as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    made.start()
    assert made.end() == 1
    assert "1000" in made.said().splitlines()[-1]


def test_calls_from_the_command_line(plain):
    plain.deploy(1)
    assert run("call", "shop", "which", "--json", "[3]").stdout == "[1, 3]\n"
    assert run("call", "shop", "which", "--json", '{"x": "é"}').stdout == '[1, "é"]\n'
    assert run("call", "shop", "Model.get").stdout == "1\n"
    call = run("call", "shop", "which", "--json", "[5]", "--spawn").stdout.strip()
    assert python(f"print(greenroom.FunctionCall.from_id({call!r}).get())") == "(1, 5)\n"
    for arguments, says in (
        (["shop", "nope"], "the deployed app shop has no 'nope'; it has Model, slow, which"),
        (["nope", "f"], "no app 'nope' is deployed; there are: shop"),
        (["shop", "which", "--json", "{"], "--json is no JSON"),
        (["shop", "which", "--json", "3"], "--json is no list and no object"),
        (["shop", "which", "--with", "{\"x\": 1}"], "write CLASS.METHOD"),
    ):  # fmt: skip
        done = run("call", *arguments)
        assert done.returncode == 2, done
        assert says in done.stderr
        assert "Traceback" not in done.stderr


FAILS = """
    import greenroom

    app = greenroom.App("fails")

    @app.function()
    def raises(x):
        raise ValueError(f"no {x}")

    @app.function()
    def leaves():
        raise SystemExit(7)

    @app.function()
    def dies():
        import os
        os._exit(3)

    @app.function(timeout=0.5)
    def slow():
        import time
        time.sleep(60)
"""


def test_calls_from_the_command_line_that_fail(plain):
    assert run("deploy", str(write(plain.directory, FAILS, "fails.py"))).returncode == 0
    failed = run("call", "fails", "raises", "--json", "[3]")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "ValueError: no 3"
    assert "in raises" in failed.stderr
    assert "greenroom/cli" not in failed.stderr
    for function, says in (
        ("leaves", "SystemExit: 7"),
        ("dies", "the container of dies died: exit status 3"),
        ("slow", "slow ran past its timeout of 0.5 s"),
    ):
        failed = run("call", "fails", function)
        assert failed.returncode == 1, failed
        assert says in failed.stderr
        assert "greenroom/" not in failed.stderr


def test_a_backup_taken_while_it_runs_is_restored(plain, tmp_path):
    plain.deploy(1)
    call = run("call", "shop", "which", "--json", "[5]", "--spawn").stdout.strip()
    collect = f"print(greenroom.FunctionCall.from_id({call!r}).get())"
    assert python(collect) == "(1, 5)\n"
    file = str(tmp_path / "backup")
    assert run("server", "backup", file).stdout == f"✓ backed up to {file}\n"
    plain.deploy(2)
    refused = run("server", "restore", file)
    assert (refused.returncode, "is in use by a running server" in refused.stderr) == (1, True)
    assert plain.end() == 0
    assert run("server", "restore", file).stdout == f"✓ restored from {file}\n"
    plain.start()
    assert plain.call() == "(1, 7) 1"
    assert python(collect) == "(1, 5)\n"
    none = run("server", "restore", str(tmp_path / "shop.py"))
    assert none.returncode == 1


TALKS = """
    import greenroom

    app = greenroom.App("talks")

    @app.function()
    def say(text):
        print(text, end="")
"""


def test_what_deployed_apps_print_is_kept_in_order_and_found_again(plain):
    assert run("deploy", str(write(plain.directory, TALKS, "talks.py"))).returncode == 0
    python(
        "say = greenroom.Function.from_name('talks', 'say').remote\nsay('one\\n')\nsay('tw')\nsay('o\\nh\u00e9\\n')\nsay('no end')"
    )
    assert run("app", "stop", "talks").returncode == 0

    def lines(*options: str) -> "list[str]":
        return [line.partition(" | ")[2] for line in run("app", "logs", "talks", *options).stdout.splitlines()]

    wait_for(lambda: lines()[-1:] == ["no end"], what="all of it is written")
    assert lines() == ["one", "two", "h\u00e9", "no end"]
    assert lines("--grep", "^(one|two)$") == ["one", "two"]
    assert lines("--since", "1h") == lines()
    entry = json.loads(run("app", "logs", "talks", "--json").stdout.splitlines()[0])
    assert (entry["function"], entry["text"], entry["container"][:3]) == ("say", "one", "ta-")
    assert lines("--container", entry["container"]) == lines()
    assert lines("--container", "ta-none") == []
    none = run("app", "logs", "nope")
    assert (none.returncode, none.stderr) == (1, "Error: nothing that nope has printed is kept here\n")
    for wrong in (["--since", "x"], ["--grep", "("]):
        assert run("app", "logs", "talks", *wrong).returncode == 2


def test_a_line_that_was_cut_off_keeps_no_other_from_being_read(plain):
    assert run("deploy", str(write(plain.directory, TALKS, "talks.py"))).returncode == 0
    python("greenroom.Function.from_name('talks', 'say').remote('one\\n')")
    file = file_of(plain.home, "talks")
    wait_for(file.exists)
    with open(file, "ab") as opened:
        opened.write(b'{"at": 1.5, "cont')  # as a full disk leaves it, or a killed server
    python("greenroom.Function.from_name('talks', 'say').remote('two\\n')")

    def said() -> "list[str]":
        done = run("app", "logs", "talks")
        assert (done.returncode, done.stderr) == (0, "")
        return [line.partition(" | ")[2] for line in done.stdout.splitlines()]

    wait_for(lambda: said() == ["one", "two"])


def test_nobody_follows_an_app_that_there_is_not(plain):
    assert run("deploy", str(write(plain.directory, TALKS, "talks.py"))).returncode == 0
    done = run("app", "logs", "-f", "tokls")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: nothing that tokls has printed is kept, and no app of that name is deployed; there are: talks\n"
    )


def test_what_a_deployed_app_prints_is_followed(plain):
    assert run("deploy", str(write(plain.directory, TALKS, "talks.py"))).returncode == 0
    follower = subprocess.Popen(
        [*COMMAND, "app", "logs", "talks", "-f"], stdout=subprocess.PIPE, text=True, env=environment()
    )
    try:
        python("greenroom.Function.from_name('talks', 'say').remote('first\\n')")
        assert follower.stdout is not None
        assert follower.stdout.readline().endswith(" | first\n")
        python("greenroom.Function.from_name('talks', 'say').remote('second\\n')")
        assert follower.stdout.readline().endswith(" | second\n")
    finally:
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=30)
    assert follower.returncode == 130


SECRET = """
    import greenroom

    app = greenroom.App("shop", image=greenroom.Image.host().env({"IMAGE": "yes"}).run_function(SETUP))

    @app.function(secrets=[greenroom.Secret.from_name("keys", required_keys=["KEY"])])
    def look():
        import os
        with open(os.environ["MADE"]) as file:
            return os.environ["IMAGE"], os.environ["KEY"], file.read()
"""


def test_images_and_secrets_are_had_again_and_no_value_is_kept(stays, home):
    canary = "canary-5e1f"
    setup = "setup, secrets=[greenroom.Secret.from_name('keys')]"
    program = SECRET.replace("SETUP", setup).replace('os.environ["MADE"]', repr(f"{stays.directory}/made"))
    program = program.replace("app = ", f"""def setup():
        import os
        with open({str(stays.directory / "made")!r}, "w") as file:
            file.write(str(len(os.environ["KEY"])))

    app = """, 1)  # fmt: skip
    assert run("secret", "create", "keys", f"KEY={canary}").returncode == 0
    file = str(write(stays.directory, program, "shop.py"))
    deployed = run("deploy", file)
    assert deployed.returncode == 0, deployed.stderr
    call = ("call", "shop", "look")
    assert run(*call).stdout == f'["yes", "{canary}", "{len(canary)}"]\n'
    stays.end(signal.SIGKILL)
    stays.start()
    assert run(*call).stdout == f'["yes", "{canary}", "{len(canary)}"]\n'
    assert run("secret", "create", "--force", "keys", "KEY=other").returncode == 0
    assert run("app", "rollback", "shop", "1").returncode == 0
    assert run(*call).stdout == f'["yes", "other", "{len(canary)}"]\n'
    assert stays.end() == 0
    for path in home.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path


def test_a_unit_for_systemd(tmp_path, home):
    printed = run("server", "install", "--print").stdout
    assert f'Environment="GREENROOM_HOME={home}"\n' in printed
    command = next(line for line in printed.splitlines() if line.startswith("ExecStart=")).partition("=")[2]
    assert subprocess.run([*shlex.split(command), "--help"], capture_output=True, check=False).returncode == 0
    assert "KillMode=process\nTimeoutStopSec=60\n" in printed
    odd = run("server", "install", "--print", GREENROOM_HOME=f"{tmp_path}/a b%c").stdout
    assert f'Environment="GREENROOM_HOME={tmp_path}/a b%%c"\n' in odd


INSTALL = """
if [ "$(id -u)" = 0 ]; then mount -t tmpfs none /etc && file=/etc/systemd/system/greenroom.service
else file=$HOME/.config/systemd/user/greenroom.service; fi
for home in a a b; do GREENROOM_HOME=$HOME/$home "$@" server install 2>&1 | sed "s,$file,FILE,"; done
grep -c "GREENROOM_HOME=$HOME/a" "$file"
"""


def test_a_unit_for_systemd_is_written_once(tmp_path):
    """As root, in a mount namespace that only the command sees."""
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else []
    done = subprocess.run([*alone, "sh", "-c", INSTALL, "sh", *COMMAND], env=environment(HOME=str(tmp_path)),
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    if "mount:" in done.stderr:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")
    user = "" if os.geteuid() == 0 else "--user "
    assert done.stdout.splitlines() == [
        *[f"✓ FILE is written; start it: systemctl {user}enable --now greenroom"] * 2,
        "Error: FILE is there, and is another one: remove it first, or edit it",
        "1",
    ]
    assert done.stderr == ""


KEPT = """
    import greenroom

    app = greenroom.App("kept")

    @app.cls(min_containers=1)
    class Model:
        @greenroom.enter()
        def load(self):
            with open("MARKS/entered", "a") as file:
                file.write("x")

        @greenroom.method()
        def get(self):
            return "got"
"""


def test_after_a_reboot_min_containers_are_there_before_anybody_calls(stays, home):
    text = KEPT.replace("MARKS", str(stays.directory))
    assert run("deploy", str(write(stays.directory, text, "kept.py"))).returncode == 0
    entered = stays.directory / "entered"
    wait_for(entered.exists)

    def records() -> "list[dict[str, Any]]":
        found: list[dict[str, Any]] = json.loads(run("container", "list", "--json").stdout)
        return found

    def states() -> "list[str]":
        return [record["state"] for record in records()]

    wait_for(lambda: states() == ["IDLE"])
    (record,) = records()
    # All of them at once: nobody is left to clear up.
    for pid in (*(int(line.split()[0]) for line in processes_of(home)), record["pid"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    stays.process.wait()
    wait_for(lambda: not processes_of(home))
    said = json.loads((home / "server.json").read_text())
    (home / "server.json").write_text(json.dumps({**said, "pid": os.getpid()}))  # numbers of processes come again
    assert "no app is running" in stays.call() or "ConnectionError" in stays.call()
    stays.start()
    wait_for(lambda: entered.read_text() == "xx" and states() == ["IDLE"], what="it is there again")
    assert run("call", "kept", "Model.get").stdout == '"got"\n'
    assert entered.read_text() == "xx"
    assert stays.end() == 0
    assert_nothing_left(home)


WAITS = """
    import time
    from pathlib import Path

    import greenroom

    app = greenroom.App("waits")

    @app.cls(retries=1)  # of which a container that dies costs one
    class Model:
        size: str = greenroom.parameter(default="small")

        @greenroom.method()
        def wait(self):
            Path("MARKS/begun").touch()
            while not Path("MARKS/go").exists():
                time.sleep(0.01)
            return self.size
"""


@pytest.mark.parametrize("container", ["lives", "dies"])
def test_a_spawned_call_with_options_of_its_callers_goes_on_after_a_restart(plain, container):
    assert (
        run("deploy", str(write(plain.directory, WAITS.replace("MARKS", str(plain.directory)), "waits.py"))).returncode
        == 0
    )
    model = "greenroom.Cls.from_name('waits', 'Model').with_options(timeout=50, max_containers=1)(size='big')"
    call = python(f"print({model}.wait.spawn().object_id)").strip()
    wait_for((plain.directory / "begun").exists)
    (record,) = json.loads(run("container", "list", "--json").stdout)
    plain.end(signal.SIGKILL)
    (plain.directory / "begun").unlink()
    if container == "dies":
        agents = Path(f"/proc/{record['pid']}/task/{record['pid']}/children").read_text().split()
        for pid in (*map(int, agents), record["pid"]):
            os.kill(pid, signal.SIGKILL)
    plain.start()
    if container == "dies":
        wait_for((plain.directory / "begun").exists)
    (there,) = json.loads(run("container", "list", "--json").stdout)
    assert (there["function"], there["id"] == record["id"]) == (
        "Model?max_containers=1&timeout=50.0", container == "lives"
    )  # fmt: skip
    (plain.directory / "go").touch()
    assert python(f"print(greenroom.FunctionCall.from_id({call!r}).get())") == "big\n"
    assert (plain.directory / "begun").exists() == (container == "dies")


DETACHED = """
    import time
    from pathlib import Path

    import greenroom

    app = greenroom.App("batch")

    @app.function(scaledown_window=0.2)
    def work(name):
        print("begins", name)
        Path(f"MARKS/{name}").touch()
        while not Path(f"MARKS/{name}.go").exists():
            time.sleep(0.01)
        Path(f"MARKS/{name}.done").touch()
        return name

    @app.local_entrypoint()
    def main():
        print(work.spawn("one").object_id)
        while not Path("MARKS/one").exists():
            time.sleep(0.01)
"""


def detached(stays: Stays) -> str:
    return str(write(stays.directory, DETACHED.replace("MARKS", str(stays.directory)), "batch.py"))


def test_a_detached_app_goes_on_until_it_is_done(stays):
    ran = run("run", "--detach", detached(stays))
    assert ran.returncode == 0, ran.stderr
    call = next(line for line in ran.stdout.splitlines() if line.startswith("fc-"))
    (record,) = stays.apps()
    app_id = str(record["id"])
    assert (record["name"], record["state"]) == ("batch", "detached")
    assert (f"batch goes on without this program, as {app_id}: `greenroom app stop {app_id}` ends it, `greenroom app logs batch` shows "
            "what it prints") in ran.stderr  # fmt: skip
    assert not (stays.directory / "one.done").exists()
    (stays.directory / "one.go").touch()
    wait_for(lambda: stays.apps() == [], what="it has ended by itself")
    assert (stays.directory / "one.done").exists()
    assert python(f"print(greenroom.FunctionCall.from_id({call!r}).get())") == "one\n", "its result is kept"
    assert run("app", "logs", "batch").stdout.endswith("| begins one\n")


def test_a_function_that_is_run_detached_outlives_its_program(plain):
    file = detached(plain)
    for number, name in ((signal.SIGKILL, "killed"), (signal.SIGINT, "interrupted")):
        program = subprocess.Popen([*COMMAND, "run", "-d", f"{file}::work", "--name", name], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=environment())  # fmt: skip
        wait_for((plain.directory / name).exists)
        program.send_signal(number)
        _, said = program.communicate(timeout=30)
        assert program.returncode == (-9 if number == signal.SIGKILL else 130)
        assert "Traceback" not in said
        assert number == signal.SIGKILL or "leaving: the app goes on" in said
        wait_for(lambda: [app["state"] for app in plain.apps()] == ["detached"])
        (plain.directory / f"{name}.go").touch()
        wait_for((plain.directory / f"{name}.done").exists)
        wait_for(lambda: plain.apps() == [])


def test_a_detached_app_is_stopped_and_is_not_back(plain):
    assert run("run", "--detach", detached(plain)).returncode == 0
    assert run("app", "stop", "batch").stdout == "✓ batch has ended\n"
    assert plain.apps() == []
    (plain.directory / "one").unlink()
    printed = run("run", "--detach", detached(plain)).stdout
    call = next(line for line in printed.splitlines() if line.startswith("fc-"))
    assert run("app", "stop", "batch").stdout == "✓ batch has ended\n"
    assert rows(plain.home, "detached", "versions", "functions") == {}
    plain.end(signal.SIGKILL)
    plain.start()
    assert plain.apps() == []
    collect = f"""
try:
    greenroom.FunctionCall.from_id({call!r}).get(timeout=30)
except greenroom.InputCancellation as error:
    print(error)
"""
    assert python(collect).startswith("the call was cancelled: stopped by `greenroom app stop`")


def rows(home: Path, *tables: str) -> "dict[str, int]":
    """What is kept of apps, by table; of those that have any."""
    with closing(sqlite3.connect(f"file:{home}/greenroom.db?mode=ro", uri=True)) as connection:
        found = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in tables or ("detached", "versions", "functions", "images", "version_images", "containers")
        }
    return {table: count for table, count in found.items() if count}


LASTS = """
    import time
    from pathlib import Path

    import greenroom

    app = greenroom.App("lasts")

    @app.function(max_containers=1, scaledown_window=0.2)
    def work(name):
        with open("MARKS/runs", "a") as file:
            file.write(f"{name}\\n")
        print("runs", name)
        while not Path(f"MARKS/{name}.go").exists():
            time.sleep(0.01)
        if name == "fails":
            raise ValueError("of mine")
        return name

    @app.local_entrypoint()
    def main():
        for name in ("one", "two", "fails"):
            print(work.spawn(name).object_id)
        while not Path("MARKS/runs").exists():
            time.sleep(0.01)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_detached_app_goes_on_with_the_next_server(stays, home, number):
    file = str(write(stays.directory, LASTS.replace("MARKS", str(stays.directory)), "lasts.py"))
    printed = run("run", "--detach", file)
    assert printed.returncode == 0, printed.stderr
    calls = [line for line in printed.stdout.splitlines() if line.startswith("fc-")]
    assert rows(home) == {"detached": 1, "versions": 1, "functions": 1, "containers": 1}
    (before,) = stays.apps()
    (container,) = json.loads(run("container", "list", "--json").stdout)
    stays.process.send_signal(number)
    if number == signal.SIGTERM:
        wait_for(lambda: stays.apps()[0]["state"] == "stopping")
        (stays.directory / "one.go").touch()  # what runs is finished in the time that there is for that
    stays.process.wait(60)
    stays.start()
    (after,) = stays.apps()
    same = ("id", "name", "state", "created_at", "functions")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert after["state"] == "detached"
    if number == signal.SIGKILL:
        (there,) = json.loads(run("container", "list", "--json").stdout)
        assert there["id"] == container["id"], "it has outlived its server"
    for name in ("one", "two", "fails"):
        (stays.directory / f"{name}.go").touch()
    first, second, fails = calls
    collect = f"""
for call in {[first, second, fails]!r}:
    try:
        print(greenroom.FunctionCall.from_id(call).get(timeout=60))
    except ValueError as error:
        print(error)
"""
    assert python(collect) == "one\ntwo\nof mine\n"
    assert (stays.directory / "runs").read_text() == "one\ntwo\nfails\n", "each ran once"
    wait_for(lambda: stays.apps() == [], what="it has ended by itself")
    wait_for(lambda: rows(home) == {}, what="nothing is kept of it any more")
    logs = [line.partition(" | ")[2] for line in run("app", "logs", "lasts").stdout.splitlines()]
    assert [line for line in logs if line.startswith("runs")] == ["runs one", "runs two", "runs fails"]
    stays.end(signal.SIGKILL)
    stays.start()
    assert stays.apps() == []
    assert python(collect) == "one\ntwo\nof mine\n", "results are kept all the same"
    assert stays.end() == 0
    assert_nothing_left(home)


MANY = """
    import time

    import greenroom

    app = greenroom.App("many")

    @app.function(max_containers=2, scaledown_window=0.5)
    def square(x):
        with open("MARKS/ran", "a") as file:
            file.write(f"{x}\\n")
        time.sleep(0.02)
        return x * x

    @app.local_entrypoint()
    def main():
        print(square.spawn_map(range(200)).object_id)
"""


def test_many_inputs_of_a_detached_app_run_once_however_often_its_server_is_killed(plain):
    printed = run(
        "run", "--detach", str(write(plain.directory, MANY.replace("MARKS", str(plain.directory)), "many.py"))
    )
    call = next(line for line in printed.stdout.splitlines() if line.startswith("fc-"))
    for number in range(3):
        wait_for(lambda least=number * 40 + 20: len(plain.ran()) >= least)
        plain.end(signal.SIGKILL)
        plain.start()
    collect = f"print(list(greenroom.FunctionCall.from_id({call!r}).iter()) == [x * x for x in range(200)])"
    assert python(collect) == "True\n"
    assert sorted(plain.ran()) == list(range(200))
    wait_for(lambda: plain.apps() == [])
    wait_for(lambda: rows(plain.home) == {})


def test_a_program_that_still_runs_collects_from_the_next_server(plain):
    file = str(write(plain.directory, LASTS.replace("MARKS", str(plain.directory)), "lasts.py"))
    program = subprocess.Popen([*COMMAND, "run", "-d", f"{file}::work", "--name", "mine"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=environment())  # fmt: skip
    wait_for((plain.directory / "runs").exists)
    plain.end(signal.SIGKILL)
    plain.start()
    (plain.directory / "mine.go").touch()
    printed, said = program.communicate(timeout=60)
    assert (program.returncode, printed.splitlines()[-1:]) == (0, ["mine"]), said
    assert "Traceback" not in said
    assert (plain.directory / "runs").read_text() == "mine\n"
    wait_for(lambda: plain.apps() == [])


REMOTE = (
    LASTS.partition("@app.local_entrypoint()")[0]
    + """
    @app.local_entrypoint()
    def main():
        print(work.remote("one"), flush=True)
        print(list(work.map(["two", "three"])))
"""
)


def test_what_its_program_waits_for_goes_on_with_the_next_server(plain):
    file = str(write(plain.directory, REMOTE.replace("MARKS", str(plain.directory)), "lasts.py"))
    program = subprocess.Popen([*COMMAND, "run", "-q", "-d", file], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=environment())  # fmt: skip
    runs = plain.directory / "runs"
    for name in ("one", "two"):
        wait_for(lambda name=name: runs.exists() and name in runs.read_text().split())
        plain.end(signal.SIGKILL)
        plain.start()
        (plain.directory / f"{name}.go").touch()
    (plain.directory / "three.go").touch()
    printed, said = program.communicate(timeout=60)
    results = [line for line in printed.splitlines() if not line.startswith("runs")]
    assert (program.returncode, results) == (0, ["one", "['two', 'three']"]), said
    assert runs.read_text() == "one\ntwo\nthree\n", "each ran once"
    wait_for(lambda: plain.apps() == [])


ALWAYS = """
    import os

    import greenroom

    app = greenroom.App("always")

    @app.function()
    @greenroom.wsgi_app()
    def page():
        def application(environ, start_response):
            start_response("200 OK", [])
            return [b"here"]
        return application

    @app.function(min_containers=1)
    def there():
        pass

    @app.local_entrypoint()
    def main():
        print(page.web_url)
"""


def test_what_is_there_always_is_there_again_until_it_is_stopped(plain, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as found:
        monkeypatch.setenv("GREENROOM_WEB_PORT", str(found.getsockname()[1]))
    plain.end()
    plain.start()
    printed = run("run", "--detach", str(write(plain.directory, ALWAYS, "always.py")))
    assert printed.returncode == 0, printed.stderr
    url = next(line for line in printed.stdout.splitlines() if line.startswith("http"))

    def containers() -> "list[str]":
        return [r["id"] for r in json.loads(run("container", "list", "--json").stdout) if r["function"] == "there"]

    def says() -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return response.read()
        except OSError:
            return b""  # what serves it takes a moment to load

    assert says() == b"here"
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = wait_for(containers)
        plain.end(number)
        plain.start()
        assert wait_for(says) == b"here"
        assert (wait_for(containers) == before) == (number == signal.SIGKILL)
    assert run("app", "stop", "always").returncode == 0
    plain.end(signal.SIGKILL)
    plain.start()
    assert plain.apps() == []
    wait_for(lambda: rows(plain.home) == {})


def test_a_detached_app_that_can_not_be_kept_does_not_begin(plain):
    full = plain.home / "greenroom.db-wal"
    assert full.exists()
    with closing(sqlite3.connect(plain.home / "greenroom.db", isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # as a disk that can't be written looks, once it has been waited for
        done = run("run", "--detach", detached(plain))
        connection.execute("ROLLBACK")
    assert done.returncode == 1
    assert "batch can't be kept, and so can't go on without its program: " in done.stderr
    assert not (plain.directory / "one").exists()
    wait_for(lambda: plain.apps() == [])


def test_what_can_not_be_detached_is_said(home, tmp_path):
    file = str(write(tmp_path, DETACHED.replace("MARKS", str(tmp_path)), "batch.py"))
    done = run("run", "--detach", file)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "greenroom: no server stays here that could keep the app: start one with `greenroom server`"
    )
    for options, extra in ((["--sandbox", "process"], {}), ([], {"GREENROOM_SERVER": "own"})):
        done = run("run", "--detach", *options, file, **extra)
        assert done.returncode == 2
        assert done.stderr.startswith("greenroom: --detach is for the server that stays")


TRIES = """
    import greenroom

    app = greenroom.App("tries")

    @app.function(retries=greenroom.Retries(max_retries=2, initial_delay=1.0, backoff_coefficient=1.0))
    def fail():
        with open("MARKS/ran", "a") as file:
            file.write("1\\n")
        raise OSError("again")
"""


def test_attempts_that_failed_have_failed_for_the_next_server_too(plain):
    assert (
        run("deploy", str(write(plain.directory, TRIES.replace("MARKS", str(plain.directory)), "t.py"))).returncode == 0
    )
    call = run("call", "tries", "fail", "--spawn").stdout.strip()

    def noted() -> "list[tuple[int]]":
        with sqlite3.connect(f"file:{plain.home}/greenroom.db?mode=ro", uri=True) as connection:
            return connection.execute("SELECT attempt FROM inputs").fetchall()

    wait_for(lambda: noted() == [(1,)], what="it is kept that one has failed")
    plain.end(signal.SIGKILL)
    plain.start()
    told = python(f"""
try:
    greenroom.FunctionCall.from_id({call!r}).get(timeout=60)
except OSError as error:
    print(error)
""")
    assert told == "again\n"
    assert plain.ran() == [1, 1, 1], "as often as retries= says"


def test_what_is_no_text_names_nothing(plain):
    plain.deploy(1)
    for arguments in (["app", "history"], ["app", "rollback"], ["app", "stop"], ["app", "logs"], ["app", "logs", "-f"]):
        done = subprocess.run(
            [*COMMAND, *arguments, b"\xff"], env=environment(), capture_output=True, timeout=60, check=False
        )
        assert done.returncode in (1, 2), done
        assert len(done.stderr.splitlines()) == 1, done.stderr
    backup = os.fsencode(plain.directory) + b"/\xff"
    assert subprocess.run([*COMMAND, "server", "backup", backup], env=environment(), check=False).returncode == 0
    assert os.path.getsize(backup) > 0
    for name in ("get(timeout=30)", "cancel()"):
        told = python(f"""
try:
    greenroom.FunctionCall.from_id("fc-\\ud800").{name}
except greenroom.NotFoundError as error:
    print("told", type(error).__name__)
""")
        assert told == "told NotFoundError\n"


def test_a_program_whose_app_is_stopped_by_others_ends_with_what_its_call_says(plain):
    text = PROGRAM.replace("MARKS", str(plain.directory)).replace("time.sleep(0.02)", "time.sleep(60)")
    program = start("run", f"{write(plain.directory, text, 'shop.py')}::slow", "--x", "1")
    wait_for(lambda: plain.ran() == [1])
    assert run("app", "stop", "shop").stdout == "✓ shop has ended\n"
    _, said = program.communicate(timeout=60)
    assert program.returncode == 1
    assert said.splitlines()[-1] == "greenroom: the call was cancelled: stopped by `greenroom app stop`", said
    assert "Traceback" not in said


@pytest.mark.parametrize("log", ["full", "a closed pipe"])
def test_a_server_whose_log_can_not_be_written_works_and_ends(home, tmp_path, log):
    reader, pipe = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full, open(pipe, "w") as closed:
        output = full if log == "full" else closed
        server = subprocess.Popen([*COMMAND, "server"], stderr=output, env=environment(GREENROOM_SANDBOX="process"))
    try:
        wait_for(lambda: (home / "server.json").exists() or server.poll() is not None)
        file = str(write(tmp_path, PROGRAM.replace("MARKS", str(tmp_path)), "shop.py"))
        assert run("deploy", file).stdout == "✓ shop is deployed: version 1\n"
        assert run("call", "shop", "Model.get").stdout == "1\n"
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
    assert (tmp_path / "left").read_text() == "1\n"
    assert_nothing_left(home)
