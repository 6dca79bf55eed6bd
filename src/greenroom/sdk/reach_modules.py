"""Which modules are the project's own, and what their import statements lead to. Imports nothing."""

import ast
import os
import sys
from collections.abc import Iterable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from greenroom.sdk.bundle import installed_directories, is_below
from greenroom.sdk.program import main_module_name
from greenroom.sdk.reach_scopes import Imported
from greenroom.sdk.reach_values import class_module, module_names


class Project:
    """The modules that travel into containers, by the bundle's own rule."""

    def __init__(self) -> None:
        self._installed = installed_directories()
        self._known: dict[int, tuple[dict[str, Any], bool]] = {}
        self.roots: list[str] = []
        """The directories that they are imported from."""

    def is_own(self, thing: Any) -> bool:
        """Whether a function or class is the project's."""
        if type(thing) is FunctionType:
            return self.owns(thing.__globals__)
        name = class_module(thing)
        module = module_of(name)
        if module is None:
            return name != "" and name.partition(".")[0] not in sys.stdlib_module_names
        return self.owns(module_names(module))

    def owns(self, names: dict[str, Any]) -> bool:
        """Whether a module is the project's.

        Args:
            names: what it holds.
        """
        if (known := self._known.get(id(names))) is not None:
            return known[1]
        path = names.get("__file__")
        if type(path) is str and os.path.isfile(path):
            own = not is_below(path, self._installed)
            if own:
                self.roots += [root for root in _roots_of(names, path) if root not in self.roots]
        else:
            # Without a file: a notebook's or a REPL's, or one that was made by hand; not one of C, nor a namespace package.
            own = names.get("__name__") == "__main__" or names.get("__spec__") is None
        self._known[id(names)] = names, own
        return own

    def path_of(self, name: str) -> str | None:
        """The file of a module of the project's that isn't imported, inside a package that travels whole; None: no such."""
        package, _, leaf = name.rpartition(".")
        if not package:
            return None
        parent = module_of(package)
        folders: list[str] = []
        if parent is not None:
            names = module_names(parent)
            if self.owns(names):
                folders = [str(folder) for folder in names.get("__path__") or ()]
        elif (path := self.path_of(package)) is not None and path.endswith("__init__.py"):
            folders = [os.path.dirname(path)]
        candidates = [
            os.path.join(folder, *end) for folder in folders for end in ((leaf, "__init__.py"), (f"{leaf}.py",))
        ]
        return next((path for path in candidates if os.path.isfile(path)), None)


def _roots_of(names: dict[str, Any], path: str) -> Iterator[str]:
    """The directory that a module is imported from, as it is written and as it really is."""
    name = str(names.get("__name__", ""))
    spec = names.get("__spec__")
    if name == "__main__" and spec is not None:
        name = str(getattr(spec, "name", name))
    depth = name.count(".") + ("__path__" in names)
    for root in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        for _ in range(depth + 1):
            root = os.path.dirname(root)
        if root != os.path.dirname(root):
            yield root


def module_of(name: str) -> ModuleType | None:
    """An imported module; the program's own by either of its names."""
    module = sys.modules.get(name)
    if module is None and name and name == main_module_name():
        module = sys.modules.get("__main__")
    return module if issubclass(type(module), ModuleType) else None


def absolute_name(imported: Imported, names: dict[str, Any]) -> str:
    """The full name of the module that an import statement names.

    Args:
        names: the module that the statement is in.
    """
    if not imported.level:
        return imported.module
    package = names.get("__package__")
    if type(package) is not str:
        package = str(names.get("__name__", ""))
        package = package if "__path__" in names else package.rpartition(".")[0]
    for _ in range(imported.level - 1):
        package = package.rpartition(".")[0]
    return ".".join(part for part in (package, imported.module) if part)


def imported_as(statements: Iterable[ast.stmt], name: str) -> Imported | None:
    """Where a name comes from, if an import is the last that gives it a value."""
    found: Imported | None = None
    for statement in statements:
        found = None
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    found = Imported(statement.module or "", alias.name, statement.level)
    return found
