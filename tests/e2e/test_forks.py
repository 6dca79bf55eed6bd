"""A program that forks while calls are under way: the child's end is not the parent's."""

from tests.conftest import assert_nothing_left
from tests.e2e.programs import python, write

PROGRAM = """
    import os, sys
    import greenroom
    app = greenroom.App("forks")

    @app.function()
    def double(x):
        return x * 2

    def in_child(work):
        sys.stdout.flush()
        if (pid := os.fork()) == 0:
            work()
            sys.exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    if __name__ == "__main__":
        with app.run():
            listed, pulled = iter(double.map(range(3000))), iter(double.map(iter(range(3000))))
            values = iter(double.map(range(3)))
            assert (next(listed), next(pulled), next(values)) == (0, 0, 0)
            print(in_child(lambda: print(double.remote(21), list(double.map(iter([1]))))))
            print(sum(listed), sum(pulled), list(values), double.remote(1))
"""


def test_a_forked_child_leaves_its_parents_maps_alone(home, tmp_path):
    result = python(write(tmp_path, PROGRAM))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["42 [2]", "0", "8997000 8997000 [2, 4] 2"]
    assert_nothing_left(home)
