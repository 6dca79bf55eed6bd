"""Values of ``env=`` and ``Secret.from_dict`` in what a server keeps, through the real command: on disk nothing of them can be read."""

import json
import shutil
import signal
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.stays import Stays, python
from tests.conftest import wait_for
from tests.e2e.programs import run, write

CANARIES = {f"CANARY_{name}": f"canary-{name.lower()}-77d0" for name in "ABCDEF"}
PROGRAM = """
    import os
    import time
    from pathlib import Path

    import greenroom

    def given(name):
        return os.environ.get(f"CANARY_{name}", "")  # where it is deployed; a container has no such variable

    def setup():
        Path("MARKS/made").write_text(" ".join(str(len(os.environ[name])) for name in ("D", "E", "F")))

    stored = greenroom.Secret.from_name("keys")
    made = {"D": given("D")}
    image = greenroom.Image.host().run_function(
        setup, env={"E": given("E")}, secrets=[greenroom.Secret.from_dict(made), stored, greenroom.Secret.from_dict({"F": given("F")})]
    )
    app = greenroom.App("NAME")

    @app.function(env={"A": given("A")}, secrets=[greenroom.Secret.from_dict({"B": given("B")})])
    def look():
        return [os.environ["A"], os.environ["B"]]

    @app.function(secrets=[stored, greenroom.Secret.from_dict({"C": given("C")})])
    def after():
        return [os.environ["KEY"], os.environ["C"]]

    @app.function(image=image)
    def pictured():
        return True

    @app.function(env={"A": given("A")}, scaledown_window=0.2)
    def wait():
        Path("MARKS/waits").touch()
        while not Path("MARKS/go").exists():
            time.sleep(0.01)
        return os.environ["A"][::-1]  # what is returned is kept, and as it is

    @app.local_entrypoint()
    def main():
        print(wait.spawn().object_id)
        while not Path("MARKS/waits").exists():
            time.sleep(0.01)
"""
PLAIN = """
    import greenroom

    app = greenroom.App("plain")

    @app.function()
    def fine():
        return "fine"
"""


@pytest.fixture
def stays(home, tmp_path):
    made = Stays(home, tmp_path, "process")
    yield made
    made.end()


def program(stays: Stays, name: str = "shop", *, stored: bool = True) -> str:
    """A file with the program, which may have a stored secret and an image too."""
    text = PROGRAM.replace("MARKS", str(stays.directory)).replace("NAME", name)
    if not stored:
        text = text.replace("image=image", "").replace("stored, ", "")
    return str(write(stays.directory, text, f"{name}.py"))


def call(function: str, app: str = "shop") -> str:
    done = run("call", app, function)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


LOOKED, AFTER = json.dumps([CANARIES["CANARY_A"], CANARIES["CANARY_B"]]), json.dumps(["stored", CANARIES["CANARY_C"]])


def assert_hidden(*places: Path) -> None:
    found = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file()]
    files = [path for path in found if path.name != "ledger"]  # which has what functions return: here, these values
    assert any(path.name.startswith("greenroom.db") for path in files)
    for path in files:
        data = path.read_bytes()
        for canary in CANARIES.values():
            assert canary.encode() not in data, path


def test_no_value_can_be_read_in_what_is_kept_and_all_are_had_again(stays, home, tmp_path):
    assert run("secret", "create", "keys", "KEY=stored").returncode == 0
    deployed = run("deploy", program(stays), **CANARIES)
    assert deployed.returncode == 0, deployed.stderr
    spawned = run("run", "--detach", program(stays, "beside"), **CANARIES)
    assert spawned.returncode == 0, spawned.stderr
    assert (call("look"), call("after")) == (LOOKED, AFTER)
    lengths = " ".join(str(len(CANARIES[f"CANARY_{name}"])) for name in "DEF")
    assert (stays.directory / "made").read_text() == lengths
    backup = tmp_path / "greenroom.db.backup"
    assert run("server", "backup", str(backup)).returncode == 0
    assert (home / "greenroom.db-wal").stat().st_size > 0
    assert_hidden(home, backup)
    stays.end(signal.SIGKILL)
    assert_hidden(home)
    stays.start()
    assert (call("look"), call("after"), call("pictured")) == (LOOKED, AFTER, "true")
    assert run("app", "rollback", "shop", "1").returncode == 0
    assert (call("look"), call("after"), call("pictured")) == (LOOKED, AFTER, "true")
    (stays.directory / "go").touch()
    collect = f"print(greenroom.FunctionCall.from_id({spawned.stdout.split()[0]!r}).get(timeout=60))"
    assert python(collect) == f"{CANARIES['CANARY_A'][::-1]}\n"
    assert stays.end() == 0
    assert_hidden(home)
    assert stat.S_IMODE((home / "secrets" / "key").stat().st_mode) == 0o600
    stays.start()
    assert "can't" not in stays.said()


def test_a_backup_without_the_key_is_restored_but_for_those_values(stays, home, tmp_path):
    file = program(stays, stored=False)
    assert run("deploy", file, **CANARIES).returncode == 0
    assert run("deploy", str(write(stays.directory, PLAIN, "plain.py"))).returncode == 0
    backup = str(tmp_path / "backup")
    assert run("server", "backup", backup).returncode == 0
    assert stays.end() == 0
    (home / "secrets").rename(tmp_path / "secrets")
    assert run("server", "restore", backup).returncode == 0
    before = len(stays.said())
    stays.start()
    wait_for(lambda: "sealed" in stays.said()[before:])
    why = (
        "values given by env= or Secret.from_dict can't be read without the key that they were sealed with, which "
        f"{home}/secrets/key isn't: copy secrets/ there from where the database was, or deploy anew"
    )
    (line,) = [line for line in stays.said()[before:].splitlines() if "sealed" in line]
    assert line == f"greenroom server: shop can't start what was given values: {why}"
    assert call("fine", "plain") == '"fine"'
    assert call("pictured") == "true", "it was given none"
    assert why in call("look")
    refused = run("app", "rollback", "shop", "1")
    assert refused.returncode and why in refused.stderr

    assert run("deploy", file, **CANARIES).returncode == 0, "anew, with a key of its own"
    assert call("look") == LOOKED
    assert run("app", "rollback", "shop", "1").returncode
    shutil.rmtree(home / "secrets")
    shutil.copytree(tmp_path / "secrets", home / "secrets")
    assert run("app", "rollback", "shop", "1").returncode == 0, (
        "the old key is back, and nobody had to start anything again"
    )
    assert call("look") == LOOKED


def test_what_an_older_one_has_kept_in_clear_is_had_again(stays, home):
    file = program(stays, stored=False)
    assert run("deploy", file, **CANARIES).returncode == 0
    assert stays.end() == 0
    with closing(sqlite3.connect(home / "greenroom.db")) as connection, connection:
        ((app_id, place, text),) = connection.execute(
            "SELECT app_id, place, spec FROM functions WHERE id LIKE '%/look'"
        ).fetchall()
        spec = json.loads(text)
        assert spec.pop("sealed") and spec["environment"] == {}
        spec["environment"] = {"A": CANARIES["CANARY_A"], "B": CANARIES["CANARY_B"]}
        connection.execute(
            "UPDATE functions SET spec = ? WHERE app_id = ? AND place = ?", (json.dumps(spec), app_id, place)
        )
    stays.start()
    assert call("look") == LOOKED
    assert run("app", "rollback", "shop", "1").returncode == 0
    ((text,),) = (
        sqlite3.connect(home / "greenroom.db")
        .execute("SELECT spec FROM functions JOIN versions USING (app_id) WHERE id LIKE '%/look' AND state = 'CURRENT'")
        .fetchall()
    )
    assert CANARIES["CANARY_A"] not in text, "what is kept from now on is sealed"
    assert call("look") == LOOKED


def test_a_server_that_keeps_no_value_loads_no_cryptography(stays, home):
    def loaded() -> bool:
        return "/cryptography/" in Path(f"/proc/{stays.process.pid}/maps").read_text()

    assert run("deploy", str(write(stays.directory, PLAIN, "plain.py"))).returncode == 0
    assert (call("fine", "plain"), loaded()) == ('"fine"', False)
    assert run("run", "--detach", str(write(stays.directory, PLAIN, "plain.py")) + "::fine").returncode == 0
    assert not loaded()
    assert not (home / "secrets").exists()
    file = program(stays, stored=False)
    assert run("deploy", file, **CANARIES).returncode == 0
    assert loaded()
    stays.end()
    stays.start()
    assert (call("pictured"), loaded()) == ("true", False), "until a container wants one"
    assert (call("look"), loaded()) == (LOOKED, True)
