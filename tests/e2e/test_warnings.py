"""What decorators warn of: once, at home, with the user's file and line."""

import pytest

from tests.e2e.programs import python, run, write

PROGRAM = """
    import greenroom
    app = greenroom.App("warns")

    class Base:
        @greenroom.enter()
        def load(self): ...

    @app.cls(max_containers=2)
    class Model(Base):
        def load(self): ...

        def __enter__(self): ...

        @greenroom.method()
        def f(self, x):
            return x

    @app.local_entrypoint()
    def main():
        print(Model().f.remote(1), list(Model().f.map([1, 2, 3])))

    if __name__ == "__main__":
        with app.run():
            main()
"""
LINE = 9


def told(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "Warning: " in line]


@pytest.mark.parametrize("how", ["file", "module", "script"])
def test_once(home, tmp_path, how):
    program = write(tmp_path, PROGRAM, "a_program.py")
    target = {"file": [str(program)], "module": ["-m", "a_program"]}
    result = python(program) if how == "script" else run("run", *target[how], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 [1, 2, 3]" in result.stdout.splitlines()
    output = told(result.stdout + result.stderr)
    assert len(output) == 2, output
    assert output[0].startswith(f"{program}:{LINE}: UserWarning: Model.load overrides a lifecycle hook")
    assert output[1].startswith(
        f"{program}:{LINE}: DeprecationWarning: Model.__enter__ as a lifecycle hook is deprecated"
    )


def test_not_where_the_user_has_said_otherwise(home, tmp_path):
    result = run("run", str(write(tmp_path, PROGRAM)), PYTHONWARNINGS="ignore")
    assert result.returncode == 0
    assert told(result.stdout + result.stderr) == []
