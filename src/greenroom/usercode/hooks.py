"""The decorators of methods and hooks. They record, and refuse what can be seen to be wrong; nothing else.

A lifecycle hook stays the plain function that it is, with a mark. A ``@method`` becomes a descriptor, so that
``self.other.remote()`` works inside the class.
"""

from collections.abc import Callable
from itertools import count
from types import MethodType
from typing import Any, NamedTuple, TypeVar

from greenroom.model.errors import InvalidError
from greenroom.usercode.code import is_async, is_generator, parameters_after, required_parameters

F = TypeVar("F", bound=Callable[..., Any])

_MARKS = "__greenroom_marks__"
_order = count(1)


class Build(NamedTuple):
    """``@build``'s options."""

    force: bool = False
    timeout: float = 86400.0


class Concurrent(NamedTuple):
    """``@concurrent``'s options."""

    max_inputs: int
    target_inputs: int


class Batched(NamedTuple):
    """``@batched``'s options."""

    max_batch_size: int
    wait_ms: int


class Web(NamedTuple):
    """A web decorator and its options."""

    kind: str
    options: dict[str, Any]


class Marks(NamedTuple):
    """What decorators have recorded on a function."""

    enter: bool = False
    enter_snap: bool = False
    exit: bool = False
    build: Build | None = None
    web: Web | None = None
    concurrent: Concurrent | None = None
    batched: Batched | None = None
    order: int = 0
    """Rises with each decorated function: definition order, which a class that travels by value forgets."""

    @property
    def is_hook(self) -> bool:
        """Whether it is a lifecycle hook."""
        return self.enter or self.exit or self.build is not None


def marks_of(function: Any) -> Marks:
    """What is recorded on ``function``."""
    marks = getattr(function, _MARKS, None)
    return marks if isinstance(marks, Marks) else Marks()


class Method:
    """What ``@method()`` makes of a function: a descriptor that knows how to be called from afar."""

    def __init__(self, function: Callable[..., Any], generator: bool | None = None) -> None:
        self.function = function
        self.name = function.__name__
        self.is_async = is_async(function)
        self.is_generator = is_generator(function) if generator is None else generator
        self.marks = marks_of(function)
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        bind = getattr(type(instance), "__greenroom_bind__", None)
        if bind is not None:
            return bind(instance, self)
        return MethodType(self.function, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<method {self.__qualname__}>"


class Parameter:
    """What ``parameter()`` records in a class body."""

    def __init__(self, default: Any, init: bool) -> None:
        self.default = default
        self.init = init


class _Missing:
    def __repr__(self) -> str:
        return "<no default>"

    def __reduce__(self) -> str:
        return "MISSING"  # the one there is, wherever a class that travels by value arrives


MISSING: Any = _Missing()


def _function(decorator: str, given: Any) -> Any:
    """The function to mark, or a refusal that names the fix."""
    if isinstance(given, Method):
        raise InvalidError(
            f"@{decorator} on {given.__qualname__}, which is a @method: a lifecycle hook is no method to call; "
            "give it a function of its own"
        )
    if isinstance(given, (staticmethod, classmethod)):
        raise InvalidError(f"@{decorator} goes on a plain method, not on a {type(given).__name__}")
    if not callable(given) or isinstance(given, type):
        raise InvalidError(f"@{decorator} goes on a function, not on {given!r}")
    return given


def _mark(decorator: str, given: Any, **changes: Any) -> Any:
    function = _function(decorator, given)
    marks = marks_of(function)
    setattr(function, _MARKS, marks._replace(order=marks.order or next(_order), **changes))
    return function


def _no_parentheses(decorator: str, args: tuple[Any, ...]) -> None:
    if args and not callable(args[0]):
        raise InvalidError(f"@{decorator}({args[0]!r:.80}) takes its arguments by name")
    if args:
        what = f" on {args[0].__name__}" if callable(args[0]) and hasattr(args[0], "__name__") else ""
        raise InvalidError(f"@{decorator}{what} lacks its parentheses: write @{decorator}()")


def _unknown(decorator: str, unknown: dict[str, Any], known: str) -> None:
    if unknown:
        raise InvalidError(
            f"@{decorator} knows no {', '.join(repr(name) for name in unknown)}; it takes {known or 'no arguments'}"
        )


def _hook(decorator: str, given: Any) -> Any:
    function = _function(decorator, given)
    name = function.__qualname__
    if marks_of(function).web is not None:
        raise InvalidError(f"@{decorator} on {name}, which is a web endpoint: give the hook a function of its own")
    if is_generator(function):
        raise InvalidError(
            f"@{decorator} on {name}, which is a generator: a hook runs to its end, so use return, not yield"
        )
    if marks_of(function).batched is not None:
        raise InvalidError(f"@{decorator} on {name}, which is @batched: give the hook a function of its own")
    if decorator == "exit" and (extra := parameters_after(1, function)):
        raise InvalidError(
            f"@exit on {name} with parameters ({', '.join(extra)}) is no longer supported: an exit hook takes no "
            "arguments but self"
        )
    if required := required_parameters(function, skip=1):
        raise InvalidError(
            f"@{decorator} on {name}, which needs {', '.join(required)}: a hook is called with self alone; "
            "give the parameters defaults, or use greenroom.parameter()"
        )
    return function


def enter(*args: Any, snap: bool = False, **unknown: Any) -> Callable[[F], F]:
    """Run this method once when a container starts, before any input. Sync or async; any number a class.

    Args:
        snap: before the memory snapshot, where one is enabled.

    Raises:
        InvalidError: on a generator, on a method with required parameters, on a ``@method``.
    """
    _no_parentheses("enter", args)
    _unknown("enter", unknown, "snap=")
    change = {"enter_snap": True} if snap else {}
    return lambda given: _mark("enter", _hook("enter", given), enter=True, **change)


def exit(*args: Any, **unknown: Any) -> Callable[[F], F]:
    """Run this method once when a container stops, on every orderly end; all exit hooks have 30 s together.

    Raises:
        InvalidError: on a generator, on a method with parameters, on a ``@method``.
    """
    _no_parentheses("exit", args)
    _unknown("exit", unknown, "")
    return lambda given: _mark("exit", _hook("exit", given), exit=True)


def build(*args: Any, force: bool = False, timeout: float = 86400, **unknown: Any) -> Callable[[F], F]:
    """Run this method while the image is made; what it writes is part of the image.

    Args:
        force: rebuild every time.
        timeout: seconds that it may take.
    """
    _no_parentheses("build", args)
    _unknown("build", unknown, "force=, timeout=")
    return lambda given: _mark("build", _hook("build", given), build=Build(force, timeout))


def method(
    *args: Any, is_generator: bool | None = None, keep_warm: int | None = None, **unknown: Any
) -> Callable[[Callable[..., Any]], Method]:
    """Make this method callable from afar: ``Model().predict.remote(x)``.

    ``keep_warm`` is taken and ignored, as the older Modal did that had it: ``@app.cls`` has ``min_containers``.
    """
    _no_parentheses("method", args)
    _unknown("method", unknown, "is_generator=")

    def decorate(given: Callable[..., Any]) -> Method:
        if isinstance(given, Method):
            raise InvalidError(f"@method on {given.__qualname__} twice; once is enough")
        function = _function("method", given)
        marks = marks_of(function)
        if marks.is_hook:
            raise InvalidError(
                f"@method on {function.__qualname__}, which is a lifecycle hook: give the hook a function of its own"
            )
        if marks.web is not None:
            raise InvalidError(
                f"@method on {function.__qualname__}, which is a web endpoint: the web decorator alone is enough"
            )
        return Method(function, is_generator)

    return decorate


def parameter(*args: Any, default: Any = MISSING, init: bool = True, **unknown: Any) -> Any:
    """A constructor parameter of a class: ``name: str = greenroom.parameter(default="x")``.

    The annotation must be str, int, bool or bytes. Every set of values has containers of its own.
    """
    if args:
        raise InvalidError("parameter() takes its default by name: parameter(default=…)")
    _unknown("parameter", unknown, "default=, init=")
    return Parameter(default, init)


def concurrent(*args: Any, max_inputs: int = 0, target_inputs: int | None = None, **unknown: Any) -> Callable[[F], F]:
    """Let one container run up to ``max_inputs`` inputs at once; the autoscaler aims at ``target_inputs`` of them."""
    _no_parentheses("concurrent", args)
    _unknown("concurrent", unknown, "max_inputs=, target_inputs=")
    if not isinstance(max_inputs, int) or max_inputs < 1:
        raise InvalidError("@concurrent needs max_inputs=, a number of at least 1")
    target = max_inputs if target_inputs is None else target_inputs
    if not isinstance(target, int) or not 1 <= target <= max_inputs:
        raise InvalidError(f"@concurrent(target_inputs={target}) must lie between 1 and max_inputs={max_inputs}")
    return lambda given: _on_class_or_function("concurrent", given, concurrent=Concurrent(max_inputs, target))


def batched(*args: Any, max_batch_size: int = 0, wait_ms: int = -1, **unknown: Any) -> Callable[[F], F]:
    """Gather inputs into lists of up to ``max_batch_size``, waiting up to ``wait_ms`` milliseconds.

    On a function, or on the one method of a class, which need not be a ``@method()`` too. It takes a list for each of its
    parameters, all of one length, and returns a list of that length; it is called with one input, and gives one result.

    Raises:
        InvalidError: on a generator, a lifecycle hook, a web endpoint.
    """
    _no_parentheses("batched", args)
    _unknown("batched", unknown, "max_batch_size=, wait_ms=")
    if not isinstance(max_batch_size, int) or not isinstance(wait_ms, int) or max_batch_size < 1 or wait_ms < 0:
        raise InvalidError("@batched needs max_batch_size= of at least 1 and wait_ms= of at least 0, whole numbers")

    def decorate(given: Any) -> Any:
        if isinstance(given, Method):
            raise InvalidError(f"@batched on {given.__qualname__}: it goes below @method(), next to the definition")
        marks = marks_of(given)
        if marks.is_hook or marks.web is not None:
            what = "a lifecycle hook" if marks.is_hook else "a web endpoint"
            raise InvalidError(f"@batched on {given.__qualname__}, which is {what}: give it a function of its own")
        if is_generator(given):
            raise InvalidError(
                f"@batched on {given.__qualname__}, which is a generator: return a list, an element an input"
            )
        return _mark("batched", given, batched=Batched(max_batch_size, wait_ms))

    return decorate


def _on_class_or_function(decorator: str, given: Any, **changes: Any) -> Any:
    if hasattr(given, "__greenroom_raw__"):
        raise InvalidError(f"@{decorator} goes below @app.function or @app.cls, next to the definition")
    if isinstance(given, Method):
        raise InvalidError(f"@{decorator} on {given.__qualname__}: it goes on the class, for all its methods")
    if isinstance(given, type):
        setattr(given, _MARKS, (vars(given).get(_MARKS) or Marks())._replace(**changes))
        return given
    return _mark(decorator, given, **changes)


# ---- web endpoints: recorded and checked; they are served by a later version ----


def _is_label(text: str) -> bool:
    plain = text.replace("-", "a")
    return (
        0 < len(text) <= 63
        and text[0] != "-" != text[-1]
        and plain.isascii()
        and plain.isalnum()
        and text == text.lower()
    )


def _web(decorator: str, kind: str, args: tuple[Any, ...], options: dict[str, Any]) -> Callable[[F], F]:
    _no_parentheses(decorator, args)

    def decorate(given: Any) -> Any:
        if isinstance(given, Method):
            raise InvalidError(
                f"@{decorator} on {given.__qualname__}, which is a @method: the web decorator alone is enough"
            )
        function = _function(decorator, given)
        marks = marks_of(function)
        name = function.__qualname__
        if marks.is_hook:
            raise InvalidError(f"@{decorator} on {name}, which is a lifecycle hook: give it a function of its own")
        if marks.web is not None:
            raise InvalidError(f"{name} has two web decorators; one is enough")
        if marks.batched is not None:
            raise InvalidError(f"@{decorator} on {name}, which is @batched: give it a function of its own")
        if kind in ("asgi", "wsgi"):
            if is_async(function):
                raise InvalidError(f"@{decorator} on {name}, which is async: write a plain def that returns the app")
            if parameters_after(1 if "." in name.rpartition("<locals>.")[2] else 0, function):
                raise InvalidError(f"@{decorator} on {name}, which has parameters: the factory takes none but self")
        if kind == "endpoint" and is_generator(function):
            raise InvalidError(
                f"@{decorator} on {name}, which is a generator: return a StreamingResponse over a generator instead"
            )
        return _mark(decorator, function, web=Web(kind, options))

    return decorate


def fastapi_endpoint(
    *args: Any,
    method: str = "GET",
    label: str | None = None,
    docs: bool = False,
    requires_proxy_auth: bool = False,
    custom_domains: Any = None,
    **unknown: Any,
) -> Callable[[F], F]:
    """Answer HTTP requests with this function, through FastAPI."""
    _unknown("fastapi_endpoint", unknown, "method=, label=, docs=, requires_proxy_auth=, custom_domains=")
    options = {"method": method, "docs": docs, **_address(label, requires_proxy_auth, custom_domains)}
    return _web("fastapi_endpoint", "endpoint", args, options)


def web_endpoint(
    *args: Any,
    method: str = "GET",
    label: str | None = None,
    docs: bool = False,
    requires_proxy_auth: bool = False,
    custom_domains: Any = None,
    wait_for_response: bool = True,
    **unknown: Any,
) -> Callable[[F], F]:
    """The older name of :func:`fastapi_endpoint`."""
    _unknown("web_endpoint", unknown, "method=, label=, docs=, requires_proxy_auth=, custom_domains=")
    _waits("web_endpoint", wait_for_response)
    options = {"method": method, "docs": docs, **_address(label, requires_proxy_auth, custom_domains)}
    return _web("web_endpoint", "endpoint", args, options)


def asgi_app(
    *args: Any,
    label: str | None = None,
    requires_proxy_auth: bool = False,
    custom_domains: Any = None,
    wait_for_response: bool = True,
    **unknown: Any,
) -> Callable[[F], F]:
    """Serve the ASGI application that this function returns."""
    _unknown("asgi_app", unknown, "label=, requires_proxy_auth=, custom_domains=")
    _waits("asgi_app", wait_for_response)
    return _web("asgi_app", "asgi", args, _address(label, requires_proxy_auth, custom_domains))


def wsgi_app(
    *args: Any,
    label: str | None = None,
    requires_proxy_auth: bool = False,
    custom_domains: Any = None,
    wait_for_response: bool = True,
    **unknown: Any,
) -> Callable[[F], F]:
    """Serve the WSGI application that this function returns."""
    _unknown("wsgi_app", unknown, "label=, requires_proxy_auth=, custom_domains=")
    _waits("wsgi_app", wait_for_response)
    return _web("wsgi_app", "wsgi", args, _address(label, requires_proxy_auth, custom_domains))


def web_server(
    port: Any = None,
    *,
    startup_timeout: float = 5.0,
    label: str | None = None,
    requires_proxy_auth: bool = False,
    custom_domains: Any = None,
    **unknown: Any,
) -> Callable[[F], F]:
    """Serve what this function starts on ``port``, within ``startup_timeout`` seconds."""
    _unknown("web_server", unknown, "port, startup_timeout=, label=, requires_proxy_auth=, custom_domains=")
    if not isinstance(port, int) or not 1 <= port <= 65535:
        raise InvalidError("@web_server needs a port: write @web_server(8000)")
    options = {"port": port, "startup_timeout": startup_timeout}
    return _web("web_server", "server", (), {**options, **_address(label, requires_proxy_auth, custom_domains)})


def _address(label: str | None, requires_proxy_auth: bool, custom_domains: Any) -> dict[str, Any]:
    if label is not None and (not isinstance(label, str) or not _is_label(label)):
        raise InvalidError(
            f"label={label!r:.80} can't be a part of a URL and of a host's name: use a-z, 0-9 and - between them, up to 63"
        )
    return {"label": label, "requires_proxy_auth": requires_proxy_auth, "custom_domains": custom_domains}


def _waits(decorator: str, wait_for_response: bool) -> None:
    """Of Modal's past: the answer has long been what is waited for."""
    if not wait_for_response:
        raise InvalidError(f"@{decorator}(wait_for_response=False) is no longer supported: leave it out")
