"""Apps: a program's functions and classes, and the time in which they run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from greenroom.model.app_names import check_app_name
from greenroom.model.errors import ConnectionError, InvalidError, NotFoundError
from greenroom.model.ids import new_id
from greenroom.model.spec import FunctionSpec
from greenroom.model.versions import dataclass_transform
from greenroom.sdk.channel import next_rid
from greenroom.sdk.cls import Cls, bind
from greenroom.sdk.decorating import FunctionDecorator, needs_parentheses
from greenroom.sdk.entrypoint import LocalEntrypoint
from greenroom.sdk.function import Function
from greenroom.sdk.lazy import Lazy
from greenroom.sdk.left_out import ignored_of_web, say_ignored, say_left_out
from greenroom.sdk.one_namespace import check_deploying
from greenroom.sdk.options import Options, read_options, read_secrets, with_defaults
from greenroom.sdk.output import current_sink
from greenroom.sdk.program import check_importable, needs_value
from greenroom.sdk.running import AppRun, refuse_inside
from greenroom.sdk.specs import class_specs, function_specs
from greenroom.sdk.target import Target
from greenroom.sdk.tracebacks import show_without_our_frames
from greenroom.sdk.unbuilt import lacking, unbuilt
from greenroom.usercode.context import inside, own
from greenroom.usercode.definition import ClassDefinition, FunctionDefinition, describe_class, describe_function
from greenroom.usercode.hooks import parameter
from greenroom.wire import messages as m
from greenroom.wire.payload import Payload

if TYPE_CHECKING:
    from greenroom.sdk import defining
    from greenroom.sdk import session as sessions
else:
    defining = Lazy("greenroom.sdk.defining")
    sessions = Lazy("greenroom.sdk.session")

_IGNORED = {"tags", "include_source"}
_IGNORED_BY_RUN = {"client", "environment_name", "interactive", "tags"}

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@unbuilt("get_dashboard_url", "get_tags", "info", "lookup", "server", "set_tags", "spawn_sandbox", "stats",
         values=("logs", "sandboxes"))  # fmt: skip
class App:
    """A program's functions and classes.

    Args:
        name: shown to people; without one, the file's name.
        image: the default of its functions.
        secrets, volumes, mounts: for each of its functions, beside its own.
    """

    def __init__(self, name: str | None = None, **defaults: Any) -> None:
        if name is not None and not isinstance(name, str):
            raise InvalidError(f"App({name!r}): the name must be a str")
        unknown = set(defaults) - {"image", "secrets", "volumes", "mounts"} - _IGNORED
        if unknown:
            raise InvalidError(f"App knows no {', '.join(f'{name}=' for name in sorted(unknown))}")
        self._name = name
        self.module: str = sys._getframe(1).f_globals.get("__name__", "")
        """The module that made it."""
        self._ignored = {name for name in _IGNORED if defaults.pop(name, None) is not None}
        read_secrets("App", defaults.get("secrets"))
        self._defaults = defaults
        self._functions: dict[str, tuple[Function[..., Any, Any], FunctionDefinition, Options]] = {}
        self._classes: dict[str, tuple[Cls, ClassDefinition, Options]] = {}
        self.registered_entrypoints: dict[str, LocalEntrypoint[..., Any]] = {}
        self._app_id = ""
        self._includer: App | None = None
        self._session: sessions.Session | None = None
        self._detached = False
        """It goes on when its session has ended."""
        self._images: set[str] = set()
        self._urls: dict[tuple[str, str], str] = {}
        """Those that were made for it."""
        self.version = 0
        """Once it is deployed."""

    def __repr__(self) -> str:
        return f"App({self._name!r})" if self._name else "App()"

    def __reduce__(self) -> tuple[Any, ...]:
        functions = {name: (f.is_generator, f.lacking) for name, (f, _, _) in self._functions.items()}
        return (_app_inside, (self._name, functions, self.app_id or ""))

    @property
    def name(self) -> str | None:
        """What it is called."""
        return self._name

    @property
    def description(self) -> str | None:
        """The same."""
        return self._name

    def set_default_name(self, name: str) -> None:
        """What it is called when the program didn't say."""
        self._name = self._name or name

    @property
    def app_id(self) -> str | None:
        """Its id while it runs."""
        here = inside()
        if here is not None and not self._app_id and (own().app is None or self._including() is own().app._including()):
            return here.app_id
        return self._app_id or (self._includer.app_id if self._includer is not None else None)

    def _including(self) -> App:
        """The app that this one is part of when it runs: itself, unless another includes it."""
        return self._includer._including() if self._includer is not None else self

    @property
    def registered_functions(self) -> dict[str, Function[..., Any, Any]]:
        """Its functions, by name."""
        return {name: entry[0] for name, entry in self._functions.items()}

    @property
    def registered_classes(self) -> dict[str, Cls]:
        """Its classes, by name."""
        return {name: entry[0] for name, entry in self._classes.items()}

    @property
    def registered_web_endpoints(self) -> list[str]:
        """The names of what answers HTTP requests: functions, and methods as ``Class.method``."""
        functions = [name for name, (_, definition, _) in self._functions.items() if definition.web]
        return [*functions, *(f"{name}.{web}" for name, (_, known, _) in self._classes.items() for web in known.web)]

    @property
    def image(self) -> Any:
        """The default of the functions that are decorated from now on."""
        return self._defaults.get("image")

    @image.setter
    def image(self, image: Any) -> None:
        self._defaults["image"] = image

    def include(self, other_app: App, inherit_tags: bool | None = None) -> App:
        """Make another app's functions and classes, as they are now, this one's too: they run when it does.

        ``inherit_tags``: tags mean nothing here, and the app says so.

        Raises:
            InvalidError: both have something of one name.
        """
        for name in [*other_app._functions, *other_app._classes]:
            if name in self._functions or name in self._classes:
                raise InvalidError(f"both apps have {name}; rename one, or give it name=")
        self._functions.update(other_app._functions)
        self._classes.update(other_app._classes)
        self._ignored |= other_app._ignored | ({"inherit_tags"} if inherit_tags is not None else set())
        other_app._includer = self
        return self

    # ---- decorators ----

    def function(self, *args: Any, **options: Any) -> FunctionDecorator:
        """Make a function of this app that runs in containers.

        Keyword arguments: ``cpu`` cores, ``memory`` MiB (each a request, or ``(request, limit)``), ``gpu``,
        ``timeout`` s (300), ``startup_timeout`` s (300), ``retries`` (a number, or ``Retries``), ``min_containers``,
        ``max_containers``, ``buffer_containers``, ``scaledown_window`` s (60), ``secrets``, ``env``, ``name``,
        ``serialized``, ``single_use_containers``, ``schedule`` (a ``Period`` or ``Cron``).

        Raises:
            InvalidError: an unknown keyword, a value out of range, or not a function.
        """
        needs_parentheses("function", args)
        return FunctionDecorator(self, read_options("@app.function", with_defaults(self._defaults, options)))

    def _add_function(self, raw: Callable[..., Any], options: Options) -> Function[..., Any, Any]:
        definition = describe_function(
            raw, schedule=options.schedule, retries=options.retries, unbatchable=options.unbatchable
        )
        if not hasattr(raw, "__qualname__"):
            raise InvalidError(f"@app.function goes on a function, not on {raw!r}: write a def that calls it")
        name = options.name or raw.__name__
        self._check_name(name)
        by_value = options.serialized or needs_value(raw)
        if not by_value:
            check_importable(raw)
        generator = definition.is_generator if options.is_generator is None else options.is_generator
        target = Target(
            lambda: self.function_id(name),
            "",
            name,
            is_generator=generator,
            by_value=needs_value(raw),
            lacking=lacking(options),
        )
        function: Function[..., Any, Any] = Function(raw, target, app=self)
        self._functions[name] = (function, definition, options._replace(serialized=by_value, is_generator=generator))
        return function

    @dataclass_transform(field_specifiers=(parameter,), kw_only_default=True)
    def cls(self, *args: Any, **options: Any) -> Callable[[T], T]:
        """Make a class of this app whose instances live in containers, with lifecycle hooks.

        Takes what :meth:`function` takes.

        Raises:
            InvalidError: an unknown keyword, a value out of range, not a class, or decorators inside it that contradict
                each other.
        """
        needs_parentheses("cls", args)
        read = read_options("@app.cls", with_defaults(self._defaults, options))

        def decorate(user_class: T) -> T:
            return self._add_class(user_class, read)  # type: ignore[return-value]

        return decorate

    def add_like(self, function: Callable[..., Any], other: App, name: str, **fields: Any) -> Function[..., Any, Any]:
        """Add a function that runs in containers like those of ``other``'s function or class ``name`` (``""``: like any).

        ``fields``: of its ``FunctionSpec``, in the place of the other's.

        Raises:
            NotFoundError: there is none of that name.
        """
        entry = other._functions.get(name) or other._classes.get(name)
        if name and entry is None:
            raise NotFoundError(f"{other!r} has no function or class {name}")
        like = entry[2] if entry is not None else read_options("@app.function", dict(other._defaults))
        return self._add_function(function, like.for_one_input(**fields))

    def _add_class(self, user_class: Any, options: Options) -> Cls:
        definition = describe_class(user_class, enable_memory_snapshot=options.snapshot, retries=options.retries,
                                    unbatchable=options.unbatchable, warn=True)  # fmt: skip
        name = options.name or definition.cls.__name__
        self._check_name(name)
        by_value = options.serialized or needs_value(definition.cls)
        if not by_value:
            check_importable(definition.cls)
        cls = Cls(self, name, definition.cls, needs_value(definition.cls), lacking(options), definition)
        hooked = definition if definition.build else None
        self._classes[name] = (cls, definition, options._replace(serialized=by_value, hooked=hooked))
        definition.cls.__greenroom_class__ = cls  # type: ignore[attr-defined]
        definition.cls.__greenroom_bind__ = staticmethod(bind)  # type: ignore[attr-defined]
        return cls

    def local_entrypoint(
        self, *args: Any, name: str | None = None
    ) -> Callable[[Callable[P, R]], LocalEntrypoint[P, R]]:
        """Make a function what ``greenroom run`` calls, here, while the app runs."""
        needs_parentheses("local_entrypoint", args)

        def decorate(function: Callable[P, R]) -> LocalEntrypoint[P, R]:
            entrypoint = LocalEntrypoint(function, name or function.__name__)
            if entrypoint.name in self.registered_entrypoints:
                raise InvalidError(f"two local entry points are called {entrypoint.name}; rename one")
            self.registered_entrypoints[entrypoint.name] = entrypoint
            return entrypoint

        return decorate

    def _check_name(self, name: str) -> None:
        known = self._functions.get(name) or self._classes.get(name)
        if known is not None and inside() is None and not _interactive():
            raise InvalidError(f"two functions or classes of this app are called {name}; rename one, or give it name=")

    # ---- handles ----

    def function_id(self, name: str) -> str:
        """The id of one of its functions; raises :class:`ConnectionError` when it isn't running."""
        app_id = self.app_id
        if not app_id and inside() is not None:
            raise InvalidError(
                f"{name} belongs to another app than this container ({self!r}): deploy that and call it by "
                "Function.from_name(…), or let app.include() make the functions of both one app's"
            )
        if not app_id:
            show_without_our_frames()  # what is printed next may be this
            raise ConnectionError(
                f"{name} can't be called remotely: its app isn't running; "
                "call it inside `with app.run():`, or run the file with `greenroom run`"
            )
        return f"{app_id}/{name}"

    def web_url(self, name: str, method: str) -> str | None:
        """Where a function's, or a class's method's, web endpoint answers, while the app runs; None: it is none."""
        return self._urls.get((name, method))

    def sends_by_value(self, name: str) -> bool:
        """Whether one of its functions or classes travels as itself, rather than by the name of its module."""
        entry = self._functions.get(name) or self._classes.get(name)
        return entry is None or entry[2].serialized

    def function_handle(self, name: str) -> Function[..., Any, Any]:
        """One of its functions, by name."""
        try:
            return self._functions[name][0]
        except KeyError:
            raise NotFoundError(f"{self!r} has no function {name}") from None

    # ---- running ----

    def run(self, **options: Any) -> AppRun:
        """``with app.run():`` or ``async with app.run():``: its functions can be called until the block ends.

        ``name``: what the app is called, where it has no name. ``show_progress=True``: as inside ``enable_output()``.
        ``detach=True``: when the block or the program ends, the app goes on, on the server that stays, until its spawned calls are
        over and its containers idle, or ``greenroom app stop``.

        Starts a server where none runs, and ends it after. When the block ends, by whatever, running inputs are
        cancelled, exit hooks run, and their output is shown before it is left.
        """
        detach = bool(options.pop("detach", False))
        self._ignored |= {name for name in _IGNORED_BY_RUN if options.pop(name, None)}
        name, show = options.pop("name", None), options.pop("show_progress", None)
        if name is not None:
            if not isinstance(name, str):
                raise InvalidError(f"app.run(name={name!r}): the name must be a str")
            self._name = name
        if options:
            raise InvalidError(f"app.run() knows no {', '.join(f'{name}=' for name in sorted(options))}")
        return AppRun(self, show=bool(show), detach=detach)

    def start(self, *, images_only: bool = False, replaces: str = "", detach: bool = False) -> None:
        """What entering ``run()`` does; ``replaces``: the id of the version that answers requests until this one can, if any."""
        if self._session is not None:
            raise InvalidError(f"{self!r} is running already")
        created = m.CreateApp(next_rid(), new_id("ap"), self._name or "app", replaces, detach)
        session = self._define(created, images_only=images_only, stays=detach)
        try:
            if replaces:
                defining.take_over(session, created.app_id)
            if detach:
                defining.detach(session, created.app_id)
        except BaseException:
            sessions.close_session(session)
            raise
        self._session, self._app_id, self._detached = session, created.app_id, detach
        sessions.note_running(session, created.app_id)
        sink = current_sink()
        if sink is not None and not images_only:
            sink.app_ready(self._name or "app")

    def deploy(self, *, name: str | None = None, strategy: str = "rolling", **options: Any) -> App:
        """Have the server that stays keep this app, in the place of its version now: with ``strategy="rolling"`` as soon as it can,
        while that finishes what it has begun; with ``recreate`` once that has ended.

        Raises:
            InvalidError: an app can't be called so, there is no such argument, or another namespace than ``main``.
            ConnectionError: no server stays.
            ExecutionError: it can't start; the version before goes on.
        """
        self._ignored |= check_deploying(options)
        name = name or self._name
        if not name:
            raise InvalidError('an app is deployed under its name: write App("name"), or deploy(name=…)')
        if not isinstance(name, str):
            raise InvalidError(f"app.deploy(name={name!r:.80}): the name must be a str")
        check_app_name(name)
        self._name = name
        self.version = defining.deploy(name, strategy, self._define)
        return self

    def build(self) -> int:
        """Make the images of its functions and classes, and run none of them; how many images there are.

        Raises:
            ImageBuildError: a step failed.
        """
        self.start(images_only=True)
        self.stop(said=False)
        return len(self._images)

    def _specs(self, app_id: str) -> list[tuple[FunctionSpec, Payload]]:
        """What travels by value refers to this app by its id, so it has it from here on."""
        self._app_id = app_id
        try:
            return [*function_specs(self._functions), *class_specs(self._classes)]
        finally:
            self._app_id = ""

    def _define(self, created: defining.Created, *, images_only: bool = False, stays: bool = False) -> sessions.Session:
        """Tell the server of it; the session with that."""
        refuse_inside()
        show_without_our_frames()
        specs = self._specs(created.app_id)
        entries = [*self._functions.values(), *self._classes.values()]
        say_ignored(self._ignored.union(*(options.ignored for _, _, options in entries), ignored_of_web(entries)))
        runs = isinstance(created, m.CreateApp)
        say_left_out(self._functions, self._classes, schedules=runs and not images_only)
        sink = current_sink()
        if sink is not None:
            sink.app_creating(self._name or "app")
        session = sessions.open_session(stays=stays or not runs)
        options = {name: entry[2] for name, entry in (*self._functions.items(), *self._classes.items())}
        try:
            defined = defining.define(session, created, specs, options, images_only=images_only)
        except BaseException:
            sessions.close_session(session)
            raise
        self._images, self._urls = defined.images, defined.urls
        for (function, method), url in self._urls.items() if sink is not None else ():
            assert sink is not None
            sink.served(f"{function}.{method}" if method else function, url)
        return session

    def stop(self, *, said: bool = True, drain: float = 0.0) -> None:
        """What leaving ``run()`` does, to the last container; ``said``: a person is told; ``drain``: seconds to finish inputs."""
        session, self._session = self._session, None
        if session is None:
            return
        app_id, self._app_id = self._app_id, ""
        sink = current_sink() if said and not self._detached else None
        if sink is not None:
            sink.app_stopping()
        try:
            if self._detached:
                defining.leave(session, app_id)
            elif not session.lost:
                session.request(m.StopApp(next_rid(), app_id, drain=drain))
        except (ConnectionError, NotFoundError):
            pass  # its server has gone just now, and the app with it; or somebody has stopped it
        finally:
            sessions.note_ended(session, app_id)
            sessions.close_session(session)
        if sink is not None:
            sink.app_stopped()


Stub = App  # as it was called once


def _interactive() -> bool:
    return not hasattr(sys.modules.get("__main__"), "__file__")


def _app_inside(name: str | None, functions: dict[str, tuple[bool, str]], app_id: str) -> App:
    """An app that travelled inside a pickle: its functions can be called there by name, if it ran."""
    app = App(name)
    app._app_id = app_id
    for function, (generator, lacks) in functions.items():
        target = Target(
            lambda function=function: app.function_id(function),  # type: ignore[misc]
            "",
            function,
            is_generator=generator,
            by_value=True,
            lacking=lacks,
        )
        handle: Function[..., Any, Any] = Function(_elsewhere, target, app=app)
        app._functions[function] = (handle, describe_function(_elsewhere), read_options("@app.function", {}))
    return app


def _elsewhere(*args: Any, **kwargs: Any) -> Any:
    raise InvalidError("this function was not sent along; call it with .remote()")
