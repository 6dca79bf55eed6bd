"""Draw the state diagrams of docs/lifecycle.md from the tables, and the pictures of docs/scaling.md from simulations.

``--check``: say whether all of them are as they would be drawn now.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from traces import pictures

from greenroom.model import container_state, image_state, input_state

HERE = Path(__file__).parent
PAGE = HERE / "lifecycle.md"
PICTURES = HERE / "pictures"


def diagram(table: Mapping[str, Mapping[str, str]]) -> str:
    first = next(iter(table))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for state, row in table.items():
        by_target: dict[str, list[str]] = {}
        for event, after in row.items():
            by_target.setdefault(str(after), []).append(str(event))
        lines += [f"    {state} --> {after}: {', '.join(events)}" for after, events in by_target.items()]
        if not row:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```"])


def drawn(text: str) -> str:
    for name, states in (("container", container_state), ("input", input_state), ("image", image_state)):
        table = states.TRANSITIONS
        pattern = rf"(<!-- {name} states -->\n).*?(<!-- end -->)"
        text = re.sub(
            pattern, lambda found, table=table: f"{found[1]}{diagram(table)}\n{found[2]}", text, flags=re.DOTALL
        )
    limits = "\n".join(f"- {state}: {limit}" for state, limit in container_state.DEADLINES.items())
    return re.sub(
        r"(<!-- container deadlines -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{limits}\n{found[2]}",
        text,
        flags=re.DOTALL,
    )


def wanted() -> dict[Path, str]:
    """What each file that is drawn should have."""
    files = {PAGE: drawn(PAGE.read_text())}
    return files | {PICTURES / name: text for name, text in pictures().items()}


def stale(files: Mapping[Path, str]) -> list[Path]:
    """Those that have something else, and pictures that nobody draws any more."""
    other = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    return other + [path for path in PICTURES.glob("*") if path not in files]


if __name__ == "__main__":
    files = wanted()
    if "--check" in sys.argv:
        names = ", ".join(str(path.relative_to(HERE.parent)) for path in stale(files))
        sys.exit(f"stale: {names}; run `make docs`" if names else 0)
    PICTURES.mkdir(exist_ok=True)
    for path in stale(files):
        if path in files:
            path.write_text(files[path])
        else:
            path.unlink()
