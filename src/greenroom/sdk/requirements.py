"""What files of requirements and of projects say that has to be installed."""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from greenroom.model.errors import InvalidError

_INCLUDES = re.compile(r"\s*(-r|--requirements?|-c|--constraints?)[\s=]*([^\s#=]\S*)")
_EDITABLE = re.compile(r"\s*(?:-e|--editable)[\s=]*(\S+)")
_RELATIVE = re.compile(r"\s*(\.{1,2}(?:/\S*|\[\S*)?)(?:\s|$)")


def read_text(where: str, path: str) -> str:
    """A file of text; raises ``InvalidError``."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidError(f"{where}: {os.path.abspath(path)} can't be read: {what}") from None


def read_requirements(where: str, path: str, name: str) -> dict[str, str]:
    """A file of requirements by that name, with what it includes by ``-r`` in its place, and beside it what ``-c`` names.

    Raises:
        InvalidError: a file can't be read, or includes itself; or a line names a project or directory of this machine.
    """
    files: dict[str, str] = {}

    def text_of(path: str, within: tuple[str, ...]) -> str:
        whole = os.path.abspath(path)
        if whole in within:
            raise InvalidError(f"{where}: {whole} includes itself")
        lines = []
        for number, line in enumerate(read_text(where, path).splitlines(), 1):
            found = _EDITABLE.match(line) or _RELATIVE.match(line)
            if found is not None and "://" not in found[1]:
                raise InvalidError(f"{where}: line {number} of {whole} names a directory of this machine, which no image sees: "
                                   f"{line.strip()}; add_local_python_source brings modules, add_local_dir files")  # fmt: skip
            if (found := _INCLUDES.match(line)) is not None and "://" not in found[2]:
                inner = text_of(os.path.join(os.path.dirname(path), found[2]), (*within, whole))
                if found[1].strip("-").startswith("r"):
                    line = inner.rstrip("\n")
                else:
                    kept = f"{name.removesuffix('.txt')}-constraints-{len(files)}.txt"
                    files[kept] = inner
                    line = f"-c {kept}"
            lines.append(line)
        return "".join(f"{line}\n" for line in lines)

    text = text_of(path, ())
    return {name: text, **files}


def _toml(where: str, path: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            return tomllib.loads(read_text(where, path))
        except tomllib.TOMLDecodeError as error:
            raise InvalidError(f"{where}: {os.path.abspath(path)} is no TOML: {error}") from None
    raise InvalidError(f"{where}: Python 3.10 can't read TOML; begin the app where there is a newer one")


def dependencies(where: str, path: str, groups: Iterable[str]) -> list[str]:
    """What a ``pyproject.toml`` says that its project needs, with some optional groups; raises ``InvalidError``."""
    project = _toml(where, path).get("project", {})
    optional = project.get("optional-dependencies", {})
    if unknown := [group for group in groups if group not in optional]:
        raise InvalidError(f"{where}: no optional dependencies are called {', '.join(unknown)}; there are: "
                           f"{', '.join(optional) or 'none'}")  # fmt: skip
    found = [*project.get("dependencies", []), *(name for group in groups for name in optional[group])]
    if not found:
        raise InvalidError(f"{where}: it names no dependencies, in [project]")
    return found
