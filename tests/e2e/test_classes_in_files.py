"""Classes and functions of a program's files, through the real command: what travels does so by name."""

from tests.e2e.programs import run, write

PROGRAM = """
    import greenroom
    import other

    app = greenroom.App("mine")

    @app.cls()
    class C:
        p: int = greenroom.parameter(default=1)

        @greenroom.enter()
        def enter(self):
            self.entered = True

        @greenroom.method()
        def m(self):
            return self.p, self.entered

    @app.cls()
    class Made:
        def __init__(self, a: int, b: int = 2):
            self.sum = a + b

        @greenroom.method()
        def add(self, x: int):
            return self.sum + x

        @greenroom.exit()
        def close(self):
            raise RuntimeError("can't close")

    @app.function()
    def leaf(x):
        return x + 1

    @app.function()
    def here(thing):
        return thing is {"C": C, "leaf": leaf}.get(thing.__name__), thing.local(1) if thing is leaf else None

    @app.function()
    def call(thing):
        return thing.m.remote(), thing.m.local()

    @app.function()
    def call_method(method):
        return method.remote()

    @app.function()
    def make(p):
        return C(p=p)

    @app.function()
    def o(x):
        return "mine"

    @app.function()
    def calls_another(x):
        return other.o.remote(x)

    @app.function(serialized=True)
    def by_value(x):
        import sys

        return leaf.remote(x), C(p=x).m.remote(), "app" in sys.modules

    @app.local_entrypoint()
    def main():
        print(by_value.remote(6))
        print(here.remote(C), here.remote(leaf))
        print(call.remote(C(p=2)))
        print(call_method.remote(C(p=3).m))
        print(type(make.remote(4)).__name__, make.remote(4).m.remote())
        print(here.remote(make.remote(5)._cls))

    @app.local_entrypoint()
    def across():
        with other.app.run():
            print(other.o.remote(1))
            print(call_method.remote(other.here))
            print(calls_another.remote(1))
"""
OTHER = """
    import greenroom

    app = greenroom.App("theirs")

    @app.function()
    def o(x):
        return "theirs"

    @app.function()
    def here():
        return "never"
"""


def programs(tmp_path):
    write(tmp_path, OTHER, "other.py")
    return write(tmp_path, PROGRAM)


def test_they_travel_by_name(tmp_path, home):
    done = run("run", "-q", f"{programs(tmp_path)}::main", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "(7, (6, True), False)",
        "(True, None) (True, 2)",
        "((2, True), (2, True))",
        "(3, True)",
        "Obj (4, True)",
        "(True, None)",
    ]


def test_another_apps_function_is_not_mistaken_for_ones_own(tmp_path, home):
    done = run("run", "-q", f"{programs(tmp_path)}::across", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["theirs"]
    assert "here belongs to another app than this container (App('theirs'))" in done.stderr


def test_a_method_with_constructor_options_from_the_command_line(tmp_path, home):
    done = run("run", "-q", f"{programs(tmp_path)}::Made.add", "--a", "5", "--x", "10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "17"
    assert "exit hook Made.close failed:" in done.stdout + done.stderr
    assert f'File "{tmp_path}/app.py", line 30, in close' in done.stdout + done.stderr


def test_an_import_that_fails_in_the_container(tmp_path, home):
    program = write(
        tmp_path,
        """
        import greenroom

        app = greenroom.App()
        if not greenroom.is_local():
            raise LookupError("no licence here")

        @app.function()
        def f():
            return 1

        @app.local_entrypoint()
        def main():
            f.remote()
        """,
    )
    done = run("run", "-q", str(program), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "LookupError: no licence here"
    assert f'File "{program}", line 6, in <module>' in done.stderr
