"""``greenroom secret``, and programs that name what it stores, through the real command line."""

import json
import os
import pty
import stat
import subprocess

import pytest

from tests.conftest import Need, assert_nothing_left
from tests.contract.registries import holding
from tests.e2e.programs import COMMAND, environment, run, start, write

CANARY = "-".join(("canary", "8e01"))


def secret(*words, given="", **extra):
    """``given``: standard input."""
    return subprocess.run(
        [*COMMAND, "secret", *words],
        env=environment(**extra),
        input=given.encode(errors="surrogateescape"),
        capture_output=True,
        timeout=60,
        check=False,
    )


def said(result):
    """The one line on stderr of what was refused."""
    assert (result.returncode, result.stdout) == (2, b"")
    (line,) = result.stderr.decode().splitlines()
    assert CANARY not in line
    assert line.startswith("greenroom: ")
    return line.removeprefix("greenroom: ")


def listed():
    result = secret("list", "--json")
    assert (result.returncode, result.stderr) == (0, b"")
    assert CANARY.encode() not in result.stdout
    return {record["name"]: record for record in json.loads(result.stdout)}


@pytest.fixture(params=["process", "crun"])
def sandbox(request, monkeypatch):
    monkeypatch.setenv("GREENROOM_SANDBOX", "process" if request.param == "process" else "oci")
    if request.param != "process":
        Need.runtime(request.param)


PROGRAM = """
    import os, sys, time
    import modal

    app = modal.App("named")

    @app.function(secrets=[modal.Secret.from_name("ours", required_keys=["TOKEN"])])
    def show(*names, wait=""):
        if wait:
            print("began", flush=True)
        while wait and not os.path.exists(wait):
            time.sleep(0.01)
        return {name: os.environ.get(name) for name in names}

    @app.local_entrypoint()
    def main(names: str):
        found = show.remote(*names.split(","))
        print(sorted((name, value and value.replace("canary", "seen")) for name, value in found.items()))
"""


def test_a_secret_is_stored_used_overwritten_and_removed(home, tmp_path, sandbox):
    assert b"no secrets: `greenroom secret create NAME KEY=VALUE` stores one" in secret("list").stderr
    made = secret("create", "ours", "TOKEN=-", "USER=me", "EMPTY=", "EQUAL=a=b", given=f"{CANARY}\n")
    assert (made.returncode, made.stdout) == (0, b"")
    assert made.stderr.decode().splitlines() == [
        "ours is stored, with EMPTY, EQUAL, TOKEN, USER",
        "a program names it: greenroom.Secret.from_name('ours', required_keys=['EMPTY', 'EQUAL', 'TOKEN', 'USER'])",
    ]
    program = write(tmp_path, PROGRAM)
    ran = run("run", str(program), "--names", "TOKEN,USER,EMPTY,EQUAL,OTHER")
    assert ran.returncode == 0, ran.stderr
    expected = [("EMPTY", ""), ("EQUAL", "a=b"), ("OTHER", None), ("TOKEN", "seen-8e01"), ("USER", "me")]
    assert ran.stdout.splitlines()[-1] == str(expected)
    record = listed()["ours"]
    assert record["keys"] == ["EMPTY", "EQUAL", "TOKEN", "USER"]
    assert record["used"] >= int(record["updated"]) == int(record["created"]) > 0
    table = secret("list").stdout.decode().splitlines()
    assert table[0].split() == ["NAME", "VARIABLES", "CREATED", "UPDATED", "USED"]
    assert table[1].startswith("ours  EMPTY, EQUAL, TOKEN, USER  2")

    assert said(secret("create", "ours", "A=1")) == "there is a stored secret ours already: --force overwrites it"
    assert b"ours is overwritten, with A" in secret("create", "ours", "A=1", "--force").stderr
    lacking = run("run", str(program), "--names", "A")
    assert lacking.returncode != 0
    assert (
        lacking.stderr.strip()
        .splitlines()[-1]
        .endswith(
            "the stored secret ours lacks TOKEN, which the program requires of it: `greenroom secret create ours --force …` "
            "with all of its variables"
        )
    )
    assert "Traceback" not in lacking.stderr

    assert said(secret("delete", "ours")) == (
        "secret delete ours: there is nobody to ask whether that is meant: add --yes"
    )
    assert secret("delete", "ours", "--yes").stderr == b"ours is removed\n"
    gone = "there is no stored secret ours: `greenroom secret create ours KEY=VALUE` makes it"
    assert said(secret("delete", "ours", "-y")) == gone
    missing = run("run", str(program), "--names", "A")
    assert missing.returncode != 0 and missing.stderr.strip().splitlines()[-1] == f"greenroom: {gone}"
    assert listed() == {}
    assert not holding(home, [CANARY])
    assert_nothing_left(home)


def test_the_value_is_seen_nowhere_while_it_is_used(home, tmp_path, sandbox):
    """Not by ``ps``, nor in any file of the state directory, and not afterwards."""
    secret("create", "ours", "TOKEN=-", given=CANARY)
    key = home / "secrets" / "key"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (key.parent, key, key.parent / "ours.secret")] == [
        0o700, 0o600, 0o600,
    ]  # fmt: skip
    signal = tmp_path / "go"
    text = PROGRAM.replace('found = show.remote(*names.split(","))', "found = show.remote('TOKEN', wait=names)")
    tmp_path.chmod(0o777)
    running = start("run", str(write(tmp_path, text)), "--names", str(signal), GREENROOM_SHARED_DIRS=str(tmp_path))
    try:
        assert running.stdout.readline() == "began\n"
        listing = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        assert "greenroom" in listing and CANARY not in listing
        assert not holding(home, [CANARY])
        containers = run("container", "list", "--json").stdout
        assert '"RUNNING"' in containers and CANARY not in containers
    finally:
        signal.touch()
        out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert "seen-8e01" in out and CANARY not in out + err
    assert not holding(home, [CANARY])
    for words in (("container", "list", "--all", "--json"), ("secret", "list", "--json")):
        assert CANARY not in run(*words).stdout


def test_from_files(home, tmp_path):
    (tmp_path / ".env").write_text(f"A=1\nexport TOKEN='{CANARY}'\nBOTH=env\n")
    (tmp_path / "v.json").write_text(json.dumps({"B": "zwei ü", "BOTH": "json"}))
    files = ("--from-dotenv", str(tmp_path / ".env"), "--from-json", str(tmp_path / "v.json"))
    assert secret("create", "ours", "BOTH=typed", "C=3", *files).returncode == 0
    assert listed()["ours"]["keys"] == ["A", "B", "BOTH", "C", "TOKEN"]
    ran = run("run", str(write(tmp_path, PROGRAM)), "--names", "A,B,BOTH,C,TOKEN")
    assert ran.stdout.splitlines()[-1] == str(
        [("A", "1"), ("B", "zwei ü"), ("BOTH", "json"), ("C", "3"), ("TOKEN", "seen-8e01")]
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["../x", "A=1"], "secret create: '../x' can't be a secret's name: "),
        (["/x", "A=1"], "secret create: '/x' can't be a secret's name: "),
        (["x"], "secret create: give at least one variable, as KEY=VALUE, or by --from-dotenv or --from-json"),
        (["x", CANARY], "secret create: argument 1 after the name is not KEY=VALUE"),
        (["x", "A=1", f"={CANARY}"], "secret create: argument 2 after the name is not KEY=VALUE"),
        (["x", "A=-", "B=-"], "secret create: A=- has read all of standard input, and there is none for B=-"),
        (["x", "--from-json", "long.json"], "secret create: A is too long: a variable can have 131072 bytes"),
        (["x", "--from-dotenv", "nowhere"], "secret create: can't read nowhere: No such file"),
        (["x", "--from-json", "nowhere"], "secret create: can't read nowhere: No such file"),
        (["x", "--from-json", "bad.json"], "secret create: bad.json is no JSON"),
        (["x", "--from-json", "list.json"], "secret create: list.json has to be an object whose values are texts"),
        (["x", "--from-json", "number.json"], "secret create: number.json has to be an object whose values are texts"),
        (["x", "--from-json", "name.json"], "secret create: '' can't be the name of an environment variable"),
        (["x", "--from-dotenv", "bad.env"], "secret create: bad.env, line 1: not NAME=value"),
    ],
)
def test_misuse(home, tmp_path, monkeypatch, words, says):
    files = {
        "bad.json": f'{{"A": "{CANARY}',
        "list.json": f'["{CANARY}"]',
        "number.json": '{"A": 1}',
        "name.json": f'{{"": "{CANARY}"}}',
        "long.json": f'{{"A": "{CANARY * 12000}"}}',
        "bad.env": f'not a line = "{CANARY}\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert said(secret("create", *words, given=CANARY)).startswith(says)
    assert not (home / "secrets").exists()


def test_standard_input_that_is_no_text(home):
    assert (
        said(secret("create", "x", "A=-", given="\udcff"))
        == "secret create: what standard input has for A is no UTF-8 text"
    )
    secret("create", "x", "A=-", given="two\r\nlines\r\n")
    assert b"A" in secret("list").stdout


def test_what_can_not_be_read_is_said_beside_what_can(home, tmp_path):
    secret("create", "good", "A=1")
    secret("create", "ours", f"TOKEN={CANARY}")
    file = home / "secrets" / "ours.secret"
    file.write_bytes(file.read_bytes()[:-9] + b'AAAAAA"}')
    result = secret("list")
    assert result.returncode == 1
    assert [line.split()[:2] for line in result.stdout.decode().splitlines()[1:]] == [["good", "A"], ["ours", "?"]]
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith(f"greenroom: the stored secret {file} is damaged, or was changed by something else")
    ran = run("run", str(write(tmp_path, PROGRAM)), "--names", "A")
    assert ran.returncode != 0 and ran.stderr.strip().splitlines()[-1] == line

    (home / "secrets" / "key").unlink()
    result = secret("list", "--json")
    assert result.returncode == 1
    assert [record["problem"].partition(",")[0] for record in json.loads(result.stdout)] == [
        "the key of the stored secrets"
    ] * 2
    assert len(result.stderr.decode().splitlines()) == 1, "once, though it is of both"
    assert "is lost, and they can't be read without it" in said(secret("create", "more", "A=1"))
    for name in ("good", "ours"):
        assert secret("delete", name, "--yes").returncode == 0
    assert secret("create", "more", "A=1").returncode == 0


def on_a_terminal(*words, typed):
    """What the command shows there, and its exit status."""
    shown = b""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(COMMAND[0], [*COMMAND, "secret", *words], environment())
    for prompt, answer in typed:
        while prompt.encode() not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, answer.encode())
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:
        pass  # nobody is on the other side any more
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_on_a_terminal_values_are_asked_for_and_not_shown(home):
    shown, status = on_a_terminal(
        "create", "ours", "TOKEN=-", "MORE=-", typed=[("TOKEN: ", f"{CANARY}\n"), ("MORE: ", f"{CANARY}\n")]
    )
    assert status == 0 and "ours is stored, with MORE, TOKEN" in shown
    assert CANARY not in shown
    shown, status = on_a_terminal("delete", "ours", typed=[("remove the secret ours? [y/N]: ", "n\n")])
    assert status == 1 and "ours" in listed()
    shown, status = on_a_terminal("delete", "ours", typed=[("remove the secret ours? [y/N]: ", "y\n")])
    assert status == 0 and listed() == {}


def test_two_commands_at_once(home):
    """Each has a server of its own; the key is made by whoever comes first."""
    commands = [
        subprocess.Popen([*COMMAND, "secret", "create", f"s{n}", "A=1"], env=environment(), stderr=subprocess.PIPE)
        for n in range(4)
    ]
    assert [command.communicate()[1] and command.returncode for command in commands] == [0] * 4
    assert sorted(listed()) == ["s0", "s1", "s2", "s3"]


def test_a_shell_has_them_too(home, tmp_path, sandbox):
    secret("create", "ours", "TOKEN=-", given=CANARY)
    program = f"{write(tmp_path, PROGRAM)}::show"
    shell = run("shell", program, "--cmd", 'printf "%s" "${#TOKEN}"')
    assert (shell.returncode, shell.stdout) == (0, str(len(CANARY))), shell.stderr
