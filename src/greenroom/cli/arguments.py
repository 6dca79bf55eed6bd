"""The parameters of a function as command-line options.

What isn't given isn't passed, so that the function's own default holds, whatever its type.
"""

import datetime
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import click
from click.core import ParameterSource

from greenroom.cli.misuse import Misuse

_EMPTY = inspect.Parameter.empty
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_SIMPLE: dict[Any, click.ParamType[Any]] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    _EMPTY: click.STRING,
    Any: click.STRING,
}
TYPES = "str, int, float, bool, datetime, Literal[…], or one of these | None"


class Parameter(NamedTuple):
    """One parameter; ``annotation`` is a type, or text that could not be read as one."""

    name: str
    kind: Any
    annotation: Any
    default: Any


class Parameters:
    """The parameters of one function, as options.

    Args:
        owner: what to call it in messages.

    Raises:
        Misuse: a required parameter has a type that can't be an option.
    """

    def __init__(self, parameters: Sequence[Parameter], owner: str) -> None:
        self._all = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
        self.options: list[click.Option] = []
        self.rest = ""
        """The name of its ``*args``; ``""``: it has none."""
        for parameter in self._all:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                self.rest = parameter.name
            elif (option := _option(parameter, owner)) is not None:
                self.options.append(option)

    @property
    def names(self) -> set[str]:
        """What can be given as an option."""
        return {str(option.name) for option in self.options}

    def bind(self, given: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """``args`` and ``kwargs`` of the call; of ``given``, what is its own."""
        rest = list(given.get(self.rest, ())) if self.rest else []
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        # What comes before positional arguments has to be positional too.
        last = max((i for i, p in enumerate(self._all) if self._needs_place(p, given, rest)), default=-1)
        for index, parameter in enumerate(self._all):
            if parameter.name == self.rest:
                continue
            if index <= last and parameter.kind in _POSITIONAL:
                args.append(given.get(parameter.name, parameter.default))
            elif parameter.name in given:
                kwargs[parameter.name] = given[parameter.name]
        return args + rest, kwargs

    @staticmethod
    def _needs_place(parameter: Parameter, given: dict[str, Any], rest: list[Any]) -> bool:
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            return parameter.name in given
        return parameter.kind is inspect.Parameter.VAR_POSITIONAL and bool(rest)


def parameters_of(function: Callable[..., Any], owner: str, *, skip_self: bool = False) -> Parameters:
    """The parameters of a function; of a method, without the first."""
    found = list(inspect.signature(function).parameters.values())[1 if skip_self else 0 :]
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return Parameters(
        [Parameter(p.name, p.kind, _read_annotation(p.annotation, names), p.default) for p in found], owner
    )


def _read_annotation(annotation: Any, names: dict[str, Any]) -> Any:
    """The type that text stands for (``from __future__ import annotations``), where its names are there."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(names))  # noqa: S307 - the program's own annotation, in its own module
    except (NameError, AttributeError, SyntaxError, TypeError):
        return annotation


def parse(title: str, doc: str | None, groups: Sequence[Parameters], arguments: Sequence[str]) -> dict[str, Any]:
    """What was given for the parameters of all groups; the rest under the name of ``*args``.

    Raises:
        click.ClickException: a wrong option or value.
        click.exceptions.Exit: the help was asked for, and shown.
    """
    rest = next((group.rest for group in groups if group.rest), "")
    options = [option for group in groups for option in group.options]
    if rest and not options:
        return {rest: list(arguments)}  # a program that reads its arguments itself, --help included
    shown: list[click.Parameter] = [*options]
    if rest:
        shown.append(click.Argument([rest], nargs=-1, type=click.UNPROCESSED))
    names = {name for option in options for name in option.opts}
    command = click.Command(title, params=shown, help=doc)
    context = command.make_context(
        title,
        list(arguments),
        ignore_unknown_options=bool(rest),
        help_option_names=[] if "--help" in names else ["-h", "--help"],
    )
    return {
        name: value
        for name, value in context.params.items()
        if name == rest or context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }


def _option(parameter: Parameter, owner: str) -> click.Option | None:
    """One option; None where a parameter with a default has a type that can't be one."""
    name, default = parameter.name, parameter.default
    annotation = _bare(parameter.annotation)
    if annotation is _EMPTY and isinstance(default, bool | int | float | datetime.datetime):
        annotation = type(default)
    required = default is _EMPTY
    settings: dict[str, Any] = {"required": required}
    if not required and default is not None:
        settings["help"] = f"[default: {default}]"
    spellings = list(dict.fromkeys((name.replace("_", "-"), name)))
    if annotation is bool:
        no = [f"no-{spellings[0]}", *(f"no_{other}" for other in spellings[1:])]
        flags = [f"--{yes}/--{negative}" for yes, negative in zip(spellings, no, strict=True)]
        return click.Option([*flags, name], default=None, **settings)
    kind = _type(annotation)
    if kind is not None:
        return click.Option([*(f"--{spelling}" for spelling in spellings), name], type=kind, **settings)
    if required:
        shown = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        if get_args(annotation):
            shown = str(annotation)
        raise Misuse(f"{owner}: its parameter {name} is a {shown}, which can't be an option; it can be {TYPES}")
    return None


def _bare(annotation: Any) -> Any:
    """Without ``Annotated`` and ``| None``."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            return _bare(members[0])
    return annotation


def _type(annotation: Any) -> click.ParamType[Any] | None:
    if get_origin(annotation) is Literal:
        return _OneOf(get_args(annotation))
    if annotation is datetime.datetime:
        return _Moment()
    return _SIMPLE.get(annotation) if isinstance(annotation, type) or annotation is Any else None


class _Moment(click.ParamType[Any]):
    name = "datetime"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.datetime:
        """An ISO 8601 date, or date and time."""
        try:
            return datetime.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date or time like 2026-01-31 or 2026-01-31T12:30:00", param, ctx)


class _OneOf(click.ParamType[Any]):
    name = "choice"

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = {str(value): value for value in values}

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """As ``--help`` shows it."""
        return f"[{'|'.join(self._values)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value whose text was given."""
        if value not in self._values:
            self.fail(f"{value!r} is not one of {', '.join(self._values)}", param, ctx)
        return self._values[value]
