"""Values that a definition reaches: literals as text, and what wrappers of all kinds carry, without running user code.

An object is asked for its type and for what C code keeps in it; never for an attribute that a class may answer with code.
"""

import functools
import os
from collections.abc import Callable, Iterable
from types import FunctionType, GetSetDescriptorType, MethodType, ModuleType
from typing import Any, NamedTuple

from greenroom.model.versions import qualname
from greenroom.sdk.cls import Cls, Obj
from greenroom.sdk.entrypoint import LocalEntrypoint
from greenroom.sdk.function import Function
from greenroom.usercode.hooks import MISSING, Method, Parameter

_WRAPPED = 3
"""How deep a library's wrapper is looked into for what it wraps."""
_MANY = 1000
"""A longer list in a library's keeping is data."""
_DEPTH = 20
"""Literals nested deeper than this are taken apart piece by piece."""
_CONTAINERS = (list, tuple, dict, set, frozenset)

mro_of: Callable[[Any], tuple[type, ...]] = type.__dict__["__mro__"].__get__
names_of: Callable[[Any], dict[str, Any]] = type.__dict__["__dict__"].__get__
bases_of: Callable[[Any], tuple[type, ...]] = type.__dict__["__bases__"].__get__
class_qualname: Callable[[Any], str] = type.__dict__["__qualname__"].__get__
_module_of: Callable[[Any], Any] = type.__dict__["__module__"].__get__
module_names: Callable[[Any], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__
_UNTOLD = frozenset({
    "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__",
    "__dataclass_fields__", "__dataclass_params__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__qualname__",
    "__static_attributes__", "__weakref__", "_abc_impl",
})  # fmt: skip
"""What Python notes of a class, which its source tells, or which differs from process to process."""


class Part(NamedTuple):
    """What a wrapper carries."""

    name: str
    value: Any
    bound: bool = False
    """It is called with an instance, or a class, as its first argument."""


def literal(value: Any, roots: Iterable[str] = (), depth: int = 0) -> str | None:
    """A literal's text, the same for equal ones in every process; None: it is no literal, or not through and through.

    Args:
        roots: directories of the project, which may lie anywhere: paths into them count from there.
    """
    kind = type(value)
    if value is None or value is Ellipsis or _is_one_of(kind, (bool, float, complex, bytes)):
        return f"{kind.__name__} {value!r}"
    if kind is int:
        return f"int {value:#x}"  # a long number's decimal form is refused
    if kind is str:
        return f"str {_without_root(value, roots)!r}"
    if not is_container(value) or depth == _DEPTH:
        return None
    parts: list[str] = []
    for item in [part for pair in value.items() for part in pair] if kind is dict else list(value):
        text = literal(item, roots, depth + 1)
        if text is None:
            return None
        parts.append(text)
    if _is_one_of(kind, (set, frozenset)):
        parts.sort()
    return f"{kind.__name__} [{', '.join(parts)}]"


def _without_root(text: str, roots: Iterable[str]) -> str:
    for root in roots:
        if text == root or text.startswith(f"{root}{os.sep}"):
            return f"<project>{text[len(root) :]}"
    return text


def _is_one_of(kind: type, kinds: Iterable[type]) -> bool:
    """As ``in``, which would ask the metaclass what it equals."""
    return any(kind is one for one in kinds)


def is_container(value: Any) -> bool:
    """Whether it is a list, tuple, dict, set or frozenset, and of no class derived from them."""
    return _is_one_of(type(value), _CONTAINERS)


def elements(container: Any) -> list[Any]:
    """What is in a container, in an order that no hash decides."""
    if type(container) is dict:
        return [part for pair in container.items() for part in pair]
    if _is_one_of(type(container), (set, frozenset)):
        return sorted(container, key=_sort_key)
    return list(container)


def _sort_key(value: Any) -> tuple[str, str, int]:
    if type(value) is FunctionType:
        return ("function", qualname(value.__code__), value.__code__.co_firstlineno)
    if issubclass(type(value), type):
        return ("class", class_qualname(value), 0)
    return (class_qualname(type(value)), literal(value) or "", 0)


def class_name(cls: type) -> str:
    """A class's qualified name, without asking its metaclass."""
    return f"{class_module(cls)}.{class_qualname(cls)}"


def class_module(cls: type) -> str:
    """The name of the module that a class says it is of."""
    try:
        module = _module_of(cls)
    except AttributeError:
        return ""
    return module if type(module) is str else ""


def member_names(cls: type, inherited: bool = True) -> list[str]:
    """The names of what was defined in a class, or in its bases too; not what Python and the decorators note there."""
    owners = mro_of(cls) if inherited else (cls,)
    return [
        name
        for owner in owners
        if owner is not object
        for name in names_of(owner)
        if type(name) is str and name not in _UNTOLD and not name.startswith("__greenroom_")
    ]


def find_member(mro: Iterable[type], name: str) -> tuple[type, Any] | None:
    """The first class that has a name, and what it has there; a private name as its class has it."""
    private = name.startswith("__") and not name.endswith("__")
    for owner in mro:
        names = names_of(owner)
        if name in names:
            return owner, names[name]
        mangled = f"_{class_qualname(owner).rpartition('.')[2].lstrip('_')}{name}"
        if private and mangled in names:
            return owner, names[mangled]
    return None


def unwrapped(value: Any) -> Any:
    """What the user wrote, of what the SDK made of it: a function, a class; anything else is itself."""
    kind = type(value)
    if kind is Function:
        return _attribute(value, "__greenroom_raw__")
    if kind is Cls:
        return _attribute(value, "__greenroom_raw__")
    if kind is LocalEntrypoint:
        return value.function
    return value


def carried(value: Any, is_own: Callable[[Any], bool]) -> list[Part] | None:
    """The functions and values that a wrapper of Python's, of the SDK's or of a library's is made of; None: it is none.

    Args:
        is_own: whether a function or class is of the project.
    """
    kind = type(value)
    if kind is staticmethod:
        return [Part("function", value.__func__)]
    if kind is classmethod:
        return [Part("function", value.__func__, bound=True)]
    if kind is property:
        return [Part(name, getattr(value, name), bound=True) for name in ("fget", "fset", "fdel")]
    if kind is functools.partial:
        return [Part("function", value.func), Part("args", value.args), Part("keywords", value.keywords)]
    if kind is Method:
        return [Part("function", value.function, bound=True)]
    if kind is Parameter:
        # The sentinel for "no default" is one object of ours, of a type that says nothing.
        return [Part("default", None if value.default is MISSING else value.default), Part("init", value.init)]
    if kind is Obj:
        made, arguments = _attribute(value, "_cls"), _attribute(value, "_arguments")
        return [Part("class", unwrapped(made)), Part("arguments", arguments)]
    if kind is MethodType:
        return [Part("function", value.__func__), Part("instance", value.__self__)]
    return _carried_by_object(value, is_own)


def _carried_by_object(value: Any, is_own: Callable[[Any], bool]) -> list[Part] | None:
    """``cached_property``, ``lru_cache``, a decorator that is a class: the project's callables among its attributes."""
    if issubclass(type(value), (type, ModuleType)):
        return None
    names = _attributes_of(value)
    held = sorted(name for name in names if type(name) is str and holds(names[name], is_own))
    return [Part(name, names[name], True) for name in held] or None


def _attributes_of(value: Any) -> dict[str, Any]:
    """What an object has for itself, unless its class answers even that with code."""
    found = find_member(mro_of(type(value)), "__dict__")
    if found is None or type(found[1]) is not GetSetDescriptorType:
        return {}
    names = found[1].__get__(value)
    return names if type(names) is dict else {}


def carried_by_function(function: FunctionType, is_own: Callable[[Any], bool]) -> list[Part]:
    """The project's callables in a library's function: what ``contextmanager`` or ``singledispatch`` has wrapped."""
    found = cells_of(function)
    if "__wrapped__" in function.__dict__:
        found["__wrapped__"] = function.__dict__["__wrapped__"]
    return [Part(name, found[name], True) for name in sorted(found) if holds(found[name], is_own)]


def cells_of(function: FunctionType) -> dict[str, Any]:
    """A closure's variables, by name."""
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            pass  # not bound yet: its function hasn't got there
    return found


def holds(value: Any, is_own: Callable[[Any], bool], depth: int = 0) -> bool:
    """Whether there is a function or class of the project's in what a library keeps."""
    value = unwrapped(value)
    kind = type(value)
    if kind is FunctionType:
        return is_own(value) or (depth < _WRAPPED and any(holds(cell, is_own, depth + 1) for cell in _kept(value)))
    if issubclass(kind, type):
        return is_own(value)
    if _is_one_of(kind, (staticmethod, classmethod, MethodType)):
        return holds(value.__func__, is_own, depth)
    if kind is functools.partial:
        return holds(value.func, is_own, depth)
    if depth < _WRAPPED and kind is functools.singledispatchmethod:
        return holds(value.func, is_own, depth + 1)
    if depth == _WRAPPED or not is_container(value) or len(value) > _MANY:
        return False
    parts = [*value, *value.values()] if kind is dict else value
    return any(holds(part, is_own, _WRAPPED) for part in parts)


def _kept(function: FunctionType) -> list[Any]:
    return [*cells_of(function).values(), function.__dict__.get("__wrapped__")]


def _attribute(value: Any, name: str) -> Any:
    return _attributes_of(value).get(name)
