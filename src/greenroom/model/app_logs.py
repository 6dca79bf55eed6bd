"""Where the output of deployed apps lies: lines of JSON, in the order in which they came, in files of a bounded size.

A line is ``{"at": seconds since 1970, "container": id, "function": name, "text": what was printed, "end": bytes}``; the last is
how much the container had printed by the end of that line.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from greenroom.model.errors import NotFoundError

DIRECTORY = "app-logs"
LIMIT = 10 * 1024**2
"""Bytes of a file from which on the next one is begun."""
OLDER = 4
"""Files that are kept beside it."""
BLOCK = 512 * 1024
"""Bytes that are read at once."""


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


def read_on(home: Path, app: str, place: list[int]) -> tuple[bytes, list[int]]:
    """What follows a place, at most ``BLOCK`` bytes, and the place after it: whole lines, but of one that is longer than that.

    Another process may add lines meanwhile, and begin the next file.

    Args:
        place: as it was returned; ``[]``: where the oldest file that is kept begins.

    Raises:
        NotFoundError: nothing of that app is kept, and ``place`` is ``[]``.
    """
    with contextlib.ExitStack() as stack:
        files = _opened(file_of(home, app), stack)
        if not files and not place:
            raise NotFoundError(f"nothing that {app[:100]} has printed is kept")
        inodes = list(files)
        inode, offset = place or (0, 0)
        if inode not in files:
            inode, offset = inodes[0] if inodes else 0, 0  # it is kept no more: what is oldest comes next
        for following in inodes[inodes.index(inode) :] if inodes else ():
            if following != inode:
                inode, offset = following, 0
            if data := os.pread(files[inode].fileno(), BLOCK, offset):
                whole = data.rfind(b"\n") + 1 or len(data)
                return data[:whole], [inode, offset + whole]
        return b"", [inode, offset]


def _opened(file: Path, stack: contextlib.ExitStack) -> dict[int, BinaryIO]:
    """The files that there are, the oldest first, as they were at one moment; by their inodes."""
    paths = [*older_than(file), file]
    while True:
        files: dict[int, BinaryIO] = {}
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                opened = stack.enter_context(open(path, "rb", buffering=0))
                files[os.fstat(opened.fileno()).st_ino] = opened
        if list(files) == list(filter(None, map(_inode, paths))):
            return files
        stack.close()  # they moved on meanwhile


def _inode(path: Path) -> int:
    """0: it isn't there."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


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
