"""``greenroom call``."""

from tests.cli.stays import python
from tests.e2e.programs import run, write


def test_calls_from_the_command_line(plain):
    plain.deploy(1)
    assert run("call", "shop", "which", "--json", "[3]").stdout == "[1, 3]\n"
    assert run("call", "shop", "which", "--json", '{"x": "é"}').stdout == '[1, "é"]\n'
    assert run("call", "shop", "Model.get").stdout == "1\n"
    assert run("call", "shop", "which", "--json", "[NaN]").stdout == "(1, nan)\n"  # which no JSON has
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

    @app.function()
    def nan():
        return [float("nan")]

    @app.function()
    def huge():
        return 10 ** 5000

    class Own: ...

    @app.function()
    def own():
        return Own()
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
        ("own", "a value arrived that needs the module 'fails', which can't be imported here"),
    ):
        failed = run("call", "fails", function)
        assert failed.returncode == 1, failed
        assert says in failed.stderr
        assert "greenroom/" not in failed.stderr


def test_what_is_no_json_is_shown_as_python_shows_it_if_it_can(plain):
    assert run("deploy", str(write(plain.directory, FAILS, "fails.py"))).returncode == 0
    assert run("call", "fails", "nan").stdout == "[nan]\n"
    failed = run("call", "fails", "huge")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("ValueError: Exceeds the limit")
    assert "greenroom/" not in failed.stderr
