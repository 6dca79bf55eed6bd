"""From ``FILE.py::app.name`` to the user's objects."""

import difflib
import importlib
import importlib.util
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType
from typing import Any, NamedTuple, TypeVar

from greenroom.cli.misuse import Misuse
from greenroom.sdk.app import App
from greenroom.sdk.entrypoint import LocalEntrypoint
from greenroom.sdk.function import Function
from greenroom.sdk.program import name_of_file
from greenroom.usercode import modal_alias

T = TypeVar("T")


class Found(NamedTuple):
    """What is to be run."""

    app: App
    thing: Any
    """A LocalEntrypoint, a Function, or ``(Cls, method name)``."""
    name: str


def load(target: str, as_module: bool) -> Found:
    """Import the program and find what to run.

    Raises:
        Misuse: no such file, module or name, or a syntax error.
    """
    path, _, name = target.partition("::")
    if not path:
        raise Misuse(f"{target!r} names no program: write FILE.py or pkg.mod, and ::NAME after it")
    module = import_target(path, as_module)
    return find(module, name, path)


def import_target(path: str, as_module: bool) -> ModuleType:
    """Import a file under its stem, or a module under its name.

    Raises:
        Misuse: there is none, its name can't be imported, or it has a syntax error.
    """
    modal_alias.install()
    if as_module or _is_module(path):
        return _import_module(path)
    if os.path.isdir(path):
        raise Misuse(f"{path} is a directory: name a file in it, or a package that can be imported from here")
    if not os.path.isfile(path):
        if not os.path.isabs(path):
            _needs_here(path)
        raise Misuse(f"there is no file {path}{_similar_file(path)}")
    directory, file = os.path.split(os.path.abspath(path))
    if not file.endswith(".py"):
        raise Misuse(f"{path} is no Python file: its name has to end in .py")
    name = name_of_file(path)
    if not name:
        raise Misuse(f"{file} can't be imported, for its name has more than one dot: rename it")
    if name in sys.stdlib_module_names or name in sys.modules or name in ("greenroom", "modal"):
        raise Misuse(f"{file} would hide the module {name} from everything that imports it: rename it")
    _show_deprecations(name)
    sys.path.insert(0, directory)
    path = os.path.join(directory, file)
    spec = importlib.util.spec_from_file_location(name, path, loader=_Program(name, path))
    assert spec is not None
    loader = spec.loader
    assert loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _checked(lambda: loader.exec_module(module))
    return module


class _Program(SourceFileLoader):
    """Reads a program anew each time, as ``python FILE.py`` does: byte-code is taken for that of a file that was saved again
    within a second, if that is as long as before."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _is_module(path: str) -> bool:
    if path.endswith(".py") or os.sep in path:
        return False
    return not os.path.isfile(path)


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, _needs_here(name))
    for length in range(1, name.count(".") + 2):
        part = ".".join(name.split(".")[:length])
        try:
            found = _checked(lambda part=part: importlib.util.find_spec(part))  # type: ignore[misc]
        except (ModuleNotFoundError, ValueError) as error:
            if isinstance(error, ModuleNotFoundError) and not f"{part}.".startswith(f"{error.name}."):
                raise  # the package is there, and imports something that isn't
            found = None
        if found is None:
            raise Misuse(f"there is no module {name} here; for a file, write its path with .py")
    _show_deprecations(name)
    module = _checked(lambda: importlib.import_module(name))
    if hasattr(module, "__path__") and not _apps_in(module) and importlib.util.find_spec(f"{name}.__main__"):
        return _checked(lambda: importlib.import_module(f"{name}.__main__"))  # as `python -m` has it
    return module


def _show_deprecations(name: str) -> None:
    """Python shows them of ``__main__`` alone, which a program that we import isn't. What the user has set stays."""
    if not sys.warnoptions:
        package = re.escape(name.partition(".")[0])
        warnings.filterwarnings("default", category=DeprecationWarning, module=rf"{package}(\.|\Z)")


def _apps_in(module: ModuleType) -> dict[str, App]:
    return {key: value for key, value in vars(module).items() if isinstance(value, App)}


def _needs_here(path: str) -> str:
    """The working directory, in which ``path`` is looked for."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise Misuse(f"{path} can't be found: the directory that this is run in has been deleted") from None


def _checked(run: Callable[[], T]) -> T:
    try:
        return run()
    except SyntaxError as error:
        raise Misuse("".join(traceback.format_exception_only(error)).strip()) from None


def _similar_file(path: str) -> str:
    directory = os.path.dirname(path) or "."
    names = [name for name in os.listdir(directory) if name.endswith(".py")] if os.path.isdir(directory) else []
    close = difflib.get_close_matches(os.path.basename(path), names, 1)
    return f"; did you mean {os.path.join(os.path.dirname(path), close[0])}?" if close else ""


def find(module: ModuleType, name: str, path: str) -> Found:
    """What ``name`` names in a module; ``""``: the one thing that there is to run.

    Raises:
        Misuse: there is no app, no such name, or more than one.
    """
    app, name = find_app(module, name, path)
    things = _runnable(app)
    if not name:
        return _only(app, things, path)
    if name in things:
        return Found(app, things[name], name)
    if name in app.registered_classes:
        methods = [method for method in things if method.startswith(f"{name}.")]
        if len(methods) == 1:
            return Found(app, things[methods[0]], methods[0])
        raise Misuse(f"{name} is a class: name one of its methods{_listed(methods)}")
    raise Misuse(f"{path} has no {name} to run{_choices(name, things)}")


def find_app(module: ModuleType, name: str, path: str, within: str = ".NAME") -> tuple[App, str]:
    """The app that ``name`` is in, and the name within it; ``within`` is what an example has of that.

    Raises:
        Misuse: there is none, or several could be meant.
    """
    apps = _apps_in(module)
    if not apps:
        raise Misuse(f"{path} has no app: it needs `app = greenroom.App()` at its top level")
    first, _, rest = name.partition(".")
    if first in apps:
        app, name = apps[first], rest
    else:
        app = _app_of(apps, name, path, module.__name__, within)
    if app.name is None:
        app.set_default_name(os.path.basename(path).removesuffix(".py").rpartition(".")[2])
    return app, name


def find_whole_app(module: ModuleType, name: str, path: str) -> App:
    """The app called ``name``, or the only one.

    Raises:
        Misuse: there is none, several could be meant, or ``name`` is something else.
    """
    apps = _apps_in(module)
    if apps and name and name not in apps:
        raise Misuse(f"{path} has no app {name}; this takes all of one: {', '.join(apps)}")
    return find_app(module, name, path, within="")[0]


def _app_of(apps: dict[str, App], name: str, path: str, module: str, within: str) -> App:
    """The only app, or the only one that has the name; of several, the module's own, or the one with an entry point."""
    different = list({id(app): app for app in apps.values()}.values())
    if len(different) == 1:
        return different[0]
    having = [app for app in different if not name or name in _runnable(app) or name in app.registered_classes]
    own = [app for app in having if app.module == module]
    started = [app for app in having if app.registered_entrypoints]
    for candidates in (having, own, started):
        if len(candidates) == 1:
            return candidates[0]
    raise Misuse(f"{path} has several apps ({', '.join(apps)}): name one, as in {path}::{next(iter(apps))}{within}")


def _runnable(app: App) -> dict[str, Any]:
    things: dict[str, Any] = dict(app.registered_entrypoints)
    things.update(app.registered_functions)
    for class_name, cls in app.registered_classes.items():
        for method in cls.method_names():
            things[f"{class_name}.{method}"] = (cls, method)
    return things


def _only(app: App, things: dict[str, Any], path: str) -> Found:
    """The only entry point; else the only function or method."""
    entrypoints = {name: thing for name, thing in things.items() if isinstance(thing, LocalEntrypoint)}
    functions = {name: thing for name, thing in things.items() if isinstance(thing, Function)}
    for candidates in (entrypoints, functions, things):
        if len(candidates) == 1 and (candidates is not functions or not entrypoints):
            name, thing = next(iter(candidates.items()))
            return Found(app, thing, name)
    if not things:
        raise Misuse(f"{path} has nothing to run: it needs a function with @app.local_entrypoint()")
    names = list(entrypoints or things)
    raise Misuse(f"{path} has several things to run: name one, as in {path}::{names[0]}{_listed(names)}")


def _choices(name: str, things: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, things, 1)
    return f"; did you mean {close[0]}?" if close else _listed(things)


def _listed(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"; it has {listed}" if listed else ""
