"""Draw the state diagrams of docs/lifecycle.md from the tables. ``--check``: say whether they are as the tables are."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from greenroom.model import container_state, image_state, input_state

PAGE = Path(__file__).parent / "lifecycle.md"


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


if __name__ == "__main__":
    before = PAGE.read_text()
    after = drawn(before)
    if "--check" in sys.argv:
        sys.exit(before != after and "docs/lifecycle.md is stale: run `make docs`")
    PAGE.write_text(after)
