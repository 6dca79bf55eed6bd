"""A real notebook kernel: code by value, cells that wait and cells that don't, errors as the notebook shows them."""

import json
import re
import subprocess
import sys

from tests.conftest import assert_nothing_left
from tests.e2e.programs import environment

CELLS = [
    """
import greenroom, os
app = greenroom.App("nb")
factor = 3
""",
    """
@app.cls()
class Model:
    @greenroom.enter()
    def load(self):
        print("loading")
        self.factor = factor

    @greenroom.method()
    def times(self, x):
        return self.factor * x

    @greenroom.exit()
    def close(self):
        print("closing")


@app.function()
def inverse(x):
    return 1 / x
""",
    "run = app.run(); run.__enter__()",
    "Model().times.remote(4)",
    "await Model().times.remote(5)",
    "await Model().times.remote.aio(6)",
    "[x async for x in Model().times.map(range(3))]",
    "list(Model().times.map(range(4)))",
    "inverse.remote(0)",
    "run.__exit__(None, None, None)",
    """
@app.function()
def inverse(x):
    return "another one"


with greenroom.enable_output():
    with app.run():
        print("running")
        result = inverse.remote(0), Model().times.remote(2)
print(*result)
""",
]

RUNNER = """
import json, sys
import nbclient, nbformat

cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True).execute()
shown = []
for cell in notebook.cells:
    texts = [o.get("text") or o.get("data", {}).get("text/plain") or "\\n".join(o.get("traceback", [])) for o in cell.outputs]
    shown.append("".join(texts))
json.dump(shown, sys.stdout)
"""


def test_notebook(home, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(CELLS),
        env=environment(JUPYTER_PLATFORM_DIRS="1", HOME=str(tmp_path), NO_COLOR="1"),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", text) for text in json.loads(done.stdout)]
    assert shown[3:8] == ["12", "15", "18", "[0, 3, 6]", "[0, 3, 6, 9]"]
    assert "ZeroDivisionError: division by zero" in shown[8]
    assert "return 1 / x" in shown[8], "the user's own line, of the other process"
    assert shown[9] == ""
    lines = ["✓ nb is ready", "running", "loading", "closing", "✓ app ended", "another one 6", ""]
    assert shown[10].split("\n") == lines
    assert_nothing_left(home)
