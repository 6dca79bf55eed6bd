"""``greenroom run --detach``: apps that go on without their program, and without their server."""

import json
import signal
import socket
import sqlite3
import subprocess
import urllib.request
from contextlib import closing

import pytest

from tests.cli.stays import Stays, python, rows
from tests.conftest import assert_nothing_left, wait_for
from tests.e2e.programs import COMMAND, environment, run, write

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
    for options, extra, said in (
        (["--sandbox", "process"], {}, "--sandbox"),
        ([], {"GREENROOM_SERVER": "own"}, "GREENROOM_SERVER=own"),
        ([], {"GREENROOM_SANDBOX": "process"}, "GREENROOM_SANDBOX"),
        (["--sandbox", "oci"], {"GREENROOM_RUNTIME": "/bin/true"}, "--sandbox, GREENROOM_RUNTIME"),
    ):
        done = run("run", "--detach", *options, file, **extra)
        assert done.returncode == 2
        assert done.stderr == f"greenroom: --detach is for the server that stays: leave out {said}, or --detach\n"
