"""``greenroom deploy``, ``server`` and ``app``, through the real command: versions, and what a restart keeps."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.cli.stays import PROGRAM, python
from tests.conftest import assert_nothing_left, wait_for
from tests.e2e.programs import COMMAND, environment, run, start, write
from tests.long_form import by_turns


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
    for version in ("9", "v9"):
        gone = run("app", "rollback", "shop", version)
        assert (gone.returncode, gone.stderr) == (
            2, "greenroom: shop has no version 9 to go back to; there are: 3, 2, 1\n")  # fmt: skip
    assert "Invalid value for '[VERSION]'" in run("app", "rollback", "shop", "last").stderr
    assert run("app", "rollback", "shpo").stderr == "greenroom: no version of shpo is kept\n"
    assert run("app", "stop", "shop").stdout == "✓ shop has ended\n"
    assert sorted(stays.left()) == ["1", "1", "2"]
    assert stays.apps() == []
    assert "no app 'shop' is deployed" in stays.call()
    assert run("app", "rollback", "shop").stderr == (
        "greenroom: shop isn't deployed, so say which version to go back to; there are: 3, 2, 1\n")  # fmt: skip
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


MADE = """
    import greenroom

    def setup():
        pass

    image = greenroom.Image.host().run_function(setup, secrets=[greenroom.Secret.from_name("keys")])
    app = greenroom.App("shop", image=image)

    @app.function()
    def look():
        return 5
"""


def test_an_app_is_there_after_a_restart_though_its_image_could_not_be_made_again(plain, home):
    assert run("secret", "create", "keys", "KEY=1").returncode == 0
    assert run("deploy", str(write(plain.directory, MADE, "shop.py"))).returncode == 0
    assert run("secret", "delete", "--yes", "keys").returncode == 0
    plain.end()
    plain.start()
    assert run("call", "shop", "look").stdout == "5\n"
    plain.end()
    shutil.rmtree(home / "layers")
    plain.start()
    lost = run("call", "shop", "look")
    assert (lost.returncode, lost.stdout) == (1, "")
    assert ".run_function(setup) (shop.py:7): there is no stored secret keys" in lost.stderr


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


def test_what_the_autoscaler_was_told_holds_for_the_next_server_and_not_for_what_is_rolled_back_to(plain):
    def containers():
        return sum(record["function"] == "which" for record in json.loads(run("container", "list", "--json").stdout))

    plain.deploy(1)
    update = "greenroom.Function.from_name('shop', 'which').update_autoscaler"
    python(f"{update}(min_containers=2)")
    python(f"{update}(scaledown_window=1)")
    assert plain.end() == 0
    plain.start()
    wait_for(lambda: containers() == 2)
    run("app", "rollback", "shop", "1")
    wait_for(lambda: containers() == 1)
    assert plain.end() == 0
    plain.start()
    assert containers() == 0


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


@pytest.mark.parametrize("where", ["an enter hook", "a build"])
def test_ctrl_c_while_it_deploys_leaves_the_version_before(stays, where):
    """And the version that is not to be ends as any other: what had entered runs its exit hook."""
    hook = """
            Path(f"MARKS/begun {VERSION}").touch()
            while VERSION == 2 and not Path("MARKS/go").exists():
                time.sleep(0.01)
    """
    text = f"""
    import time
    from pathlib import Path

    import greenroom

    app = greenroom.App("slow")
    VERSION = 1

    @app.cls(min_containers=1)
    class Model:
        @greenroom.{"build" if where == "a build" else "enter"}()
        def slow(self):{hook}
        @greenroom.method()
        def get(self):
            return VERSION

        @greenroom.exit()
        def leave(self):
            with open("MARKS/left", "a") as file:
                file.write(f"{{VERSION}}\\n")
    """.replace("MARKS", str(stays.directory))
    assert run("deploy", str(write(stays.directory, text, "slow.py"))).returncode == 0
    second = start("deploy", str(write(stays.directory, text.replace("VERSION = 1", "VERSION = 2"), "slow.py")))
    wait_for((stays.directory / "begun 2").exists)
    second.send_signal(signal.SIGINT)
    _, said = second.communicate(timeout=60)
    assert (second.returncode, "Traceback" in said) == (130, False), said
    wait_for(
        lambda: len(json.loads(run("container", "list", "--json").stdout)) == 1, what="the second one's have ended"
    )
    assert stays.left() == []
    assert [(app["version"], app["state"]) for app in stays.apps()] == [(1, "deployed")]
    get = "print(greenroom.Cls.from_name('slow', 'Model')().get.remote())"
    assert python(get) == "1\n"
    (stays.directory / "go").touch()
    assert run("deploy", str(stays.directory / "slow.py")).returncode == 0
    assert python(get) == "2\n"
    assert stays.left() == ["1"]


SETUP = """
    from pathlib import Path

    import greenroom

    def setup():
        if Path("MARKS/fails").exists():
            raise RuntimeError("no set-up today")

    app = greenroom.App("set", image=greenroom.Image.host().run_function(setup))

    @app.function()
    def which():
        return 1
"""


def test_a_version_whose_image_can_not_be_made_again_is_not_gone_back_to(plain):
    text = SETUP.replace("MARKS", str(plain.directory))
    assert run("deploy", str(write(plain.directory, text, "set.py"))).returncode == 0
    text = text.replace(", image=greenroom.Image.host().run_function(setup)", "").replace("return 1", "return 2")
    assert run("deploy", str(write(plain.directory, text, "set.py"))).returncode == 0
    assert run("call", "set", "which").stdout == "2\n"
    (idle,) = json.loads(run("container", "list", "--json").stdout)
    assert run("container", "stop", idle["id"]).returncode == 0  # else one of the version before is started beside it
    assert run("image", "prune", "-a").stdout.startswith("removed 1 layer")
    (plain.directory / "fails").touch()
    back = run("app", "rollback", "set")
    assert (back.returncode, back.stdout) == (1, "")
    assert "no set-up today" in back.stderr
    assert run("call", "set", "which").stdout == "2\n"
    assert [(app["version"], app["state"]) for app in plain.apps()] == [(2, "deployed")]
    (plain.directory / "fails").unlink()
    assert run("app", "rollback", "set").returncode == 0
    assert run("call", "set", "which").stdout == "1\n"


def test_ctrl_c_while_it_goes_back_leaves_the_version_that_serves(plain):
    enters, go = plain.directory / "enters", plain.directory / "go"
    text = f"""
    import time
    from pathlib import Path

    import greenroom

    app = greenroom.App("slow")
    VERSION = 1

    @app.cls()
    class Model:
        @greenroom.enter()
        def load(self):
            Path({str(enters)!r}).touch()
            while VERSION == 1 and not Path({str(go)!r}).exists():
                time.sleep(0.01)

        @greenroom.method()
        def get(self):
            return VERSION
    """
    file = write(plain.directory, text, "slow.py")
    assert run("deploy", str(file)).returncode == 0
    write(plain.directory, text.replace("VERSION = 1", "VERSION = 2", 1), "slow.py")
    assert run("deploy", str(file)).returncode == 0
    get = ("call", "slow", "Model.get")
    assert run(*get).stdout == "2\n"
    enters.unlink()
    back = start("app", "rollback", "slow")
    wait_for(enters.exists)
    assert {(app["version"], app["state"]) for app in plain.apps()} == {(2, "deployed"), (0, "deploying")}
    back.send_signal(signal.SIGINT)
    _, said = back.communicate(timeout=60)
    assert (back.returncode, "Traceback" in said) == (130, False), said
    wait_for(lambda: len(plain.apps()) == 1, what="the version that it was going back to has ended")
    go.touch()
    assert run(*get).stdout == "2\n"
    assert run("app", "rollback", "slow").stdout == "✓ slow is rolled back: version 4\n"
    assert run(*get).stdout == "1\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_version_whose_server_ends_as_it_enters_has_failed(plain, number):
    entered = plain.directory / "entered"
    text = f"""
    import time
    from pathlib import Path

    import greenroom

    app = greenroom.App("shop")
    VERSION = 1

    @app.cls()
    class Model:
        @greenroom.enter()
        def load(self):
            while VERSION == 2:
                Path({str(entered)!r}).touch()
                time.sleep(0.01)

        @greenroom.method()
        def get(self):
            return VERSION
    """
    file = write(plain.directory, text, "shop.py")
    assert run("deploy", str(file)).returncode == 0
    assert run("call", "shop", "Model.get").stdout == "1\n"
    write(plain.directory, text.replace("VERSION = 1", "VERSION = 2", 1), "shop.py")
    second = start("deploy", str(file))
    wait_for(entered.exists)
    plain.end(number)
    _, said = second.communicate(timeout=60)
    assert second.returncode in (1, 2)
    assert "Traceback" not in said
    plain.start()
    history = json.loads(run("app", "history", "shop", "--json").stdout)
    assert [(row["number"], row["state"]) for row in history] == [(2, "FAILED"), (1, "CURRENT")]
    assert run("call", "shop", "Model.get").stdout == "1\n"
