"""Where the output of deployed apps lies: lines of JSON, in the order in which they came, in files of a bounded size.

A line is ``{"at": seconds since 1970, "container": id, "function": name, "text": what was printed, "end": bytes}``; the last is
how much the container had printed by the end of that line.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

DIRECTORY = "app-logs"
LIMIT = 10 * 1024**2
"""Bytes of a file from which on the next one is begun."""
OLDER = 4
"""Files that are kept beside it."""


def file_of(home: Path, app: str) -> Path:
    """The latest file of an app."""
    return home / DIRECTORY / f"{quote(app, safe='', errors='surrogatepass')}.jsonl"


def older_than(file: Path) -> Iterator[Path]:
    """Those before it, the oldest first."""
    for number in range(OLDER, 0, -1):
        yield file.with_suffix(f".{number}.jsonl")


def append(home: Path, app: str, lines: bytes) -> None:
    """Add whole lines; raises OSError. What was cut off before, by a full disk or a server's death, ends there."""
    file = file_of(home, app)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    with open(file, "a+b") as opened:
        if opened.seek(0, os.SEEK_END) and (opened.seek(-1, os.SEEK_END), opened.read(1))[1] != b"\n":
            opened.write(b"\n")
        opened.write(lines)
        size = opened.tell()
    if size >= LIMIT:
        names: list[Any] = [*older_than(file), file]
        for newer, older in zip(names[1:], names, strict=False):
            if newer.exists():
                newer.rename(older)


def printed_by(home: Path, containers: list[tuple[str, str]]) -> dict[str, int]:
    """How many bytes of each container's output are here, of ``(app, container)``; raises OSError."""
    found: dict[str, int] = {}
    for app in {app for app, _ in containers}:
        left = {container for other, container in containers if other == app}
        file = file_of(home, app)
        for path in (file, *reversed(list(older_than(file)))):
            if not left or not path.exists():
                break
            content = path.read_bytes()
            for container in list(left):
                at = content.rfind(b'"container": "%s"' % container.encode())
                if at >= 0 and (end := _END.search(content, at)):
                    found[container] = int(end[1])
                    left.discard(container)
    return found


_END = re.compile(rb'"end": (\d+)}\n')
