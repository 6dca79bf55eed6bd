"""Importing the user's modules inside a container, and finding in them what is named."""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from greenroom.usercode.context import StopImport

_depth = 0


def is_importing() -> bool:
    """Whether a program's top level runs now."""
    return _depth > 0


def is_imported_anew() -> bool:
    """Whether multiprocessing imports the program's main module once more, in a process that it starts."""
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and getattr(processes.current_process(), "_inheriting", False)


def import_program(name: str) -> ModuleType:
    """Import the user's module, up to where it would run an app itself."""
    global _depth
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r} among the program's files", name=name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _depth += 1
    try:
        spec.loader.exec_module(module)
    except StopImport:
        pass  # the program's own `with app.run():` at its top level
    except BaseException:
        sys.modules.pop(name, None)
        raise
    finally:
        _depth -= 1
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def find_in(module: ModuleType, qualname: str) -> Any:
    """What a module has under a dotted name; raises ``AttributeError``."""
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
