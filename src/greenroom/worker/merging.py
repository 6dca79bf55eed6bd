"""Files of this machine that a container is to see, merged with each other and with what its image has there.

A directory is shown whole where nothing else is in its place. Elsewhere what it holds is shown piece by piece, so that
neither hides the other; where two have one name, the later one is seen.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


def merge(wanted: Iterable[tuple[str, str]], has: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """What to show where, each as a whole: ``(source, path)``, no path below another.

    Args:
        wanted: the same, the later ones over the earlier. Sources are files, or directories without links.
        has: whether the image has a directory at a path, relative to where all paths begin.
    """
    tree: dict[str, Any] = {}
    for source, path in wanted:
        _put(tree, [part for part in path.split("/") if part not in ("", ".")], source)
    return _pieces(tree, "", has)


def each_of(directory: str | Path, path: str) -> Iterator[tuple[str, str]]:
    """``(source, path)`` of all that a directory holds, which is to be seen at ``path``."""
    for name in sorted(os.listdir(directory)):
        yield os.path.join(directory, name), f"{path}/{name}"


def directory_in(root: Path, path: str) -> os.stat_result | None:
    """What is at a path below ``root``, if it is a directory that no link leads to: a step may have put links anywhere."""
    where, found = root.resolve(), None
    for part in path.split("/"):
        where = where / part
        try:
            found = os.lstat(where)
        except OSError:
            return None
        if not stat.S_ISDIR(found.st_mode):
            return None
    return found


def _put(tree: dict[str, Any], parts: list[str], source: str) -> None:
    """A leaf of the tree is a source, and a dict stands for a directory that is shown piece by piece."""
    for part in parts[:-1]:
        tree = _opened(tree, part)
    last = parts[-1] if parts else ""
    there = tree.get(last) if parts else tree
    if not os.path.isdir(source) or not (isinstance(there, dict) or (there and os.path.isdir(there))):
        tree[last] = source
        return
    for inner, name in each_of(source, ""):
        _put(_opened(tree, last) if parts else tree, [name[1:]], inner)


def _opened(tree: dict[str, Any], name: str) -> dict[str, Any]:
    there = tree.get(name)
    if isinstance(there, dict):
        return there
    opened: dict[str, Any] = {}
    if there is not None and os.path.isdir(there):
        opened = {part[1:]: inner for inner, part in each_of(there, "")}
    tree[name] = opened
    return opened


def _pieces(tree: dict[str, Any], above: str, has: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    for name, there in tree.items():
        path = f"{above}/{name}" if above else name
        if isinstance(there, str) and not (os.path.isdir(there) and has(path)):
            yield there, path
        else:
            yield from _pieces(_opened(tree, name) if isinstance(there, str) else there, path, has)
