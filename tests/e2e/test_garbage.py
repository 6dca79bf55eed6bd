"""Python's search for garbage is its own again, or the user's, by the time that anything of the user's waits for it."""

import gc

import pytest

from tests.conftest import Need
from tests.e2e.programs import run, write

PROGRAM = """
    import gc
    import greenroom

    app = greenroom.App("garbage")
    BEFORE = gc.get_threshold()
    OWN

    @app.cls()
    class Model:
        @greenroom.enter()
        def load(self):
            self.seen = gc.get_threshold()

        @greenroom.method()
        def get(self):
            return BEFORE, self.seen, gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()

    @app.local_entrypoint()
    def main():
        before, *rest = Model().get.remote()
        print(before != BEFORE, BEFORE, *rest, sep="; ")
"""
USUAL = str(gc.get_threshold())


@pytest.mark.parametrize("sandbox", ["process", "oci"])
@pytest.mark.parametrize(
    ("own", "then", "frozen"),
    [("", USUAL, "0"), ("gc.set_threshold(5000, 20, 30)", "(5000, 20, 30)", "0"), ("gc.freeze()", USUAL, "some")],
)
def test_it_is_rare_during_imports_alone(tmp_path, home, sandbox, own, then, frozen):
    if sandbox == "oci":
        Need.runtime("crun")
    result = run("run", str(write(tmp_path, PROGRAM.replace("OWN", own))), GREENROOM_SANDBOX=sandbox)
    assert result.returncode == 0, result.stderr
    other, here, in_hook, in_method, count, enabled = result.stdout.strip().split("; ")
    assert (other, here, in_hook, in_method, enabled) == ("True", USUAL, then, then, "True")
    assert (int(count) > 1000) == (frozen == "some")
