"""The command itself: help that fits a screen, completion, doctor, what it refuses."""

import json
import os
import subprocess

import pytest

from tests.e2e.programs import COMMAND, run, write

COMMANDS = [
    [],
    ["run"],
    ["shell"],
    ["container"],
    ["container", "list"],
    ["container", "show"],
    ["app"],
    ["server"],
    ["image"],
    ["token"],
    ["profile"],
    ["secret"],
    ["secret", "create"],
    ["secret", "list"],
    ["secret", "delete"],
    ["doctor"],
    ["completion"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_one_screen(command):
    result = run(*command, "--help")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80, result.stdout
    assert not any(line.endswith("...") for line in lines[1:]), "no summary is cut off"


def test_help_names_every_command():
    text = run("--help").stdout
    for command in ("run", "container", "secret", "doctor", "completion"):
        assert f"\n  {command} " in text


def test_version():
    import greenroom

    assert run("--version").stdout == f"greenroom {greenroom.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["ran"], "No such command"), (["run"], "Missing argument"), (["run", "--fast", "x"], "No such option")],
)
def test_misuse(arguments, says):
    result = run(*arguments)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command",
    ["run", "serve", "shell", "deploy", "call", "app list", "app history", "app rollback", "app stop", "app logs", "container list",
     "container show", "container exec", "container stop", "container logs", "secret create", "secret list", "secret delete"],
)  # fmt: skip
def test_there_is_one_namespace(command, home):
    for option in ("-e", "--env"):
        result = run(*command.split(), option, "dev", "x", "y")
        assert result.returncode == 2
        assert result.stderr.endswith(
            "Error: Invalid value for '-e' / '--env': 'dev': there is one namespace for now, and it is called main; leave it out\n"
        )
    assert "there is one namespace" in run(*command.split(), "x", "1", MODAL_ENVIRONMENT="dev").stderr
    assert "namespace" not in run(*command.split(), "-e", "main", "x", "1").stderr


@pytest.mark.parametrize("command", ["queue", "volume", "dict"])
def test_commands_of_modals_that_are_not_built(command):
    for arguments in ([], ["--help"], ["list", "--json"]):
        result = run(command, *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == f"greenroom: {command} is not built yet\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    result = run("completion", shell)
    assert result.returncode == 0
    assert "_GREENROOM_COMPLETE" in result.stdout


def test_completion_in_a_shell():
    """bash itself, with the script that we print."""
    script = """
        eval "$(greenroom completion bash)"
        COMP_WORDS=(greenroom con); COMP_CWORD=1; _greenroom_completion greenroom; echo "${COMPREPLY[@]}"
    """
    path = os.path.dirname(os.path.realpath(run.__globals__["COMMAND"][0]))
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
    )
    assert done.stdout == "container\n"


@pytest.mark.parametrize(
    ("line", "says"),
    [("image list >&-", ""), ("doctor >&-", ""), ("call a f --json - <&-", "--json is no JSON")],
)
def test_streams_that_are_closed(home, tmp_path, line, says):
    image = "greenroom.Image.host().run_commands('true')"
    text = f"import greenroom\napp = greenroom.App(image={image})\n@app.function()\ndef f(): ...\n"
    assert run("image", "build", str(write(tmp_path, text))).returncode == 0
    done = subprocess.run(["bash", "-c", f'"$0" {line}', *COMMAND], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if says else 0) and says in done.stderr and "Traceback" not in done.stderr


def test_doctor(home):
    result = run("doctor")
    assert result.returncode == 0, result.stdout
    for name in (
        "Python",
        "state directory",
        "sandbox",
        "container runtime",
        "user namespaces",
        "cgroups",
        "id ranges",
        "GPU",
    ):
        assert f" {name} " in result.stdout
    findings = {finding["name"]: finding for finding in json.loads(run("doctor", "--json").stdout)}
    assert findings["Python"]["ok"] and findings["Python"]["needed"]
    assert str(home) in findings["state directory"]["text"]
    lacking = [finding for finding in findings.values() if not finding["ok"]]
    for finding in lacking:
        assert finding["text"]
        assert f"– {finding['name']}" in result.stdout


def test_doctor_tells_what_stops_run_and_what_mends_it():
    result = run("doctor", GREENROOM_HOME="/proc/nowhere")
    assert result.returncode == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("✗")]
    assert "/proc/nowhere can't be written" in line
    assert "→  export GREENROOM_HOME=" in line
    mended = line.rpartition("GREENROOM_HOME=")[2]
    assert run("doctor", GREENROOM_HOME=mended).returncode == 0


def test_doctor_without_the_tools(home, tmp_path):
    """Each lack names one command, and what is not needed today fails nothing."""
    result = run("doctor", PATH=str(tmp_path))
    assert result.returncode == 0, result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("– overlayfs")]
    assert line.endswith("→  apt-get install util-linux")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("– image tools")]
    assert "no skopeo," in line and "uv" not in line, "it is beside the interpreter, where builds look for it too"


NAMED = """
    import os
    import greenroom
    app = greenroom.App("named")

    @app.local_entrypoint()
    def main():
        print(os.environ["GREENROOM_SANDBOX"], os.environ["GREENROOM_RUNTIME"] or "-")
"""


@pytest.mark.parametrize(
    ("options", "environ", "chosen"),
    [
        ([], {}, "auto -"),
        ([], {"GREENROOM_SANDBOX": "process"}, "process -"),
        (["--sandbox", "auto"], {"GREENROOM_SANDBOX": "process"}, "auto -"),
        (["--sandbox", "process"], {"GREENROOM_SANDBOX": "oci"}, "process -"),
        (["--sandbox", "process"], {"GREENROOM_RUNTIME": "sh"}, "process -"),
        (["--runtime", "sh"], {"GREENROOM_SANDBOX": "process"}, "auto sh"),
        (["--sandbox", "oci"], {"GREENROOM_RUNTIME": "sh"}, "oci sh"),
    ],
)
def test_the_sandbox_that_is_chosen(home, tmp_path, monkeypatch, options, environ, chosen):
    """``sh`` stands in for a runtime: nothing is started."""
    for name in ("GREENROOM_SANDBOX", "GREENROOM_RUNTIME"):
        monkeypatch.delenv(name, raising=False)
    result = run("run", "-q", *options, str(write(tmp_path, NAMED)), **environ)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{chosen}\n", "")


@pytest.mark.parametrize(
    ("options", "environ", "says"),
    [
        (["--sandbox", "jail"], {}, "'jail' is not one of"),
        ([], {"GREENROOM_SANDBOX": "jail"}, "'jail' is not one of"),
        (["--runtime", "no-such-runtime"], {}, "there is no no-such-runtime here"),
        ([], {"GREENROOM_RUNTIME": "/no/such"}, "there is no /no/such here"),
        (["--sandbox", "process", "--runtime", "sh"], {}, "leave one out"),
    ],
)
def test_sandboxes_that_can_not_be(home, tmp_path, options, environ, says):
    result = run("run", *options, str(write(tmp_path, NAMED)), **environ)
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
