"""Names of features that later versions build: they import and record; to use one is refused with its name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from greenroom.sdk.options import Options

CHAINS = frozenset({"Image", "FilePatternMatcher"})
"""Descriptions that are built up by calls, none of which does anything yet."""
DECLARED = frozenset({
    "CloudBucketMount", "Cron", "Dict", "Environment", "Mount", "NetworkFileSystem", "Period", "Probe", "Proxy", "Queue",
    "SchedulerPlacement", "Volume",
})  # fmt: skip
"""What a program names at its top level; to do something with it is another matter."""
ACTIONS = frozenset({
    "Client", "Cluster", "ClusterInfo", "RunningApp", "Sandbox", "SandboxSnapshot", "Server", "Tunnel", "Workspace",
    "billing", "clustered", "config", "experimental", "forward", "gpu", "interact", "interactive", "sessioned", "types",
})  # fmt: skip
"""What does something as soon as it is called."""
NAMES = CHAINS | DECLARED | ACTIONS
_DECLARING = frozenset({"from_name", "from_id", "from_dict", "lookup", "from_local_dir", "from_local_python_packages"})


class Recorded:
    """A value of a feature that isn't built: what is done to it is recorded, until it would have to do something."""

    def __init__(self, name: str, description: str = "") -> None:
        self._name = name
        self._description = description or name

    def __repr__(self) -> str:
        return self._description

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._name == "Image" and name == "imports":
            return _imports
        return Recorded(self._name, f"{self._description}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> "Recorded":
        last = self._description.rpartition(".")[2]
        if (self._name not in CHAINS and last != self._name and last not in _DECLARING) or self._name in ACTIONS:
            raise NotImplementedError(f"{self._description}(…): {self._name} is not built yet")
        arguments = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
        return Recorded(self._name, f"{self._description}({arguments})")


@contextmanager
def _imports() -> Iterator[None]:
    """``with image.imports():``: modules that are only there in the image may be missing here."""
    from greenroom.usercode.context import is_local

    try:
        yield
    except ImportError:
        if not is_local():
            raise


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


def refuse_later(name: str, options: Options, web: list[Any], build: list[str], batched: Any) -> None:
    """Raise ``NotImplementedError`` for the first feature that a function needs and that isn't built."""
    for feature, value in options.later.items():
        raise NotImplementedError(f"{name} uses {feature}={value!r}: {feature} is not built yet")
    if web:
        raise NotImplementedError(f"{name} is a web endpoint: web endpoints are not built yet")
    if build:
        raise NotImplementedError(f"{name}.{build[0]} is a @build hook: image builds are not built yet")
    if batched is not None:
        raise NotImplementedError(f"{name} is @batched: batching is not built yet")
