"""``gpu.A100(count=2)``: the older spelling of ``gpu="A100:2"``."""

from typing import Any as _Anything

from greenroom.model.errors import InvalidError


class _GPU:
    """A kind of GPU and how many of it; as text what ``gpu=`` takes.

    Raises:
        InvalidError: ``count`` is no whole number of at least 1, or there is no such size.
    """

    sizes: tuple[str, ...] = ()

    def __init__(self, count: int = 1, *, size: str | None = None) -> None:
        kind = type(self).__name__
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise InvalidError(f"gpu.{kind}(count={count!r}) must be a whole number of at least 1")
        if size is not None and size not in self.sizes:
            known = f"it is one of {', '.join(self.sizes)}" if self.sizes else "there is only one: leave it out"
            raise InvalidError(f"gpu.{kind}(size={size!r}): {known}")
        name = kind.lower() if kind == "Any" else kind
        self._text = f"{name}-{size}" if size else name
        if count > 1:
            self._text += f":{count}"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"GPU({self._text})"


class T4(_GPU):
    """16 GiB."""


class L4(_GPU):
    """24 GiB."""


class A10G(_GPU):
    """24 GiB."""


class L40S(_GPU):
    """48 GiB."""


class A100(_GPU):
    """40 GiB, or ``size="80GB"``."""

    sizes = ("40GB", "80GB")


class H100(_GPU):
    """80 GiB."""


class Any(_GPU):
    """Whichever there is."""


def __getattr__(name: str) -> _Anything:
    """What else Modal has here can be named, and is refused when it is used."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from greenroom.sdk.unbuilt import Recorded

    return Recorded(f"gpu.{name}")
