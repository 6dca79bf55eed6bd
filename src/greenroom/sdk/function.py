"""Functions of an app: what ``@app.function`` makes of a ``def``, and what a class's methods are bound to."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from greenroom.model.errors import InvalidError
from greenroom.sdk import asking, autoscaling, calling, mapping, spawning
from greenroom.sdk.bridge import Blocking, BlockingIterator, Both
from greenroom.sdk.channel import next_rid
from greenroom.sdk.function_call import FunctionCall
from greenroom.sdk.inputs import Inputs
from greenroom.sdk.one_namespace import check_of_a_name
from greenroom.sdk.output import say
from greenroom.sdk.program import find_reference, reference
from greenroom.sdk.target import Target
from greenroom.sdk.tracebacks import show_without_our_frames
from greenroom.sdk.typed import ManyHandles, ManyResults, OneHandle, OneResult, Yielded
from greenroom.sdk.unbuilt import unbuilt
from greenroom.usercode.context import is_local
from greenroom.wire.deploy_messages import deployed_id

if TYPE_CHECKING:
    from greenroom.sdk.app import App

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
L = TypeVar("L", covariant=True)


@unbuilt("from_id", "get_build_def", "hydrate", "keep_warm", "stats", "with_batching", "with_concurrency", "with_options",
         values=("autoscaler", "info", "logs", "metrics", "spec"))  # fmt: skip
class Function(Generic[P, R, L]):
    """Something that can be called in a container.

    ``P``: its parameters; ``R``: what it returns, a coroutine for an ``async def`` (a call from afar returns it awaited);
    ``L``: what it returns when called here.
    """

    def __init__(
        self,
        raw: Callable[..., Any],
        target: Target,
        local: Callable[..., Any] | None = None,
        app: "App | None" = None,
        owner: Any = None,
    ) -> None:
        self.__greenroom_raw__ = raw
        self._owner = owner
        self._named: tuple[str, str] | None = None
        """App and name, of a function of a deployed app."""
        self._target = target
        self._local = local or raw
        self.app = app
        self.__name__ = getattr(raw, "__name__", target.name)
        self.__qualname__ = getattr(raw, "__qualname__", target.name)
        self.__module__ = getattr(raw, "__module__", "")
        self.__doc__ = getattr(raw, "__doc__", None)
        self.__wrapped__ = raw

    @classmethod
    def from_name(cls, app_name: str, name: str, **options: Any) -> "Function[..., Any, Any]":
        """A function of a deployed app, or ``Class.method`` of one whose class takes no arguments.

        Raises:
            InvalidError: there is no such argument, or ``environment_name`` is not ``main``, the one that there is.
        """
        show_without_our_frames()
        check_of_a_name(f"Function.from_name({app_name!r:.80}, {name!r:.80})", options)
        name, _, method = name.partition(".")
        target = Target(lambda: deployed_id(app_name, name), method, f"{app_name}.{name}{'.' * bool(method)}{method}",
                        is_generator=None, by_value=False)  # fmt: skip

        def local(*args: Any, **kwargs: Any) -> Any:
            raise InvalidError(f"{target.name} is deployed: its code isn't here, so call it with .remote()")

        made = cls(local, target)
        made._named = app_name, f"{name}.{method}" if method else name
        return made

    lookup = from_name

    def __repr__(self) -> str:
        return f"Function({self._target.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._owner is not None:
            return (getattr, (self._owner, self.__name__))
        if self._named is not None:
            return (Function.from_name, self._named)
        if self.app is None:
            raise InvalidError(f"{self._target.name} is bound to an instance; send its class's, or the name instead")
        if not self.app.sends_by_value(self._target.name) and (where := reference(self)) is not None:
            return (find_reference, where)
        return (_find, (self.app, self._target.name))

    @property
    def lacking(self) -> str:
        """What it needs that isn't built, so that it can't be called; ``""``: nothing."""
        return self._target.lacking

    @property
    def definition(self) -> Callable[..., Any]:
        """The Python function itself."""
        return self.__greenroom_raw__

    def get_raw_f(self) -> Callable[..., Any]:
        """The same, as Modal calls it."""
        return self.__greenroom_raw__

    @property
    def is_generator(self) -> bool:
        """Whether it yields; of a deployed function, whose code isn't here, the server knows, and this says no."""
        return bool(self._target.is_generator)

    @property
    def object_id(self) -> str:
        """Its id within the running app."""
        return self._target.function_id

    @property
    def web_url(self) -> str | None:
        """Where it answers HTTP requests, while its app runs or is deployed; None: it is no web endpoint.

        Raises:
            NotImplementedError: it needs what isn't built.
            ConnectionError: its app isn't running.
            NotFoundError: no such app is deployed.
        """
        function_id = self._target.function_id
        app = self.app or getattr(getattr(self._owner, "_cls", None), "app", None)
        if app is not None and is_local():
            return app.web_url(function_id.partition("/")[2], self._target.method)
        from greenroom.wire.web_messages import WhereServed

        return asking.ask(WhereServed(next_rid(), function_id, self._target.method))["url"] or None

    @property
    def update_autoscaler(self) -> Blocking[..., None]:
        """``update_autoscaler(min_containers=, max_containers=, buffer_containers=, scaledown_window=)``: until its next version
        is deployed; what isn't given stays as it is.

        Raises:
            InvalidError: there is no such number, or it can't be one.
        """
        return Blocking(self._update_autoscaler, self._update_autoscaler_async)

    def _update_autoscaler(self, **numbers: Any) -> None:
        asking.ask(autoscaling.update_of(self._target.function_id, numbers))

    async def _update_autoscaler_async(self, **numbers: Any) -> None:
        await asking.ask_async(autoscaling.update_of(self._target.function_id, numbers))

    @property
    def get_current_stats(self) -> "Blocking[[], autoscaling.FunctionStats]":
        """``get_current_stats()``: inputs that wait, and containers."""
        return Blocking(self._get_stats, self._get_stats_async)

    def _get_stats(self) -> "autoscaling.FunctionStats":
        return autoscaling.stats_of(asking.ask(autoscaling.stats_question(self._target.function_id)))

    async def _get_stats_async(self) -> "autoscaling.FunctionStats":
        return autoscaling.stats_of(await asking.ask_async(autoscaling.stats_question(self._target.function_id)))

    def get_web_url(self) -> str | None:
        """The same, as newer Modal has it."""
        return self.web_url

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> L:
        return self.local(*args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> L:
        """Run it here, in this process, as plain Python."""
        result: L = self._local(*args, **kwargs)
        return result

    # ---- one call ----

    @OneResult
    def remote(self) -> Blocking[P, R]:
        """Run it in a container and wait for the result; the remote exception is raised here.

        Raises:
            FunctionTimeoutError: it ran past its ``timeout``.
            ContainerCrashed: its container died.
            RemoteError: it raised something whose type can't travel.
        """
        if self._target.is_generator:
            raise InvalidError(f"{self._target.name} is a generator: iterate over {self._target.name}.remote_gen(…)")
        return Blocking(self._remote, self._remote_async)

    def _remote(self, *args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        self._target.refuse_to_wait_for_itself()
        result: R = calling.call(self._target, args, kwargs)
        return result

    async def _remote_async(self, *args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        result: R = await calling.call_async(self._target, args, kwargs)
        return result

    @Yielded
    def remote_gen(self) -> BlockingIterator[P, Any]:
        """Run a generator in a container; its values come as they are yielded."""
        if self._target.is_generator is False and not self.lacking:
            raise InvalidError(f"{self._target.name} is no generator: call {self._target.name}.remote(…)")
        return BlockingIterator(self._remote_gen)

    def _remote_gen(self, *args: P.args, **kwargs: P.kwargs) -> Both[Any]:
        return Both(
            lambda: calling.generate(self._target, args, kwargs),
            lambda: calling.generate_async(self._target, args, kwargs),
        )

    @OneHandle
    def spawn(self) -> Blocking[P, FunctionCall[R]]:
        """Start a call and don't wait; the handle's ``get()`` has the result."""
        self._refuse_generator("spawn")
        return Blocking(self._spawn, self._spawn_async)

    def _spawn(self, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]:
        return FunctionCall(spawning.spawn(self._target, args, kwargs))

    async def _spawn_async(self, *args: P.args, **kwargs: P.kwargs) -> FunctionCall[R]:
        return FunctionCall(await spawning.spawn_async(self._target, args, kwargs))

    # ---- many calls ----

    @ManyResults
    def map(self) -> BlockingIterator[..., R]:
        """``map(*iterables, kwargs={}, order_outputs=True, return_exceptions=False)``.

        One call for each element (or tuple of elements, of several iterables). Yields results in the order of the
        inputs, or as they come with ``order_outputs=False``; the first exception is raised, or with
        ``return_exceptions=True`` yielded in its place.
        """
        self._refuse_generator("map")
        return BlockingIterator(self._map)

    def _map(
        self,
        *iterables: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> Both[R]:
        _say_unwrapped(wrap_returned_exceptions)
        inputs = Inputs(f"{self._target.name}.map", iterables, kwargs)
        return self._outputs(inputs, order_outputs, return_exceptions)

    @ManyResults
    def starmap(self) -> BlockingIterator[..., R]:
        """Like ``map``, over one iterable whose elements are tuples of arguments."""
        self._refuse_generator("starmap")
        return BlockingIterator(self._starmap)

    def _starmap(
        self,
        iterable: Any,
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
    ) -> Both[R]:
        _say_unwrapped(wrap_returned_exceptions)
        inputs = Inputs(f"{self._target.name}.starmap", (iterable,), kwargs, star=True)
        return self._outputs(inputs, order_outputs, return_exceptions)

    def _outputs(self, inputs: Inputs, ordered: bool, return_exceptions: bool) -> Both[R]:
        target = self._target
        return Both(
            lambda: mapping.run_map(target, inputs, ordered=ordered, return_exceptions=return_exceptions),
            lambda: mapping.run_map_async(target, inputs, ordered=ordered, return_exceptions=return_exceptions),
        )

    @property
    def for_each(self) -> Blocking[..., None]:
        """Like ``map``, for the effects alone; ``ignore_exceptions=True`` goes on after failures."""
        return Blocking(self._for_each, self._for_each_async)

    def _for_each(
        self, *iterables: Iterable[Any], kwargs: dict[str, Any] | None = None, ignore_exceptions: bool = False
    ) -> None:
        __tracebackhide__ = True
        for _ in self._map(*iterables, kwargs=kwargs, order_outputs=False, return_exceptions=ignore_exceptions):
            pass

    async def _for_each_async(
        self, *iterables: Iterable[Any], kwargs: dict[str, Any] | None = None, ignore_exceptions: bool = False
    ) -> None:
        __tracebackhide__ = True
        async for _ in self._map(*iterables, kwargs=kwargs, order_outputs=False, return_exceptions=ignore_exceptions):
            pass

    @ManyHandles
    def spawn_map(self) -> Blocking[..., FunctionCall[R]]:
        """``spawn_map(*iterables, kwargs={})``: start a call for each element and don't wait."""
        self._refuse_generator("spawn_map")
        return Blocking(self._spawn_map, self._spawn_map_async)

    def _spawn_map(self, *iterables: Iterable[Any], kwargs: dict[str, Any] | None = None) -> FunctionCall[R]:
        inputs = Inputs(f"{self._target.name}.spawn_map", iterables, kwargs)
        return FunctionCall(spawning.spawn_map(self._target, inputs))

    async def _spawn_map_async(
        self, *iterables: Iterable[Any], kwargs: dict[str, Any] | None = None
    ) -> FunctionCall[R]:
        inputs = Inputs(f"{self._target.name}.spawn_map", iterables, kwargs)
        return FunctionCall(await spawning.spawn_map_async(self._target, inputs))

    def _refuse_generator(self, what: str) -> None:
        if self._target.is_generator:
            name = self._target.name
            raise InvalidError(f"{name} is a generator and has no .{what}(): iterate over {name}.remote_gen(…)")


def _say_unwrapped(wrap: bool | None) -> None:
    if wrap:
        say("wrap_returned_exceptions= has no effect any more, here as with Modal: the exception itself is returned")


def _find(app: "App", name: str) -> "Function[..., Any, Any]":
    """A function that travelled inside a pickle, where it arrives."""
    return app.function_handle(name)
