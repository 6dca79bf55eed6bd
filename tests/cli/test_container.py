"""``greenroom container list`` and ``show``: what lives, what ended, one container's timeline."""

import json
import signal
import subprocess

import pytest

from tests.conftest import assert_nothing_left, wait_for
from tests.e2e.programs import run, start, write

PROGRAM = """
    import os, time
    import greenroom

    app = greenroom.App("shown")

    @app.cls()
    class Model:
        @greenroom.enter()
        def load(self):
            time.sleep(0.2)

        @greenroom.method()
        def twice(self, x):
            return 2 * x

        @greenroom.exit()
        def close(self):
            raise ValueError("not closed")

    @app.local_entrypoint()
    def main(wait: bool = False):
        print([Model().twice.remote(x) for x in range(3)])
        if wait:
            input()
"""


def listed(*arguments: str) -> list[dict]:
    return json.loads(run("container", "list", "--json", *arguments).stdout)


def test_a_container_that_lives_and_after(home, tmp_path):
    process = start("run", str(write(tmp_path, PROGRAM)), "--wait", stdin=subprocess.PIPE)
    (record,) = wait_for(lambda: [r for r in listed() if r["inputs_done"] == 3])
    assert record["state"] == "IDLE"
    assert (record["app_name"], record["function"], record["reason"]) == ("shown", "Model", "")
    table = run("container", "list").stdout.splitlines()
    assert table[0].split() == ["ID", "APP", "FUNCTION", "STATE", "AGE", "INPUTS", "REASON"]
    assert table[1].split()[:4] == [record["id"], "shown", "Model", "IDLE"]
    process.communicate("\n", timeout=60)

    assert run("container", "list").stdout == "no containers; --all shows those that have ended\n"
    (record,) = listed("--all")
    assert (record["state"], record["reason"], record["inputs_done"]) == ("STOPPED", "the app ended", 3)
    assert [e["event"] for e in record["events"] if e["event"] != "HOOK"] == [
        "QUEUED", "PLACED", "AGENT_CONNECTED", "ENTERED", "INPUT_STARTED", "INPUTS_DONE", "STOP", "RELEASED",
    ]  # fmt: skip
    steps = {e["name"]: e for e in record["events"] if e["event"] == "HOOK"}
    assert 0.2 <= steps["enter Model.load"]["seconds"] < 20
    assert "not closed" in steps["exit Model.close"]["reason"]
    assert any("not closed" in error for error in record["errors"])
    assert sorted(e["at"] for e in record["events"]) == [e["at"] for e in record["events"]]

    shown = run("container", "show", record["id"][:9])
    assert shown.returncode == 0
    lines = shown.stdout.splitlines()
    assert lines[0].split()[:3] == [record["id"], "shown.Model", "STOPPED"]
    assert lines[1].startswith("ready after ")
    for word in (
        "queued",
        "starting",
        "enter Model.load",
        "idle",
        "exiting",
        "exit Model.close",
        "stopped",
        "3 inputs",
    ):
        assert word in shown.stdout
    assert json.loads(run("container", "show", record["id"], "--json").stdout) == record
    assert_nothing_left(home)


def test_a_container_that_works_again_is_shown_at_work(home, tmp_path):
    mark = tmp_path / "mark"
    program = write(
        tmp_path,
        f"""
        import pathlib, time
        import greenroom
        app = greenroom.App("busy")

        @app.function()
        def f(wait):
            if wait:
                pathlib.Path({str(mark)!r}).touch()
                time.sleep(60)

        @app.local_entrypoint()
        def main():
            f.remote(False)
            f.remote(True)
        """,
    )
    process = start("run", str(program), GREENROOM_SANDBOX="process")
    wait_for(mark.exists, what="the second input runs")
    (record,) = listed()
    assert (record["state"], record["inputs_done"]) == ("RUNNING", 1)
    assert [record["events"][-1][name] for name in ("event", "state")] == ["INPUT_STARTED", "RUNNING"]
    lines = run("container", "show", record["id"]).stdout.splitlines()
    assert lines[-1].split()[-1] == "running"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_show_of_what_is_not_there(home):
    result = run("container", "show", "ta-nowhere")
    assert (result.returncode, result.stdout) == (1, "")
    assert "there is no container ta-nowhere; `greenroom container list --all` lists them" in result.stderr


def test_show_of_an_ambiguous_beginning(home, tmp_path):
    write(tmp_path, PROGRAM)
    for _ in range(2):
        assert run("run", str(tmp_path / "app.py")).returncode == 0
    result = run("container", "show", "ta-")
    assert result.returncode == 2
    assert "ta- is the beginning of 2 ids" in result.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "ta-1"}'])
def test_a_record_that_is_damaged_is_left_out(home, text):
    (home / "containers").mkdir()
    (home / "containers" / "ta-1.json").write_text(text)
    assert listed("--all") == []


def test_a_server_that_does_not_answer_is_left_out(home):
    import socket

    (home / "run" / "x").mkdir(parents=True)
    (home / "run" / "x" / "token").write_text("t")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home / "run" / "x" / "server.sock"))
        silent.listen()
        assert listed() == []
