"""``greenroom server`` itself: one for each state directory, its store, its unit, its end."""

import contextlib
import json
import os
import shlex
import signal
import sqlite3
import subprocess
from typing import Any

import pytest

from tests.cli.stays import PROGRAM, Stays, python
from tests.conftest import assert_nothing_left, processes_of, wait_for
from tests.e2e.programs import COMMAND, environment, run, write


def test_there_is_one_at_the_most(plain):
    other = run("server")
    assert other.returncode == 2
    assert other.stderr == (
        f"greenroom: a server stays in {plain.home} already (process {plain.process.pid}); end it first, or set GREENROOM_HOME\n"
    )


def test_without_one_it_is_said_what_to_do(home, tmp_path):
    for arguments in (
        ["deploy", str(write(tmp_path, PROGRAM))],
        ["app", "stop", "x"],
        ["app", "rollback", "x"],
        ["call", "x", "f"],
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("greenroom: no server stays here")
        assert "greenroom server" in done.stderr
    assert run("app", "list").stdout == (
        "no apps run; those that are deployed are there once `greenroom server` runs\n"
    )


def test_a_store_of_a_newer_version_is_refused(home, tmp_path):
    made = Stays(home, tmp_path, "process")
    assert made.end() == 0
    with sqlite3.connect(home / "greenroom.db") as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    made.start()
    assert made.end() == 1
    assert "1000" in made.said().splitlines()[-1]


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
