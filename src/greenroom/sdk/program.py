"""What a function's program is: a file, a module, or something without a file (a notebook, a REPL)."""

import os
import sys
import threading
from typing import Any

from greenroom.model.errors import InvalidError
from greenroom.sdk.codec import encode
from greenroom.usercode.importing import find_in, import_program
from greenroom.wire.payload import Payload


def needs_value(definition: Any) -> bool:
    """Whether a function or class can only travel by value: it was defined where no file is."""
    if definition.__module__ != "__main__":
        return False
    return main_module_name() == ""


def main_module_name() -> str:
    """The name under which ``__main__``'s file can be imported elsewhere; ``""`` where it is none."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name and spec.name != "__main__":
        return str(spec.name)
    path = getattr(main, "__file__", None)
    if not path or not path.endswith(".py") or not os.path.isfile(path):
        return ""
    return name_of_file(path)


def name_of_file(path: str) -> str:
    """The name under which a program's file is imported: its stem; ``""`` where that can't be one, for it has a dot.

    The ``__main__.py`` of a directory that is run (``python directory``) is called after the directory.
    """
    directory, file = os.path.split(os.path.abspath(path))
    stem = os.path.splitext(file)[0]
    if stem == "__main__":
        stem = f"{os.path.basename(directory).replace('.', '_')}__main__"
    return "" if "." in stem else stem


def module_name(definition: Any) -> str:
    """The module to import for a function or class inside a container."""
    if definition.__module__ != "__main__":
        return str(definition.__module__)
    name = main_module_name()
    if name and name not in sys.modules:
        # What containers send back is named by this module; it must not be imported a second time.
        sys.modules[name] = sys.modules["__main__"]
    return name


def check_importable(definition: Any) -> None:
    """Raise ``InvalidError`` unless a container can find it in its module."""
    if "<" not in definition.__qualname__:
        return
    what = "a lambda" if definition.__qualname__.endswith("<lambda>") else "defined inside a function"
    raise InvalidError(
        f"{definition.__qualname__} is {what}, where no container can import it: add serialized=True, or define it at "
        "the top level of its module (a decorator of your own needs functools.wraps)"
    )


_by_value = threading.RLock()
_defining_by_value = False
"""What a definition that travels by value refers to must need no module either."""


def reference(thing: Any) -> tuple[str, str] | None:
    """Module and name under which a Function or Cls is found again where its program's files are; None: nowhere."""
    module = thing.__module__
    if _defining_by_value or needs_value(thing):
        return None
    try:
        found = find_in(sys.modules[module], thing.__qualname__)
    except (AttributeError, KeyError):
        return None
    return (module_name(thing), thing.__qualname__) if found is thing else None


def find_reference(module: str, qualname: str) -> Any:
    """What :func:`reference` referred to."""
    return find_in(import_program(module), qualname)


def by_value_definition(definition: Any) -> Payload:
    """A function or class as a cloudpickle, whatever module it is of.

    Raises:
        InvalidError: cloudpickle isn't installed.
        SerializationError: it refers to what can't be pickled.
    """
    global _defining_by_value
    try:
        import cloudpickle
    except ImportError:
        raise InvalidError(
            f"{definition.__qualname__} is sent by value, which needs cloudpickle: pip install cloudpickle"
        ) from None
    module = sys.modules.get(definition.__module__)
    # Both are for the whole process, and two threads may start apps at once.
    with _by_value:
        register = module is not None and definition.__module__ != "__main__"
        if register:
            cloudpickle.register_pickle_by_value(module)
        _defining_by_value = True
        try:
            return encode(definition, by_value=True)
        finally:
            _defining_by_value = False
            if register:
                cloudpickle.unregister_pickle_by_value(module)
