"""Names of features that later versions build: they import and record; to use one is refused with its name."""

import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from greenroom.sdk.options import Options

CHAINS = frozenset({"Mount"})
"""Descriptions that are built up by calls, none of which does anything yet."""
DECLARED = frozenset({
    "CloudBucketMount", "Cls", "Dict", "Environment", "NetworkFileSystem", "Probe", "Proxy", "Queue", "SchedulerPlacement",
    "Volume",
})  # fmt: skip
"""What a program names at its top level; to do something with it is another matter."""
ACTIONS = frozenset({
    "Client", "Cluster", "ClusterInfo", "RunningApp", "Sandbox", "SandboxSnapshot", "Server", "Tunnel", "Workspace",
    "billing", "clustered", "config", "experimental", "forward", "interact", "interactive", "sessioned", "types",
})  # fmt: skip
"""What does something as soon as it is called."""
NAMES = CHAINS | (DECLARED - {"Cls"}) | ACTIONS
_DECLARING = frozenset({
    "from_context", "from_dict", "from_id", "from_name", "lookup", "new", "persisted", "read_only", "with_batching",
    "with_concurrency", "with_mount_options", "with_options",
})  # fmt: skip


class Recorded:
    """A value of a feature that isn't built: what is done to it is recorded, until it would have to do something."""

    def __init__(self, name: str, description: str = "", last: str = "", *, made: bool = False) -> None:
        self._name = name
        self._description = description or name
        self._last = last or name
        """The name that a call of it would call."""
        self._made = made
        """It stands for a value, not for the class."""

    def __repr__(self) -> str:
        return self._description

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Recorded(self._name, f"{self._description}.{name}", name)

    def __call__(self, *args: Any, **kwargs: Any) -> "Recorded":
        declares = self._name in CHAINS or self._last in _DECLARING or self._last == self._name in DECLARED
        if not declares or self._name in ACTIONS:
            raise self._unbuilt("(…)")
        arguments = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
        # Only of a class of the user's can what was made be called: that names an instance.
        last = "Cls" if self._name == "Cls" and self._last in _DECLARING else "()"
        return Recorded(self._name, f"{self._description}({arguments})", last, made=True)

    def _unbuilt(self, use: str) -> NotImplementedError:
        what = "deployed apps are" if self._name == "Cls" else f"{self._name} is"
        return NotImplementedError(f"{self._description}{use}: {what} not built yet")

    def __invert__(self) -> "Recorded":
        if self._name not in CHAINS:
            raise self._unbuilt(" inverted")
        return Recorded(self._name, f"~{self._description}", made=True)

    # ---- where a class may stand ----

    def __or__(self, other: Any) -> Any:
        return typing.Union[self, other]  # noqa: UP007 - self is no type

    def __ror__(self, other: Any) -> Any:
        return typing.Union[other, self]  # noqa: UP007

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Recorded) and value._made and value._name == self._name

    def __subclasscheck__(self, kind: type) -> bool:
        return False

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        raise self._unbuilt(" as a base class")

    # ---- where a container may stand ----

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: Any) -> Any:
        raise self._unbuilt(f"[{key!r}]")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise self._unbuilt(f"[{key!r}] = …")

    def __delitem__(self, key: Any) -> None:
        raise self._unbuilt(f"[{key!r}] deleted")

    def __contains__(self, key: Any) -> bool:
        raise self._unbuilt(f" asked for {key!r}")

    def __len__(self) -> int:
        raise self._unbuilt(" asked for its length")

    def __iter__(self) -> Iterator[Any]:
        raise self._unbuilt(" iterated over")

    def __aiter__(self) -> Any:
        raise self._unbuilt(" iterated over")

    def __await__(self) -> Any:
        raise self._unbuilt(" awaited")

    def __enter__(self) -> Any:
        raise self._unbuilt(" entered")

    def __exit__(self, *exception: object) -> None:
        """Never entered."""

    async def __aenter__(self) -> Any:
        raise self._unbuilt(" entered")

    async def __aexit__(self, *exception: object) -> None:
        """Never entered."""


@contextmanager
def passing_over_imports() -> Iterator[None]:
    """``with image.imports():``: modules that are only there in the image may be missing, here and in other images."""
    from greenroom.usercode.context import is_local

    try:
        yield
    except ImportError as error:
        if not is_local():
            from greenroom.sdk.streams import warn

            warn(f"greenroom: inside image.imports(), and passed over: {type(error).__name__}: {error}")


T = TypeVar("T", bound=type)


def unbuilt(*methods: str, values: tuple[str, ...] = ()) -> Callable[[T], T]:
    """Give a class the names of Modal's that later versions build: to call one, or to read a value, is refused."""

    def decorate(cls: T) -> T:
        for name in methods:
            setattr(cls, name, _Refused(f"{cls.__name__}.{name}"))
        for name in values:
            setattr(cls, name, property(_Refused(f"{cls.__name__}.{name}").refuse))
        return cls

    return decorate


class _Refused:
    def __init__(self, name: str) -> None:
        self._name = name
        self.aio = self.refuse

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.refuse()

    def refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{self._name} is not built yet")


def lacking(options: "Options") -> str:
    """The first feature that a function or class needs and that isn't built: so much of a sentence; ``""``: it can run."""
    why = {"ephemeral_disk": " (what containers write has no quota so far)"}
    for feature in options.later:
        return f"{feature}= is not built yet{why.get(feature, '')}"
    if options.image is not None and options.image.lacking:
        return f"{options.image.lacking} is not built yet"
    return ""
