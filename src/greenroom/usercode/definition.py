"""Reading what the decorators recorded: which hooks a class has, in which order, and what is wrong with it."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from greenroom.model.errors import InvalidError
from greenroom.usercode.code import is_async, is_generator, required_parameters
from greenroom.usercode.context import is_local
from greenroom.usercode.hooks import (
    MISSING,
    Batched,
    Concurrent,
    Marks,
    Method,
    Parameter,
    Web,
    marks_of,
)

PARAMETER_TYPES: dict[Any, type] = {kind: kind for kind in (str, int, bool, bytes)} | {
    kind.__name__: kind for kind in (str, int, bool, bytes)
}
_LEGACY = {"__enter__": "enter", "__aenter__": "enter", "__exit__": "exit", "__aexit__": "exit"}


class ParameterInfo(NamedTuple):
    """One constructor parameter."""

    name: str
    type: type
    default: Any
    init: bool

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.init and self.default is MISSING


class ClassDefinition(NamedTuple):
    """A class, as its decorators describe it. Hooks are method names, in the order in which they run."""

    cls: type
    methods: dict[str, Method]
    enter_snap: list[str]
    enter: list[str]
    exit: list[str]
    build: list[str]
    legacy: dict[str, str]
    """Deprecated dunder hooks among ``enter`` and ``exit``, and the decorator to use."""
    parameters: dict[str, ParameterInfo]
    web: dict[str, Web]
    concurrent: Concurrent | None
    batched: Batched | None
    needs_loop: bool

    @property
    def has_constructor(self) -> bool:
        """Whether the class has an ``__init__`` of its own."""
        return self.cls.__init__ is not object.__init__  # type: ignore[misc]

    @property
    def needs_arguments(self) -> bool:
        """Whether no instance can be made without any."""
        if self.has_constructor:
            return bool(required_parameters(self.cls.__init__, skip=1))  # type: ignore[misc]
        return any(info.required for info in self.parameters.values())


class FunctionDefinition(NamedTuple):
    """A function, as its decorators describe it."""

    function: Callable[..., Any]
    is_async: bool
    is_generator: bool
    web: Web | None
    concurrent: Concurrent | None
    batched: Batched | None


def describe_class(
    cls: Any,
    *,
    enable_memory_snapshot: bool = False,
    retries: bool = False,
    unbatchable: str = "",
    warn: bool = False,
) -> ClassDefinition:
    """Read a class.

    Args:
        unbatchable: an option of its that goes with no ``@batched`` method.
        warn: warn of what is deprecated or surprising, unless this is a container: it has been said at home.

    Raises:
        InvalidError: it isn't a class, or its decorators contradict each other.
    """
    if not isinstance(cls, type):
        raise InvalidError(f"@app.cls goes on a class, not on {_describe(cls)}: use @app.function for a function")
    warn = warn and is_local()
    members = _members(cls)
    hooks = {name: marks for name, (marks, _) in members.items() if marks.is_hook}
    if warn:
        _warn_of_overrides(cls, hooks)
    legacy = {
        name: kind
        for name, kind in _LEGACY.items()
        if callable(found := getattr(cls, name, None)) and not marks_of(found).is_hook
    }
    if warn:
        for name, kind in legacy.items():
            warnings.warn(
                f"{cls.__name__}.{name} as a lifecycle hook is deprecated: decorate a method with @{kind}() instead",
                DeprecationWarning,
                stacklevel=4,
            )
    current = {name: marks for name, marks in hooks.items() if marks_of(getattr(cls, name, None)).is_hook}
    enter_snap = [name for name, marks in current.items() if marks.enter and marks.enter_snap]
    enter = [name for name, marks in current.items() if marks.enter and not marks.enter_snap]
    enter += [name for name, kind in legacy.items() if kind == "enter"]
    exits = [name for name, marks in current.items() if marks.exit]
    exits = [*[name for name, kind in legacy.items() if kind == "exit"], *reversed(exits)]
    methods = {name: _as_method(name, found) for name, (marks, found) in members.items() if _is_method(marks, found)}
    web = {name: marks.web for name, (marks, _) in members.items() if marks.web is not None}
    batched = next((found.marks.batched for found in methods.values() if found.marks.batched), None)
    generators = any(found.is_generator for found in methods.values())
    parameters = _parameters(cls)
    own = vars(cls).get("__greenroom_marks__")
    called = [getattr(cls, name) for name in (*enter_snap, *enter, *exits)]
    definition = ClassDefinition(
        cls,
        methods,
        enter_snap,
        enter,
        exits,
        [name for name, marks in current.items() if marks.build is not None],
        legacy,
        parameters,
        web,
        own.concurrent if isinstance(own, Marks) else None,
        batched,
        any(map(is_async, called)) or any(found.is_async for found in methods.values()),
    )
    _check_class(definition, enable_memory_snapshot)
    _check_batched(cls.__name__, definition, unbatchable or ("is_generator=" if generators else ""))
    if retries and web:
        raise InvalidError(_retries_of_web(f"{cls.__name__}.{next(iter(web))}"))
    return definition


def _members(cls: type) -> dict[str, tuple[Marks, Any]]:
    """What is marked, base classes first; an override keeps the place of what it overrides."""
    members: dict[str, tuple[Marks, Any]] = {}
    for owner in reversed(cls.__mro__):
        for name, found in sorted(vars(owner).items(), key=lambda item: marks_of(item[1]).order):
            if isinstance(found, Method):
                members[name] = (found.marks, found)
            elif (marks := marks_of(found)) != Marks() and not isinstance(found, type):
                members[name] = (marks, found)
            elif name in members:
                old, kept = members[name]
                if old.is_hook:
                    continue  # an undecorated override: see _warn_of_overrides
                if isinstance(kept, Method):
                    del members[name]
    return members


def _is_method(marks: Marks, found: Any) -> bool:
    return isinstance(found, Method) or marks.batched is not None


def _as_method(name: str, found: Any) -> Method:
    """``@batched`` makes a method by itself, but can't see whether it is on one."""
    if isinstance(found, Method):
        return found
    made = Method(found)
    made.name = name
    return made


def _warn_of_overrides(cls: type, hooks: dict[str, Marks]) -> None:
    for name in hooks:
        if not marks_of(getattr(cls, name, None)).is_hook:
            warnings.warn(
                f"{cls.__name__}.{name} overrides a lifecycle hook without a decorator, so it is no hook any more; "
                "decorate it too, or give it another name",
                UserWarning,
                stacklevel=5,
            )


def _parameters(cls: type) -> dict[str, ParameterInfo]:
    found: dict[str, ParameterInfo] = {}
    for owner in reversed(cls.__mro__):
        annotations = vars(owner).get("__annotations__", {})
        for name, value in vars(owner).items():
            if not isinstance(value, Parameter):
                continue
            where = f"{owner.__name__}.{name}"
            if name not in annotations:
                raise InvalidError(f"{where} = parameter() lacks its annotation: write {name}: str = parameter()")
            kind = PARAMETER_TYPES.get(annotations[name])
            if kind is None:
                raise InvalidError(
                    f"{where} is annotated {_describe(annotations[name])}: a parameter is a str, int, bool or bytes"
                )
            if value.default is not MISSING and type(value.default) is not kind:
                raise InvalidError(f"{where} is {a(kind)}; its default {value.default!r} is not")
            found[name] = ParameterInfo(name, kind, value.default, value.init)
    return found


def _check_class(definition: ClassDefinition, enable_memory_snapshot: bool) -> None:
    name = definition.cls.__name__
    if definition.parameters and definition.has_constructor:
        raise InvalidError(
            f"{name} has an __init__ beside parameter(): keep one; set what __init__ sets in an @enter() hook"
        )
    if definition.enter_snap and not enable_memory_snapshot:
        hook = definition.enter_snap[0]
        raise InvalidError(f"{name}.{hook} is enter(snap=True): add enable_memory_snapshot=True to @app.cls")
    if definition.build and definition.has_constructor and definition.needs_arguments:
        raise InvalidError(
            f"{name}.{definition.build[0]} is a @build hook, which runs without constructor arguments, and {name}.__init__ "
            "needs some: give them defaults, or use parameter()"
        )
    if definition.batched and len(definition.methods) + len(definition.web) > 1:
        raise InvalidError(
            f"{name} has other methods beside its @batched one: a batched method stands alone in its class"
        )


def _check_batched(name: str, definition: "ClassDefinition | FunctionDefinition", unbatchable: str) -> None:
    if definition.batched and definition.concurrent:
        raise InvalidError(f"{name} is both @batched and @concurrent: choose one")
    if definition.batched and unbatchable:
        raise InvalidError(f"{name} is @batched, which does not go with {unbatchable}: leave that out")


def describe_function(
    function: Any, *, schedule: bool = False, retries: bool = False, unbatchable: str = ""
) -> FunctionDefinition:
    """Read a function.

    Args:
        unbatchable: an option of its that goes with no ``@batched``.

    Raises:
        InvalidError: it is a class, a method or a hook, or its decorators contradict each other.
    """
    if isinstance(function, type):
        raise InvalidError(f"@app.function on the class {function.__name__}: use @app.cls")
    if isinstance(function, Method):
        raise InvalidError(f"@app.function on the method {function.__qualname__}: use @app.cls on its class")
    if isinstance(function, (staticmethod, classmethod)) or not callable(function):
        raise InvalidError(f"@app.function goes on a function, not on {_describe(function)}")
    marks = marks_of(function)
    qualname = getattr(function, "__qualname__", "")
    if marks.is_hook:
        raise InvalidError(f"@app.function on {qualname}, which is a lifecycle hook: use @app.cls on its class")
    if "." in qualname.rpartition("<locals>.")[2]:
        raise InvalidError(
            f"@app.function on {qualname}, a method: use @app.cls on the class and @method() on the method"
        )
    if schedule and (required := required_parameters(function)):
        raise InvalidError(
            f"{qualname} has a schedule and needs {', '.join(required)}: a schedule calls it without arguments"
        )
    if schedule and marks.web is not None:
        raise InvalidError(f"{qualname} is a web endpoint with a schedule: give the schedule a function of its own")
    if schedule and is_generator(function):
        raise InvalidError(f"{qualname} is a generator with a schedule: nobody would take what it yields")
    if retries and marks.web is not None:
        raise InvalidError(_retries_of_web(qualname))
    definition = FunctionDefinition(
        function, is_async(function), is_generator(function), marks.web, marks.concurrent, marks.batched
    )
    _check_batched(qualname, definition, unbatchable)
    return definition


def _retries_of_web(name: str) -> str:
    return f"{name} is a web endpoint with retries=: the caller of a URL retries, leave them out"


def a(kind: type) -> str:
    """A type's name with its article: ``an int``."""
    return f"{'an' if kind.__name__[0] in 'aeiou' else 'a'} {kind.__name__}"


def _describe(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)
