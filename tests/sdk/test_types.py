"""What mypy and an editor know of a user's program: what ``.remote(…)`` takes and returns."""

import subprocess
import sys
import textwrap

PROGRAM = """
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
    from typing import TypeVar
    import greenroom

    T = TypeVar("T")

    app = greenroom.App("typed")

    @app.function(timeout=10)
    def double(x: int, *, times: int = 2) -> int:
        return x * times

    @app.function()
    async def fetch(url: str) -> bytes:
        return url.encode()

    @app.function()
    def same(x: T) -> T:
        return x

    @app.function()
    def words(n: int) -> Iterator[str]:
        yield from map(str, range(n))

    @app.function()
    def generated(n: int) -> Generator[str, None, None]:
        yield from map(str, range(n))

    @app.function()
    async def later_words(n: int) -> AsyncGenerator[str, None]:
        yield str(n)

    @app.function()
    async def iterated(n: int) -> AsyncIterator[str]:
        yield str(n)

    @app.cls(max_containers=1)
    class Model:
        size: str = greenroom.parameter(default="small")

        @greenroom.enter()
        def load(self) -> None:
            self.ready = True

        @greenroom.method()
        def predict(self, x: float) -> str:
            return str(x)

        @greenroom.method()
        async def later(self, x: int) -> list[int]:
            return [x]

        @greenroom.method()
        def same(self, x: T) -> T:
            return x

        @greenroom.method()
        def words(self, n: int) -> Iterator[str]:
            yield from map(str, range(n))

    @app.cls()
    class Custom:
        def __init__(self, a: int) -> None:
            self.a = a

        @greenroom.method()
        def get(self) -> int:
            return self.a

    @app.local_entrypoint()
    def main(n: int = 3) -> None:
        {line}
"""
RIGHT = [
    ("reveal_type(double.remote(1))", "int"),
    ("reveal_type(double.remote(1, times=3))", "int"),
    ("reveal_type(double.local(1))", "int"),
    ("reveal_type(double(1))", "int"),
    ("reveal_type(fetch.remote('x'))", "bytes"),
    ("reveal_type(fetch.remote.aio('x'))", "Coroutine[Any, Any, bytes]"),
    ("reveal_type(fetch.local('x'))", "Coroutine[Any, Any, bytes]"),
    ("reveal_type(Model().predict.remote(1.0))", "str"),
    ("reveal_type(Model().later.remote(1))", "list[int]"),
    ("reveal_type(Model().predict.spawn(1.0).get())", "str"),
    ("reveal_type(next(iter(double.map([1, 2]))))", "int"),
    ("reveal_type(same.remote(3))", "int"),
    ("reveal_type(same('x'))", "str"),
    ("reveal_type(Model().same.remote(3))", "int"),
    ("reveal_type(fetch.spawn('x').get())", "bytes"),
    ("reveal_type(next(iter(fetch.map(['x']))))", "bytes"),
    ("reveal_type(words.remote_gen(1))", "greenroom.sdk.bridge.Both[str]"),
    ("reveal_type(generated.remote_gen(1))", "greenroom.sdk.bridge.Both[str]"),
    ("reveal_type(later_words.remote_gen(1))", "greenroom.sdk.bridge.Both[str]"),
    ("reveal_type(iterated.remote_gen(1))", "greenroom.sdk.bridge.Both[str]"),
    ("reveal_type(Model().words.remote_gen(1))", "greenroom.sdk.bridge.Both[str]"),
    ("reveal_type(greenroom.FunctionCall.from_id('fc-1'))", "greenroom.sdk.function_call.FunctionCall[Any]"),
    ("reveal_type(Custom(1).get.remote())", "int"),
    ("main(3)", ""),
]
WRONG = [
    ("double.remote('x')", "arg-type"),
    ("double.remote()", "call-arg"),
    ("double.remote(1, time=3)", "call-arg"),
    ("fetch.remote.aio(3)", "arg-type"),
    ("Model().predict.remote('x')", "arg-type"),
    ("words.remote_gen('x')", "arg-type"),
    ("Model().missing", "attr-defined"),
    ("Custom('x')", "arg-type"),
    ("main('x')", "arg-type"),
    ("x: str = double.remote(1)", "assignment"),
]


def test_mypy_over_a_users_program(tmp_path):
    lines = [line for line, _ in RIGHT] + [line for line, _ in WRONG]
    program = tmp_path / "program.py"
    body = "\n        ".join(lines)
    program.write_text(textwrap.dedent(PROGRAM.replace("{line}", body)))
    first = program.read_text().splitlines().index("    " + lines[0]) + 1
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(tmp_path / "cache"),
        "--no-pretty",
        str(program),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    said: dict[int, str] = {}
    for line in result.stdout.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[1].isdigit():
            said[int(parts[1])] = said.get(int(parts[1]), "") + parts[2]
    for number, (line, revealed) in enumerate(RIGHT, first):
        if revealed:
            shown = said.pop(number).replace("builtins.", "").replace("typing.", "")
            assert f'Revealed type is "{revealed}"' in shown, (line, shown)
    for number, (line, error) in enumerate(WRONG, first + len(RIGHT)):
        assert f"[{error}]" in said.pop(number, ""), (line, result.stdout)
    assert not said, said
