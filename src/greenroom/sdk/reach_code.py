"""Functions without source (a REPL's, ``exec``'s, generated ones): their code objects in its place."""

import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

from greenroom.sdk.reach_names import Reading
from greenroom.sdk.reach_scopes import SELF, Imported, Reference
from greenroom.sdk.reach_values import literal


def read_code(function: FunctionType, names_in: Callable[[Any], list[str]], members: set[str]) -> Reading:
    """Read a function's code object, and those inside it.

    It says which names occur, not which is an attribute of which: more may count than is reached, never less.

    Args:
        names_in: what can be reached in a global of that value by attribute, if it is a module of the project's.
        members: what can be reached by attribute of the first parameter.
    """
    docstring = function.__doc__ if type(function.__doc__) is str else None
    tokens: list[str] = []
    names: dict[str, None] = {}
    for code in _codes(function.__code__):
        constants = code.co_consts
        if code is function.__code__ and docstring is not None and constants and constants[0] is docstring:
            constants = constants[1:]
        kept = [literal(constant) or "code" for constant in constants]
        tokens.append(f"{code.co_name} {code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount}")
        tokens.append(f"{code.co_flags} {code.co_code!r} {kept}")
        if sys.version_info >= (3, 11):
            tokens.append(repr(code.co_exceptiontable))
        tokens.append(f"{code.co_names} {code.co_varnames} {code.co_cellvars} {code.co_freevars}")
        names.update(dict.fromkeys((*code.co_freevars, *code.co_names)))
    references: list[Reference] = []
    for name in names:
        if name in members:
            references.append(Reference(SELF, (name,)))
        if name in function.__code__.co_freevars or name in function.__globals__:
            inside = names_in(function.__globals__.get(name))
            references += [Reference(name, (part,)) for part in inside if part in names]
            if not inside:
                references.append(Reference(name))
        references += [Reference(name, (part,), Imported(name)) for part in names_in(name) if part in names]
    return Reading("\n".join(tokens), references, [], [docstring] if docstring else [], "__doc__" in names)


def _codes(code: CodeType) -> Iterator[CodeType]:
    waiting = [code]
    while waiting:
        code = waiting.pop()
        yield code
        waiting += [constant for constant in code.co_consts if type(constant) is CodeType]
