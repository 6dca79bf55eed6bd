"""From a function's spec to the user's object: paths, imports, definitions that came by value."""

import os
import sys
from typing import Any

from greenroom.model.errors import ExecutionError, InvalidError
from greenroom.model.spec import FunctionSpec
from greenroom.usercode import frames, modal_alias
from greenroom.usercode.importing import find_in, import_program
from greenroom.usercode.serialization import load


def prepare_paths(code: str, *, image: bool) -> None:
    """The program's files first on ``sys.path``, and ``import modal`` answered.

    ``image``: modules may lie in the working directory, where an image has put them.
    """
    if image and os.getcwd() != code:
        sys.path.insert(0, os.getcwd())
    if code:
        sys.path.insert(0, code)
        frames.came_from(code)
    modal_alias.install()


def load_definition(spec: FunctionSpec, definition: bytes) -> Any:
    """The raw function or class that ``spec`` names.

    Raises:
        Whatever importing the user's module raises.
        ExecutionError: the module doesn't have it.
    """
    if spec.serialized:
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        if spec.python != here:
            raise InvalidError(
                f"{spec.name} was sent by value from Python {spec.python}, and the container has {here}; "
                "use the same Python on both sides, or define it in a file"
            )
        return load(definition)
    module = import_program(spec.module)
    if spec.main_alias:
        sys.modules["__main__"] = module
    try:
        return find_in(module, spec.qualname)
    except AttributeError:
        raise ExecutionError(
            f"{spec.module} has no {spec.qualname} inside the container; "
            "is it defined under a condition that only holds at home?"
        ) from None
