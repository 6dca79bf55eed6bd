"""``greenroom app logs``: what deployed apps print."""

import json
import signal
import subprocess

from greenroom.model.app_logs import file_of
from tests.cli.stays import python
from tests.conftest import wait_for
from tests.e2e.programs import COMMAND, environment, run, write

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
        "say = greenroom.Function.from_name('talks', 'say').remote\nsay('none\\rone\\n')\nsay('tw')\nsay('o\\nh\u00e9\\n')\nsay('no end')"
    )
    assert run("app", "stop", "talks").returncode == 0

    def lines(*options: str) -> "list[str]":
        return [line.partition(" | ")[2] for line in run("app", "logs", "talks", *options).stdout.splitlines()]

    wait_for(lambda: lines()[-1:] == ["no end"], what="all of it is written")
    assert lines() == ["one", "two", "h\u00e9", "no end"]
    assert lines("--grep", "^(one|two)$") == ["one", "two"]
    assert lines("--since", "1h") == lines()
    entry = json.loads(run("app", "logs", "talks", "--json").stdout.splitlines()[0])
    assert (entry["function"], entry["text"], entry["container"][:3]) == ("say", "none\rone", "ta-")
    assert lines("--container", entry["container"]) == lines()
    assert lines("--container", "ta-none") == []
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


def test_an_app_that_there_is_not_is_told_from_one_that_is_silent(plain):
    assert run("deploy", str(write(plain.directory, TALKS, "talks.py"))).returncode == 0
    for follow in ([], ["-f"]):
        done = run("app", "logs", *follow, "tokls")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "Error: nothing that tokls has printed is kept, and no app of that name is deployed; there are: talks\n"
        )
    silent = run("app", "logs", "talks")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    plain.end()
    assert run("app", "logs", "talks").stderr == "Error: nothing that talks has printed is kept here\n"


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
