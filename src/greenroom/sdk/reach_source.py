"""The syntax of the project's files, as they are now, and where in them functions, classes and names are defined."""

import ast
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import CodeType
from typing import Any

from greenroom.model.versions import qualname

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_PARSES = 20  # other threads that parse outside of us may be in the way this often
_parsing = threading.Lock()  # keeps ours out of each other's


class Sources:
    """Files, each read and parsed once; made anew for each digest, so that an edit between two is seen."""

    def __init__(self) -> None:
        self._files: dict[str, File | None] = {}

    def file(self, path: str, module: dict[str, Any] | None = None) -> "File | None":
        """A file's syntax; None: there is none, or it isn't Python.

        Args:
            module: the names of the module that it is of, whose loader may have the text of what is no file.
        """
        if path not in self._files:
            self._files[path] = _parse(path, module)
        return self._files[path]


def _parse(path: str, module: dict[str, Any] | None) -> "File | None":
    text: str | bytes
    try:
        with open(path, "rb") as file:
            text = file.read()
    except (OSError, ValueError):
        # A notebook's cell, or a module in an archive. Files are never asked of linecache, which may know an old one.
        import linecache

        linecache.checkcache(path)
        text = "".join(linecache.getlines(path, module))
    if not text:
        return None
    try:
        return File(_syntax(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _syntax(text: str | bytes) -> ast.Module:
    """As ast.parse does it, whatever other threads parse.

    CPython before 3.13 counts the depth of a tree in one place for all threads (gh-106905), and a garbage collection in
    mid-parse lets another thread in: then it raises SystemError for good text.
    """
    for _ in range(_PARSES):
        with suppress(SystemError), _parsing:
            return ast.parse(text)
    return ast.parse(text)


class File:
    """A file's syntax, indexed."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self._by_name: dict[str, list[Any]] = {}
        self._lambdas: dict[int, list[ast.Lambda]] | None = None
        self._bindings: dict[str, dict[str, list[ast.stmt]]] = {}
        waiting: list[tuple[ast.AST, str]] = [(tree, "")]
        while waiting:
            node, inside = waiting.pop()
            for part in _statements(node):
                if isinstance(part, (*_FUNCTIONS, ast.ClassDef)):
                    name = f"{inside}{part.name}"
                    self._by_name.setdefault(name, []).append(part)
                    waiting.append((part, f"{name}." if isinstance(part, ast.ClassDef) else f"{name}.<locals>."))
                else:
                    waiting.append((part, inside))

    def function(self, code: CodeType) -> Any:
        """The ``def`` or ``lambda`` that a code object was compiled of; None: not found.

        Where the file was edited since, the one that has the name now: that is the one that travels.
        """
        if code.co_name == "<lambda>":
            return self._lambda(code)
        found = [node for node in self._by_name.get(qualname(code), ()) if isinstance(node, _FUNCTIONS)]
        at_line = [node for node in found if _first_line(node) == code.co_firstlineno]
        return (at_line or found)[-1] if found else None

    def _lambda(self, code: CodeType) -> ast.Lambda | None:
        if self._lambdas is None:
            self._lambdas = {}
            for node in ast.walk(self.tree):
                if isinstance(node, ast.Lambda):
                    self._lambdas.setdefault(node.lineno, []).append(node)
        found = self._lambdas.get(code.co_firstlineno, [])
        if len(found) > 1 and sys.version_info >= (3, 11):
            # What it returns has the place of its body, in columns too.
            places = set(code.co_positions())
            found = [node for node in found if _place(node.body) in places]
        return found[0] if len(found) == 1 else None

    def class_(self, qualname: str, lines: Iterable[int]) -> ast.ClassDef | None:
        """The ``class`` of a name; of several, one that has code in ``lines``, else the last."""
        found = [node for node in self._by_name.get(qualname, ()) if isinstance(node, ast.ClassDef)]
        lines = list(lines)
        at_line = [node for node in found if any(node.lineno <= line <= (node.end_lineno or 0) for line in lines)]
        return (at_line or found)[-1] if found else None

    def bindings(self, owner: ast.ClassDef | None, name: str) -> list[ast.stmt]:
        """The statements of the module's top level, or of a class's, that give a name its value."""
        place = f"{owner.lineno}" if owner is not None else ""
        if place not in self._bindings:
            index: dict[str, list[ast.stmt]] = {}
            for statement in _top_level(owner or self.tree):
                for bound in dict.fromkeys(_bound_by(statement)):
                    index.setdefault(bound, []).append(statement)
            self._bindings[place] = index
        return self._bindings[place].get(name, [])


def _statements(node: ast.AST) -> Iterator[Any]:
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        parts = getattr(node, field, None)
        if isinstance(parts, list):
            yield from parts


def _top_level(owner: ast.AST) -> Iterator[ast.stmt]:
    waiting = [*reversed(list(_statements(owner)))]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.stmt):
            yield part
        if not isinstance(part, (*_FUNCTIONS, ast.ClassDef)):
            waiting.extend(reversed(list(_statements(part))))


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    targets: list[ast.AST] = []
    match statement:
        case ast.Assign():
            targets = [*statement.targets]
        case ast.AnnAssign() | ast.AugAssign() | ast.For() | ast.AsyncFor():
            targets = [statement.target]
        case ast.With() | ast.AsyncWith():
            targets = [item.optional_vars for item in statement.items if item.optional_vars is not None]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import() | ast.ImportFrom():
            yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    for target in targets:
        yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def _first_line(node: Any) -> int:
    return int(node.decorator_list[0].lineno if node.decorator_list else node.lineno)


def _place(node: Any) -> tuple[int, int, int, int]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset
