"""The users of the host that a container's users are: one range for all containers, whose first is a container's root."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

SIZE = 65_536
FIRST = 0x7000_0000
"""Above what distributions give to users and to the containers of others (systemd's, by its own account)."""


def id_range(home: Path) -> int:
    """The first id of this state directory's range: the one that was chosen before, since layers belong to it; else a free one.

    Raises:
        OSError: it can't be kept in ``home``.
    """
    kept = home / "id-range"
    try:
        return int(json.loads(kept.read_text()))
    except (OSError, ValueError):
        pass  # none was chosen yet
    first = free_range([*_delegated("/etc/subuid"), *_delegated("/etc/subgid"), *_accounts()])
    temporary = home / f".id-range-{os.getpid()}"
    temporary.write_text(str(first))
    temporary.rename(kept)
    return first


def free_range(taken: Iterable[tuple[int, int]]) -> int:
    """The start of the lowest free range from there on; ``taken``: pairs of first id and count."""
    first = FIRST
    for start, count in sorted(taken):
        if start < first + SIZE and start + count > first:
            first = start + count
    return first


def _delegated(file: str) -> Iterable[tuple[int, int]]:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(":")
        if len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit():
            yield int(fields[1]), int(fields[2])


def _accounts() -> Iterable[tuple[int, int]]:
    for file in ("/etc/passwd", "/etc/group"):
        try:
            lines = Path(file).read_text().splitlines()
        except OSError:
            continue
        yield from ((int(f[2]), 1) for line in lines if len(f := line.split(":")) > 2 and f[2].isdigit())
