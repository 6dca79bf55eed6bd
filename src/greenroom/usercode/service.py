"""One instance of a class and its hooks: the only code that drives them.

The agent, the image builder and ``.local()`` all use it, so that hooks behave alike everywhere. Hooks may be coroutines;
so ``enter`` and ``exit`` are generators that yield each coroutine to whoever drives them, with a loop (:func:`drive`)
or on one (:func:`drive_async`).
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any

from greenroom.model.errors import InvalidError
from greenroom.model.versions import add_note
from greenroom.usercode.definition import ClassDefinition, ParameterInfo, a
from greenroom.usercode.hooks import MISSING, Method

Steps = Iterator[Awaitable[object]]
Report = Callable[[str, str, float, str], None]
"""Called after each hook with: ``enter`` or ``exit``, its name, the seconds it took, and ``""`` or one line of error."""


class Service:
    """What a container serves: a class's instance, or a function, which has no hooks."""

    def __init__(self, definition: ClassDefinition | None, function: Callable[..., Any] | None) -> None:
        self._definition = definition
        self._function = function
        self.instance: Any = None
        self.failed_step = ""
        """Name of the enter hook that raised."""
        self.exit_errors: list[str] = []
        self.user_code: AbstractContextManager[object] = nullcontext()
        """Entered around all that is the user's."""
        self._entered = 0
        self._start_complete = False
        self._exited = False

    @classmethod
    def for_class(cls, definition: ClassDefinition) -> "Service":
        """Serve a class; :meth:`construct` comes next."""
        return cls(definition, None)

    @classmethod
    def for_function(cls, function: Callable[..., Any]) -> "Service":
        """Serve a function."""
        return cls(None, function)

    def construct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the instance: parameters set, or the class's own ``__init__`` called.

        Raises:
            InvalidError: a parameter is missing, unknown or of another type.
        """
        assert self._definition is not None
        cls = self._definition.cls
        if self._definition.has_constructor:
            with self.user_code:
                self.instance = cls(*args, **kwargs)
            return self.instance
        values = bind_parameters(self._definition, args, kwargs)
        with self.user_code:
            self.instance = cls()
            for name, value in values.items():
                setattr(self.instance, name, value)
        return self.instance

    def use(self, instance: Any) -> None:
        """Serve an instance that exists already."""
        self.instance = instance

    @property
    def owes_exit(self) -> bool:
        """Whether exit hooks are to run: start-up came to its end, or an enter hook had completed before it failed.

        As with Python's own ``with``: what was never entered is not exited.
        """
        return not self._exited and (self._start_complete or self._entered > 0)

    def enter(self, report: Report) -> Steps:
        """Run the enter hooks in order; the first exception ends it, with a note that names the hook."""
        if self._definition is not None:
            for name in (*self._definition.enter_snap, *self._definition.enter):
                started = time.perf_counter()
                try:
                    with self.user_code:
                        result = self._hook(name)()
                    if hasattr(result, "__await__"):
                        yield result
                except BaseException as error:
                    self.failed_step = name
                    add_note(error, f"raised by the enter hook {self._definition.cls.__name__}.{name}")
                    report("enter", self._qualified(name), time.perf_counter() - started, one_line(error))
                    raise
                self._entered += 1
                report("enter", self._qualified(name), time.perf_counter() - started, "")
        self._start_complete = True

    def exit(self, report: Report) -> Steps:
        """Run every exit hook, if they are owed; one that raises is printed and kept in ``exit_errors``."""
        if self._definition is None or not self.owes_exit:
            return
        self._exited = True
        for name in self._definition.exit:
            started = time.perf_counter()
            error_line = ""
            arguments = (None, None, None) if name in self._definition.legacy else ()
            try:
                with self.user_code:
                    result = self._hook(name)(*arguments)
                if hasattr(result, "__await__"):
                    yield result
            except BaseException as error:  # noqa: BLE001 - the other hooks still run
                error_line = f"{self._qualified(name)}: {one_line(error)}"
                self.exit_errors.append(error_line)
                self._print_error(error, self._qualified(name))
            report("exit", self._qualified(name), time.perf_counter() - started, error_line)

    def build(self, name: str) -> Steps:
        """Run one build hook, on a fresh instance that nobody gave arguments: parameters have their defaults, or aren't set."""
        assert self._definition is not None
        with self.user_code:
            self.instance = self._definition.cls()
            for info in self._definition.parameters.values():
                if info.default is not MISSING:
                    setattr(self.instance, info.name, info.default)
            result = self._hook(name)()
        if hasattr(result, "__await__"):
            yield result

    def call_target(self, method_name: str) -> Callable[..., Any]:
        """The user's function itself, bound: for the agent's hot path."""
        if self._function is not None:
            return self._function
        assert self._definition is not None
        return MethodType(self._definition.methods[method_name].function, self.instance)

    def web_target(self, name: str) -> Callable[..., Any]:
        """What has a web decorator, bound: of a class the method ``name``."""
        if self._function is not None:
            return self._function
        return getattr(self.instance, name)  # type: ignore[no-any-return]

    def _hook(self, name: str) -> Callable[..., Any]:
        found = getattr(type(self.instance), name)
        if isinstance(found, Method):
            return MethodType(found.function, self.instance)
        return getattr(self.instance, name)  # type: ignore[no-any-return]

    def _print_error(self, error: BaseException, name: str) -> None:
        import sys

        from greenroom.usercode.exceptions import print_exception

        if self._start_complete:
            print_exception(error, f"exit hook {name} failed:")
        else:
            # Its cause has had its traceback: what the start failed with.
            print(f"exit hook {name} failed: {one_line(error)}", file=sys.stderr)

    def _qualified(self, name: str) -> str:
        assert self._definition is not None
        return f"{self._definition.cls.__name__}.{name}"


def bind_parameters(definition: ClassDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Values for every parameter of a class.

    Raises:
        InvalidError: one is missing, unknown or of another type; or the class takes none at all.
    """
    name = definition.cls.__name__
    parameters = definition.parameters
    if args:
        hint = "by name" if parameters else "not at all: it has no __init__ and no parameter()"
        raise InvalidError(f"{name}(…) takes its arguments {hint}")
    unknown = [key for key in kwargs if key not in parameters or not parameters[key].init]
    if unknown:
        known = ", ".join(key for key, info in parameters.items() if info.init) or "none"
        raise InvalidError(f"{name}(…) has no parameter {', '.join(map(repr, unknown))}; it has: {known}")
    missing = [key for key, info in parameters.items() if info.required and key not in kwargs]
    if missing:
        raise InvalidError(f"{name}(…) lacks {', '.join(f'{key}=' for key in missing)}")
    values: dict[str, Any] = {}
    for key, info in parameters.items():
        if key in kwargs:
            values[key] = _checked(name, info, kwargs[key])
        elif info.default is not MISSING:
            values[key] = info.default
    return values


def _checked(owner: str, info: ParameterInfo, value: Any) -> Any:
    if type(value) is not info.type:
        raise InvalidError(f"{owner}({info.name}={value!r}): {info.name} is {a(info.type)}, not {a(type(value))}")
    return value


def drive(steps: Steps, run: Callable[[Awaitable[object]], object]) -> None:
    """Run steps to their end; ``run`` completes a coroutine."""
    try:
        awaitable = next(steps)
        while True:
            failed: BaseException | None = None
            try:
                run(awaitable)
            except BaseException as error:  # noqa: BLE001 - the steps decide what it means
                failed = error
            # Outside of the handler: what a later step raises doesn't come of this error.
            awaitable = next(steps) if failed is None else steps.throw(failed)  # type: ignore[attr-defined]
    except StopIteration:
        return


async def drive_async(steps: Steps) -> None:
    """Run steps to their end on the running loop."""
    try:
        awaitable = next(steps)
        while True:
            failed: BaseException | None = None
            try:
                await awaitable
            except BaseException as error:  # noqa: BLE001 - the steps decide what it means
                failed = error
            # Outside of the handler: what a later step raises doesn't come of this error.
            awaitable = next(steps) if failed is None else steps.throw(failed)  # type: ignore[attr-defined]
    except StopIteration:
        return


def one_line(error: BaseException) -> str:
    """``ValueError: no such file``."""
    try:
        text = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001 - the user's own __str__
        text = []
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
