"""What the steps of an image are given, checked where they are written: in every container too, so it must be light."""

import os
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from greenroom.model.errors import InvalidError
from greenroom.sdk.options import read_options, read_secrets
from greenroom.sdk.secret import Secret, checked_variables, in_order
from greenroom.usercode.unwrap import raw_function

if TYPE_CHECKING:
    from greenroom.model.secrets import StoredSecret

HOUR = 3600.0
_YIELDS = 0x20 | 0x200
"""Flags of a generator's code, plain or asynchronous; ``inspect`` would cost each container 8 ms."""


class Variables(NamedTuple):
    """Environment variables of a step: plain ones count with their values, those of secrets by name."""

    plain: dict[str, str]
    secret: dict[str, str]
    stored: "list[StoredSecret]" = []
    """Stored ones, and what is given after each."""

    def named(self) -> dict[str, list[str]]:
        """What counts of the secrets in a step's key: names."""
        variables = sorted({*self.secret, *(name for stored in self.stored for name in stored.after)})
        names = {"stored": [stored.name for stored in self.stored]} if self.stored else {}
        return {"secrets": variables, **names}

    def asked(self, place: str = "environment") -> dict[str, Any]:
        """All of them, as a step's ``rest`` has them in that field; the server fills in what is stored."""
        known: dict[str, Any] = {place: {**self.secret, **self.plain}}
        if self.stored:
            *others, last = self.stored
            known["stored"] = {place: [*others, last._replace(after={**last.after, **self.plain})]}
        return known


class FunctionCall(NamedTuple):
    """A function that is called in an image."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]


def variables(where: str, env: Mapping[str, str | None] | None, secrets: Sequence[Secret] | None) -> Variables:
    """What ``env=`` and ``secrets=`` say; raises ``InvalidError``."""
    before, stored = in_order(read_secrets(where, secrets))
    return Variables(checked_variables(f"{where}: env=", {} if env is None else env), before, stored)


def function_call(where: str, given: Any, args: Any, kwargs: Any) -> FunctionCall:
    """What ``run_function`` was given; raises ``InvalidError``."""
    raw = raw_function(given) if callable(given) else given
    if isinstance(raw, FunctionType) and getattr(given, "_owner", None) is None:
        if raw.__code__.co_flags & _YIELDS:
            raise InvalidError(
                f"{where}({raw.__name__}): calling a generator runs nothing of it: write a def without yield"
            )
    else:
        raise InvalidError(f"{where} takes a function, not {given!r:.80}: {_instead(raw)}")
    if isinstance(args, str | bytes | Mapping) or not hasattr(args, "__iter__"):
        raise InvalidError(f"{where}({raw.__name__}): args= takes a tuple or a list: write args=({args!r:.40},)")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise InvalidError(f"{where}({raw.__name__}): kwargs= takes a dict, not {kwargs!r:.80}")
    return FunctionCall(raw.__name__, raw, (tuple(args), dict(kwargs or {})))


def _instead(given: Any) -> str:
    """What to write in the place of what is no function."""
    if type(given).__name__ == "partial":
        return f"give it {getattr(given.func, '__name__', 'the function')} itself, and args= and kwargs="
    if isinstance(given, MethodType | FunctionType):
        return f"write a def that makes the object and calls its {given.__name__}"
    if isinstance(given, type) or hasattr(given, "user_class"):
        return "write a def that makes one; a class has @greenroom.build() hooks of its own"
    return "write a def that calls it" if callable(given) else "write a def, and give its name without parentheses"


def path_of(where: str, given: Any) -> str:
    """A path, as text; raises ``InvalidError``."""
    text = os.fspath(given) if hasattr(given, "__fspath__") else given
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidError(f"{where} takes a path, not {given!r:.80}")
    return text


def resources(where: str, *, timeout: Any, cpu: Any, memory: Any) -> dict[str, Any]:
    """Checked, as fields of a spec; raises ``InvalidError``."""
    limit = HOUR if timeout is None else timeout
    fields = read_options(where, {"timeout": limit, "cpu": cpu, "memory": memory}).fields
    return {**fields, "startup_timeout": fields["timeout"]}


def lacking(where: str, **given: Any) -> str:
    """The first option of a feature that isn't built; ``""``: there is none."""
    return next((f"{where}({name}=…)" for name, value in given.items() if value), "")


def pip_options(
    find_links: str | None, index_url: str | None, extra_index_url: str | None, extra_options: str, *, pre: bool
) -> list[str]:
    """Options of ``pip install``, as words."""
    import shlex

    named = (("--find-links", find_links), ("--index-url", index_url), ("--extra-index-url", extra_index_url))
    words = [word for name, value in named if value is not None for word in (name, value)]
    return [*words, *(["--pre"] if pre else []), *shlex.split(extra_options)]
