"""What a build step reaches: its source, and that of everything in the project's own modules that it comes to.

The graph of what is reached is gone through from the step outwards. Each function, class or statement in it is a node,
numbered when it is first met; a node's text says what it is and where each of its names leads. So equal graphs give equal
digests, cycles end, and neither memory addresses nor paths nor module names come in.
"""

import ast
import gc
import hashlib
import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from greenroom.model.versions import qualname
from greenroom.sdk.reach_chains import Chains, Frame, Place, method_class
from greenroom.sdk.reach_code import read_code
from greenroom.sdk.reach_modules import Project, absolute_name, imported_as, module_of
from greenroom.sdk.reach_names import Reading, read_class, read_function, read_statements
from greenroom.sdk.reach_scopes import Imported
from greenroom.sdk.reach_source import Sources
from greenroom.sdk.reach_values import (
    bases_of,
    carried,
    carried_by_function,
    cells_of,
    class_module,
    class_name,
    class_qualname,
    elements,
    is_container,
    literal,
    member_names,
    module_names,
    names_of,
    unwrapped,
)

_ALWAYS = ("__new__", "__init__", "__post_init__", "__getattribute__", "__setattr__")
"""What runs for every object, whatever a hook does with it: it is made before the hook runs."""


def source_digest(function: Callable[..., Any], cls: type | None = None) -> str:
    """A digest of a function's source and of what it reaches within the project's own modules (hex, sha256).

    Literal values count by value, others by type and by the statement that made them; what is installed counts by name.
    Runs no user code.

    Args:
        function: a plain or coroutine function.
        cls: the class that it is a hook of, which is what its ``self`` is.
    """
    collects = gc.isenabled()
    # Syntax trees are many objects without cycles: to look for some in them, again and again, doubles the time.
    gc.disable()
    try:
        return _Reach().digest(function, unwrapped(cls))
    finally:
        if collects:
            gc.enable()


class _Reach:
    def __init__(self) -> None:
        self._project = Project()
        self._chains = Chains(self._project, self)
        self._numbers: dict[Hashable, int] = {}
        self._waiting: deque[Callable[[], Iterator[str]]] = deque()
        self._kept: list[Any] = []
        """What numbers were given to by identity: it must live as long as they do."""
        self._sources = Sources()
        self._docstrings: list[str] = []
        self._reads_docstrings = False

    def digest(self, function: Any, cls: type | None) -> str:
        texts = [self.label(function, cls)]
        if cls is not None:
            texts += [f"{name} {self._chains.of_object(cls, (name,))}" for name in _ALWAYS]
        while self._waiting:
            texts += self._waiting.popleft()()
            texts.append("end")
        if self._reads_docstrings:
            texts += map(repr, self._docstrings)
        return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()

    def node(self, key: Hashable, texts: Callable[[], Iterator[str]]) -> str:
        """The number of a node; met for the first time, it is gone into later."""
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._waiting.append(texts)
        return f"#{self._numbers[key]}"

    # ---- values ----

    def label(self, value: Any, bound: type | None = None, place: Place | None = None) -> str:
        """A value, as the text of a node that reaches it names it."""
        value = unwrapped(value)
        text = literal(value, self._project.roots)
        if text is not None:
            return text
        kind = type(value)
        if kind is FunctionType:
            return self.function(value, bound)
        if issubclass(kind, type):
            return self.whole_class(value)
        if issubclass(kind, ModuleType):
            return self.whole_module(module_names(value))
        if kind is BuiltinFunctionType:
            return f"builtin {value.__module__} {value.__qualname__}"
        if kind is MethodType:
            owner = value.__self__ if issubclass(type(value.__self__), type) else type(value.__self__)
            return f"method {self.label(value.__func__, owner)} of {self.label(value.__self__)}"
        inside = self._inside(value, bound)
        made_by = self.binding(place) if place is not None and not class_module(kind).startswith("greenroom.") else ""
        if inside is None:
            return f"a {self.whole_class(kind)} {made_by}"
        self._kept.append(value)
        key = ("value", id(value), id(bound))
        return f"{self.node(key, lambda: iter([self.whole_class(kind), *inside()]))} {made_by}"

    def _inside(self, value: Any, bound: type | None) -> Callable[[], Iterator[str]] | None:
        if is_container(value):
            return lambda: (self.label(part) for part in elements(value))
        parts = carried(value, self._project.is_own)
        if parts is None:
            return None
        return lambda: (f"{name} {self.label(part, bound if binds else None)}" for name, part, binds in parts)

    def whole_module(self, names: dict[str, Any]) -> str:
        """A whole module, where it is handed on and may be asked for anything."""
        if not self._project.owns(names):
            return f"module {names.get('__name__')}"
        return self.node(("module", names.get("__file__", id(names))), lambda: self._module_texts(names))

    def _module_texts(self, names: dict[str, Any]) -> Iterator[str]:
        for name in sorted(names):
            if not (name.startswith("__") and name.endswith("__")):
                yield f"{name} {self.label(names[name], place=Place(names, name))}"

    def binding(self, place: Place) -> str:
        """The statements that gave a name its value, which its type alone doesn't tell."""
        for _ in range(20):  # as often as it may be imported onwards
            file = self._sources.file(str(place.names.get("__file__", "")), place.names)
            if file is None:
                return ""
            owner = self._class_syntax(place.owner) if place.owner is not None else None
            if place.owner is not None and owner is None:
                return ""
            statements = file.bindings(owner, place.name)
            origin = imported_as(statements, place.name)
            if not statements and owner is None:
                origin = self._starred(file.bindings(None, "*"), place)
            if origin is None:
                break
            absolute = absolute_name(origin, place.names)
            module = module_of(absolute)
            if module is None or not self._project.owns(module_names(module)):
                return f"from {absolute} import {origin.attribute}"
            place = Place(module_names(module), origin.attribute)
        key = ("statement", place.names.get("__file__"), place.owner and class_qualname(place.owner), place.name)
        return self.node(key, lambda: self._texts(read_statements(statements), Frame(place.names)))

    def unimported(self, name: str) -> str:
        """A module of the project's that nobody has imported yet, so that only its file can be read: the whole of it."""
        path = self._project.path_of(name)
        if path is None or (file := self._sources.file(path)) is None:
            return f"module {name.rpartition('.')[2]}"

        def texts() -> Iterator[str]:
            reading = read_statements([file.tree])
            yield from self._note(reading)
            package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
            for imported in reading.imports:
                yield self._chains.imported(imported, (), {"__package__": package})

        return self.node(("file", path), texts)

    def _starred(self, statements: list[ast.stmt], place: Place) -> Imported | None:
        """Which ``from module import *`` a name comes from, if one of the project's modules has it."""
        for statement in statements:
            starred = imported_as([statement], "*")
            module = module_of(absolute_name(starred, place.names)) if starred is not None else None
            if starred is not None and module is not None and place.name in module_names(module):
                return starred._replace(attribute=place.name)
        return None

    # ---- functions and classes ----

    def function(self, function: FunctionType, bound: type | None) -> str:
        code = function.__code__
        self._kept.append(function)
        if not self._project.is_own(function):
            name = f"{function.__globals__.get('__name__')} {qualname(code)}"
            parts = carried_by_function(function, self._project.is_own)
            if not parts:
                return f"function {name}"
            labels = lambda: (f"{part} {self.label(held, bound)}" for part, held, _ in parts)  # noqa: E731
            return f"{name} {self.node(('value', id(function), id(bound)), labels)}"
        # Run as __main__ and imported too, a module's functions are there twice, and yet the same.
        where: Hashable = id(function)
        if function.__closure__ is None and "<" not in qualname(code):
            defaults = literal(list(function.__defaults__ or ()))
            where = (code.co_filename, code.co_firstlineno, qualname(code), defaults)
        key = ("function", where, self._class_key(bound) if bound is not None else None)
        return self.node(key, lambda: self._function_texts(function, bound))

    def _texts(self, reading: Reading, frame: Frame) -> Iterator[str]:
        yield from self._note(reading)
        for reference in reading.references:
            yield f"{reference.root} {reference.attributes} {self._chains.reference(reference, frame)}"

    def _note(self, reading: Reading) -> Iterator[str]:
        self._docstrings += reading.docstrings
        self._reads_docstrings |= reading.reads_docstrings
        yield reading.content

    def _function_texts(self, function: FunctionType, bound: type | None) -> Iterator[str]:
        file = self._sources.file(function.__code__.co_filename, function.__globals__)
        syntax = file.function(function.__code__) if file is not None else None
        if syntax is not None:
            reading = read_function(syntax, binds_self=bound is not None)
        else:
            reading = read_code(function, self._names_inside, set(member_names(bound)) if bound is not None else set())
        yield from self._texts(reading, Frame(function.__globals__, cells_of(function), bound))
        for value in function.__defaults__ or ():
            yield f"default {self.label(value)}"
        for name, value in sorted((function.__kwdefaults__ or {}).items()):
            yield f"default {name} {self.label(value)}"
        if "__wrapped__" in function.__dict__:
            wrapped = function.__dict__["__wrapped__"]
            yield f"wraps {self.label(wrapped, method_class(wrapped, bound))}"

    def _names_inside(self, value: Any) -> list[str]:
        module = module_of(value) if type(value) is str else value
        if not issubclass(type(module), ModuleType) or not self._project.owns(module_names(module)):
            return []
        return list(module_names(module))

    def _class_key(self, cls: type) -> Hashable:
        self._kept.append(cls)
        qualname = class_qualname(cls)
        module = sys.modules.get(class_module(cls))
        if "<" in qualname or module is None:
            return id(cls)
        return (module_names(module).get("__file__", id(module)), qualname, self._lines(cls))

    def _lines(self, cls: type) -> tuple[int, ...]:
        return tuple(v.__code__.co_firstlineno for v in names_of(cls).values() if type(v) is FunctionType)

    def whole_class(self, cls: type) -> str:
        """A whole class."""
        if not self._project.is_own(cls):
            return f"class {class_name(cls)}"
        return self.node(("class", self._class_key(cls)), lambda: self._class_texts(cls))

    def _class_syntax(self, cls: type) -> Any:
        module = sys.modules.get(class_module(cls))
        if module is None:
            return None
        names = module_names(module)
        file = self._sources.file(str(names.get("__file__", "")), names)
        return file.class_(class_qualname(cls), self._lines(cls)) if file is not None else None

    def _class_texts(self, cls: type) -> Iterator[str]:
        module = sys.modules.get(class_module(cls))
        names = module_names(module) if module is not None else {}
        syntax = self._class_syntax(cls)
        if syntax is not None:
            yield from self._texts(read_class(syntax), Frame(names))
        for base in bases_of(cls):
            yield f"base {self.whole_class(base)}"
        yield f"metaclass {self.whole_class(type(cls))}"
        for name in sorted(member_names(cls, inherited=False)):
            yield f"{name} {self.label(names_of(cls)[name], cls, Place(names, name, cls))}"
