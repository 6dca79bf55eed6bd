"""Classes of an app: what ``@app.cls`` makes of a class, and its objects."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from greenroom.model.errors import InvalidError
from greenroom.sdk.binding import canonical, encode_binding
from greenroom.sdk.function import Function
from greenroom.sdk.local import LocalInstance
from greenroom.sdk.one_namespace import check_of_a_name
from greenroom.sdk.program import find_reference, reference
from greenroom.sdk.target import Target
from greenroom.sdk.tracebacks import show_without_our_frames
from greenroom.sdk.unbuilt import unbuilt
from greenroom.usercode.context import own
from greenroom.usercode.definition import ClassDefinition, describe_class
from greenroom.usercode.hooks import Method
from greenroom.usercode.service import bind_parameters

if TYPE_CHECKING:
    from greenroom.sdk.app import App
    from greenroom.sdk.named import NamedCls


class NeedsInstanceError(InvalidError, AttributeError):
    """A method was asked of a class; for ``hasattr``, and for what looks names up, there is none."""


@unbuilt("from_local", "hydrate")
class Cls:
    """A class whose containers run its hooks; call it to name an instance: ``Model(size="big").predict.remote(x)``."""

    def __init__(
        self,
        app: "App",
        name: str,
        user_class: type,
        by_value: bool,
        lacking: str = "",
        definition: ClassDefinition | None = None,
    ) -> None:
        self.app = app
        self.name = name
        self.by_value = by_value
        self.lacking = lacking
        """What it needs that isn't built, so that it can't be called; ``""``: nothing."""
        self._definition = definition
        self._made_here: WeakValueDictionary[int, Obj] = WeakValueDictionary()
        self.__greenroom_raw__ = user_class
        self.__name__ = user_class.__name__
        self.__qualname__ = user_class.__qualname__
        self.__module__ = user_class.__module__
        self.__doc__ = user_class.__doc__

    @classmethod
    def from_name(cls, app_name: str, name: str, **options: Any) -> "NamedCls":
        """A class of a deployed app.

        Raises:
            InvalidError: there is no such argument, or ``environment_name`` is not ``main``, the one that there is.
        """
        from greenroom.sdk.named import NamedCls

        show_without_our_frames()
        check_of_a_name(f"Cls.from_name({app_name!r:.80}, {name!r:.80})", options)
        return NamedCls(app_name, name)

    lookup = from_name

    def __repr__(self) -> str:
        return f"Cls({self.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.app.sends_by_value(self.name) and (where := reference(self)) is not None:
            return (find_reference, where)
        return (Cls, (self.app, self.name, self.__greenroom_raw__, self.by_value, self.lacking))

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type]:
        return (self.__greenroom_raw__,)

    @property
    def definition(self) -> ClassDefinition:
        """What its decorators say. Read when first needed: a class that arrives by value isn't whole before its Cls is."""
        if self._definition is None:
            self._definition = describe_class(self.__greenroom_raw__, enable_memory_snapshot=True)
        return self._definition

    @property
    def user_class(self) -> type:
        """The class itself."""
        return self.__greenroom_raw__

    def method_names(self) -> list[str]:
        """What can be called from afar."""
        return list(self.definition.methods)

    def __call__(self, *args: Any, **kwargs: Any) -> "Obj":
        return Obj(self, args, kwargs)

    def with_options(self, **options: Any) -> "Cls":
        """The class with other options. It can be named; to call its methods is refused, until that is built."""
        return self._changed("with_options")

    def with_concurrency(self, **options: Any) -> "Cls":
        """As :meth:`with_options`."""
        return self._changed("with_concurrency")

    def with_batching(self, **options: Any) -> "Cls":
        """As :meth:`with_options`."""
        return self._changed("with_batching")

    def _changed(self, how: str) -> "Cls":
        lacking = self.lacking or f"Cls.{how} is not built yet"
        return Cls(self.app, self.name, self.__greenroom_raw__, self.by_value, lacking, self._definition)

    def note_made(self, instance: Any, obj: "Obj") -> None:
        """``obj`` has made its instance in this process."""
        self._made_here[id(instance)] = obj

    def maker_of(self, instance: Any) -> "Obj | None":
        """The object that made an instance in this process; None: something else did."""
        return self._made_here.get(id(instance))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.__greenroom_raw__, name)
        if isinstance(found, Method):
            raise NeedsInstanceError(f"{self.name}.{name} needs an instance: write {self.name}().{name}")
        return found


@unbuilt("keep_warm", "update_autoscaler")
class Obj:
    """An instance by name: its methods run in containers; with ``.local()``, or as ``with Model() as m:``, here."""

    def __init__(self, cls: Cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._cls = cls
        self._arguments = (args, kwargs)
        self._canonical = canonical(cls.definition, args, kwargs)
        self._functions: dict[str, Function[..., Any, Any]] = {}
        self._here = LocalInstance(cls.definition, args, kwargs, lambda instance: cls.note_made(instance, self))

    def __repr__(self) -> str:
        return f"{self._cls.name}({', '.join([*map(repr, self._arguments[0]), *(f'{k}={v!r}' for k, v in self._arguments[1].items())])})"

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._arguments
        return (_make, (self._cls, args, kwargs))

    def __getattr__(self, name: str) -> Any:
        cls: Cls | None = vars(self).get("_cls")  # not yet, where it is being made
        if name.startswith("__") or cls is None:
            raise AttributeError(name)
        found = self._functions.get(name)
        if found is not None:
            return found
        definition = cls.definition
        method = definition.methods.get(name)
        if method is None and name in definition.web:
            method = Method(getattr(definition.cls, name))
            method.__set_name__(definition.cls, name)
        if method is not None:
            made: Function[..., Any, Any] = Function(
                method.function, self.__greenroom_target__(method), self._local_call(method), owner=self
            )
            return self._functions.setdefault(name, made)
        if name.startswith("_"):
            raise AttributeError(name)
        if name in definition.parameters and not self._here.made:
            return bind_parameters(definition, *self._arguments)[name]
        if not self._here.made and not hasattr(definition.cls, name):
            raise AttributeError(self._no_such(name))
        return getattr(self._here.entered(), name)

    def _no_such(self, name: str) -> str:
        import difflib

        text = f"{self._cls.name} has no {name}"
        if close := difflib.get_close_matches(name, dir(self._cls.user_class), 1):
            return f"{text}; did you mean {close[0]}?"
        return f"{text}; what its hooks set is there in a container, or after `with {self._cls.name}(…) as obj:`"

    def __greenroom_target__(self, method: Method) -> Target:
        """What a method of this object is addressed to."""
        cls = self._cls
        name = f"{cls.name}.{method.name}"
        binding = encode_binding(name, self._canonical, cls.by_value)
        return target_of(cls, method, binding)

    def _local_call(self, method: Method) -> Callable[..., Any]:
        if method.is_async and not method.is_generator:

            async def call_async(*args: Any, **kwargs: Any) -> Any:
                return await method.function(await self._here.entered_async(), *args, **kwargs)

            return call_async

        def call(*args: Any, **kwargs: Any) -> Any:
            return method.function(self._here.entered(), *args, **kwargs)

        return call

    def __enter__(self) -> Any:
        self._here.enter_or_exit()
        return self

    def __exit__(self, *exception: object) -> None:
        self._here.exit()

    async def __aenter__(self) -> Any:
        await self._here.enter_or_exit_async()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._here.exit_async()


def target_of(cls: Cls, method: Method, binding: bytes) -> Target:
    """A method of one of a class's pools."""
    return Target(
        lambda: cls.app.function_id(cls.name),
        method.name,
        f"{cls.name}.{method.name}",
        is_generator=method.is_generator,
        by_value=cls.by_value,
        binding=binding,
        lacking=cls.lacking,
    )


def bind(instance: Any, method: Method) -> Function[..., Any, Any]:
    """Inside the class, ``self.other`` is callable, and has ``.remote``, ``.local`` and the rest."""

    def local(*args: Any, **kwargs: Any) -> Any:
        return method.function(instance, *args, **kwargs)

    return Function(method.function, _target_inside(instance, method), local)


def _target_inside(instance: Any, method: Method) -> Target:
    """``self.other``: the pool that this container belongs to, or that the object is of that was made here."""
    cls: Cls | None = getattr(type(instance), "__greenroom_class__", None)
    if cls is None:
        raise InvalidError(f"{type(instance).__name__} belongs to no app; decorate it with @app.cls()")
    if own().instance is instance:
        return target_of(cls, method, own().binding)
    maker = cls.maker_of(instance)
    if maker is not None:
        return maker.__greenroom_target__(method)
    if not cls.definition.has_constructor:
        values = {name: getattr(instance, name) for name, info in cls.definition.parameters.items() if info.init}
        return Obj(cls, (), values).__greenroom_target__(method)
    return target_of(cls, method, b"")


def _make(cls: Cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Obj:
    return Obj(cls, args, kwargs)
