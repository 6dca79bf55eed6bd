"""What mypy knows of functions and classes under ``@concurrent`` and ``@batched``: as much as without them."""

import subprocess
import sys

PROGRAM = """
import greenroom

app = greenroom.App("typed")


@app.function()
@greenroom.concurrent(max_inputs=10)
async def conc(name: str, n: int = 1) -> bytes:
    return name.encode() * n


@app.function()
@greenroom.batched(max_batch_size=4, wait_ms=10)
def together(xs: list[int]) -> list[int]:
    return xs


@app.cls()
@greenroom.concurrent(max_inputs=10, target_inputs=5)
class Model:
    size: str = "small"

    @greenroom.method()
    def predict(self, x: float) -> str:
        return str(x)


reveal_type(conc.remote("right", n=2))
reveal_type(together.local([1]))
reveal_type(Model().predict.remote(1.0))
conc.remote("wrong", 3, nope=1)
conc.remote(3)
together.remote("wrong")
Model().predict.remote("wrong")
"""


def test_types_survive(tmp_path):
    (tmp_path / "typed.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "typed.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    told = [line.split(":", 2) for line in result.stdout.splitlines() if line.startswith("typed.py")]
    kinds = {int(line): text.rpartition("type is ")[2] for _, line, text in told if "Revealed type" in text}
    errors = {int(line) for _, line, text in told if text.startswith(" error")}
    first = PROGRAM.splitlines().index('reveal_type(conc.remote("right", n=2))') + 1
    assert kinds == {first: '"bytes"', first + 1: '"list[int]"', first + 2: '"str"'}, result.stdout
    assert errors == set(range(first + 3, first + 7)), result.stdout
