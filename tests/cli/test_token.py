"""``greenroom token``, through the real command."""

import stat
import subprocess
import sys


def greenroom(*words):
    command = [sys.executable, "-m", "greenroom.cli.main", "token", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_token_is_made_listed_and_revoked(home):
    assert "no tokens" in greenroom("list").stderr
    made = dict(line.split(": ") for line in greenroom("create", "--name", "for the phone").stdout.splitlines())
    assert set(made) == {"Modal-Key", "Modal-Secret"}
    listed = greenroom("list").stdout
    assert made["Modal-Key"] in listed
    assert "for the phone" in listed
    assert made["Modal-Secret"] not in listed
    kept = home / "web-tokens.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert made["Modal-Secret"] not in kept.read_text()
    assert greenroom("revoke", made["Modal-Key"]).returncode == 0
    assert made["Modal-Key"] not in greenroom("list").stdout
    again = greenroom("revoke", made["Modal-Key"])
    assert again.returncode == 2
    assert again.stderr == f"greenroom: there is no token {made['Modal-Key']}; `greenroom token list` shows them\n"


def test_a_damaged_file_is_said(home):
    (home / "web-tokens.json").write_text('[{"id": "x"}]')
    listed = greenroom("list")
    assert listed.returncode == 2
    assert "web-tokens.json is damaged" in listed.stderr
