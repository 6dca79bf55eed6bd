"""``greenroom call``."""

import json
import sys
from typing import Any

import click

from greenroom.cli.namespace import namespace_option
from greenroom.sdk.cls import Cls
from greenroom.sdk.function import Function


@click.command()
@click.argument("app", metavar="APP")
@click.argument("function", metavar="FUNCTION|CLASS.METHOD")
@click.option("--json", "arguments", metavar="JSON", default="[]",
              help="The arguments: a list of them, or an object by their names; - reads it from stdin.")  # fmt: skip
@click.option("--with", "constructor", metavar="JSON", default="{}", help="The class's parameters, by their names.")
@click.option("--spawn", is_flag=True, help="Don't wait: print the call's id, which FunctionCall.from_id takes.")
@namespace_option
def call(app: str, function: str, arguments: str, constructor: str, spawn: bool) -> None:
    """Call a function of a deployed app, and print what it returns: as JSON,
    where it can be that, else as Python shows it.

    \b
    greenroom call shop price --json '["tea"]'
    greenroom call shop Model.predict --with '{"size": "big"}' --json '{"x": 3}'
    """
    if arguments == "-":
        arguments = sys.stdin.read()
    given = _read("--json", arguments, list=list, object=dict)
    args, kwargs = (given, {}) if isinstance(given, list) else ([], given)
    parameters = _read("--with", constructor, object=dict)
    name, _, method = function.partition(".")
    target: Any = Function.from_name(app, name)
    if method:
        instance: Any = Cls.from_name(app, name)(**parameters)
        target = getattr(instance, method)
    elif parameters:
        raise click.UsageError(f"--with is for a class's method, and {function} names a function: write CLASS.METHOD")
    if spawn:
        click.echo(target.spawn(*args, **kwargs).object_id)
        return
    result = target.remote(*args, **kwargs)
    try:
        click.echo(json.dumps(result, ensure_ascii=False))
    except (TypeError, ValueError):
        click.echo(repr(result))


def _read(option: str, text: str, **kinds: type) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{option} is no JSON: {error}") from None
    if not isinstance(value, tuple(kinds.values())):
        raise click.UsageError(f"{option} is no {' and no '.join(kinds)}")
    return value
