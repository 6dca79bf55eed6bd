"""Where a dotted chain leads: from a name, through modules and classes, to the value that counts.

Every look-up is in a dictionary: no descriptor, no ``__getattr__`` and no property is asked.
"""

import abc
import builtins
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, Protocol

from greenroom.model.versions import qualname
from greenroom.sdk.reach_modules import Project, absolute_name, module_of
from greenroom.sdk.reach_scopes import SELF, SUPER, Imported, Reference
from greenroom.sdk.reach_values import (
    class_module,
    class_name,
    class_qualname,
    find_member,
    module_names,
    mro_of,
    unwrapped,
)

_OF_MODULES = frozenset(
    {"__name__", "__file__", "__spec__", "__loader__", "__package__", "__path__", "__cached__", "__builtins__"}
)
"""These say where a module lies and how it was started."""
_ANYTHING = frozenset({"globals", "eval", "exec"})
_PLAIN_METACLASSES = (type, abc.ABCMeta)
"""A class of another may answer anything when it is asked for an attribute."""


class Place(NamedTuple):
    """Where a value was found: a name of a module's, or of a class's."""

    names: dict[str, Any]
    name: str
    owner: type | None = None


class Frame(NamedTuple):
    """Where a definition's names are looked up."""

    names: dict[str, Any]
    cells: dict[str, Any] = {}
    bound: type | None = None
    """The class of its first parameter."""


class Labels(Protocol):
    """What names the end of a chain."""

    def label(self, value: Any, bound: type | None = None, place: Place | None = None) -> str:
        """A value."""

    def whole_class(self, cls: type) -> str:
        """All of a class."""

    def whole_module(self, names: dict[str, Any]) -> str:
        """All of a module's names."""

    def unimported(self, name: str) -> str:
        """A module that nobody has imported."""


class Chains:
    """Follows references."""

    def __init__(self, project: Project, labels: Labels) -> None:
        self._project = project
        self._labels = labels

    def reference(self, reference: Reference, frame: Frame) -> str:
        """Where one leads."""
        root, attributes, imported, passes_self, stored = reference
        bound = frame.bound
        if root == SELF and bound is not None:
            return self.of_object(bound, attributes, stored=stored)
        if root == SUPER:
            owner: Any = frame.cells.get("__class__")
            if not issubclass(type(owner), type):
                return "unbound"
            start: Any = bound if bound is not None and any(kind is owner for kind in mro_of(bound)) else owner
            return self.of_object(start, attributes, above=owner)
        if stored:
            attributes = attributes[:-1]  # the rest is read
            if not attributes:
                return "stored"
        passed = bound if passes_self else None
        if imported is not None:
            return self.imported(imported, attributes, frame.names, passed)
        if root in frame.cells:
            value = frame.cells[root]
            return self._follow(value, attributes, None, passed, method_class(value, bound))
        if root in frame.names:
            return self._named(frame.names, root, attributes, passed)
        if root not in vars(builtins):
            return f"unbound {self._whole(passed)}"
        everything = self._labels.whole_module(frame.names) if root in _ANYTHING else ""
        return f"builtin {everything} {self._whole(passed or (bound if root == 'super' else None))}"

    def _whole(self, cls: type | None) -> str:
        return self._labels.whole_class(cls) if cls is not None else ""

    def imported(
        self, imported: Imported, attributes: tuple[str, ...], names: dict[str, Any], passed: type | None = None
    ) -> str:
        """What an import statement inside a definition leads to.

        Args:
            names: the module that it is in.
            passed: the class of the object that it is called with.
        """
        absolute = absolute_name(imported, names)
        module = module_of(absolute)
        if imported.attribute and imported.attribute != "*":
            attributes = (imported.attribute, *attributes)
        if module is not None:
            return self._follow(module, attributes, None, passed)
        return f"{self._unimported(absolute, attributes)} {self._whole(passed)}"

    def _unimported(self, name: str, attributes: Iterable[str]) -> str:
        """A module, and the modules below it that the attributes may be."""
        labels = [self._labels.unimported(name)]
        for attribute in attributes:
            name = f"{name}.{attribute}"
            if self._project.path_of(name) is None:
                break
            labels.append(self._labels.unimported(name))
        return " ".join(labels)

    def _named(self, names: dict[str, Any], name: str, attributes: tuple[str, ...], passed: type | None) -> str:
        if name in _OF_MODULES:
            return f"module's {name}"
        return self._follow(names[name], attributes, Place(names, name), passed)

    def _follow(
        self,
        value: Any,
        attributes: tuple[str, ...],
        place: Place | None,
        passed: type | None,
        bound: type | None = None,
    ) -> str:
        """Go from a value through attributes as far as they are certain.

        Args:
            passed: the class of the object that the end is called with.
            bound: the class of what the value is bound to, which is a member of that class's.
        """
        value = unwrapped(value)
        if attributes and issubclass(type(value), ModuleType) and self._project.owns(module_names(value)):
            return self._of_module(value, attributes, passed)
        if attributes and issubclass(type(value), type) and self._project.is_own(value):
            return self._of_class(value, attributes, passed)
        if passed is None:
            return self._labels.label(value, bound, place)
        if type(value) is FunctionType and self._project.is_own(value):
            return self._labels.label(value, passed, place)
        return f"{self._labels.label(value, bound, place)} {self._whole(passed)}"

    def _of_module(self, module: ModuleType, attributes: tuple[str, ...], passed: type | None) -> str:
        names = module_names(module)
        name, *rest = attributes
        if name in names:
            return self._named(names, name, tuple(rest), passed)
        below = f"{names.get('__name__')}.{name}"
        inner = module_of(below)
        if inner is not None:
            return self._follow(inner, tuple(rest), None, passed)
        if self._project.path_of(below) is not None:
            return f"{self._unimported(below, rest)} {self._whole(passed)}"
        answers = self._labels.label(names["__getattr__"]) if "__getattr__" in names else ""
        return f"unbound {answers} {self._whole(passed)}"

    def _of_class(self, cls: type, attributes: tuple[str, ...], passed: type | None) -> str:
        found = find_member(mro_of(cls), attributes[0])
        if found is None or not any(type(cls) is plain for plain in _PLAIN_METACLASSES):
            return f"{self._labels.whole_class(cls)} {self._whole(passed)}"
        return self._of_member(cls, found, attributes, passed)

    def of_object(self, cls: type, attributes: tuple[str, ...], above: type | None = None, stored: bool = False) -> str:
        """What an object of a class gives for attributes.

        Args:
            above: the class after which ``super()`` begins to look.
            stored: the last of them is assigned to.
        """
        if not attributes:
            return self._labels.whole_class(cls)
        name, *rest = attributes
        if name == "__class__" and above is None:
            return self._of_class(cls, tuple(rest), None) if rest else self._labels.whole_class(cls)
        if stored and rest:
            return self.of_object(cls, attributes[:-1], above)
        mro = mro_of(cls)
        found = find_member(_after(mro, above) if above is not None else mro, name)
        if stored:
            # What a hook sets hides what the class has, unless that sees to the setting itself.
            takes = found is not None and find_member(mro_of(type(found[1])), "__set__") is not None
            return self._of_member(cls, found, (name,), None) if found is not None and takes else "stored"
        if found is None:
            asked = find_member(mro, "__getattr__")
            return f"unset {self._of_member(cls, asked, (name,), None) if asked is not None else ''}"
        return self._of_member(cls, found, attributes, None)

    def _of_member(self, cls: type, found: tuple[type, Any], attributes: tuple[str, ...], passed: type | None) -> str:
        owner, value = found
        if not self._project.is_own(owner):
            return f"member of {class_name(owner)} {self._whole(passed)}"
        module = module_of(class_module(owner))
        place = Place(module_names(module) if module is not None else {}, attributes[0], owner)
        return self._follow(value, attributes[1:], place, passed, bound=cls)


def method_class(value: Any, cls: type | None) -> type | None:
    """The class that a function out of a wrapper is called with an object of: that of the method that was wrapped.

    Args:
        cls: the class of the wrapper's first parameter.
    """
    function = unwrapped(value)
    if cls is None or type(function) is not FunctionType:
        return None
    owner = qualname(function.__code__).rpartition(".")[0]
    return cls if any(class_qualname(kind) == owner for kind in mro_of(cls)) else None


def _after(mro: tuple[type, ...], above: type) -> tuple[type, ...]:
    """The classes after one of them; compared by identity, as a metaclass may compare with code."""
    return mro[next(number for number, kind in enumerate(mro, 1) if kind is above) :]
