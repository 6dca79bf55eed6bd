"""``greenroom call``."""

import json
import sys
from typing import Any

import click

from greenroom.cli.failure import program_failures
from greenroom.cli.namespace import namespace_option
from greenroom.cli.servers import the_one_that_stays
from greenroom.model.errors import DeserializationError, ExecutionError, FunctionTimeoutError, RemoteError
from greenroom.sdk.cls import Cls
from greenroom.sdk.function import Function
from greenroom.usercode.context import inside


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

    Exit status: 0; 1 the call failed; 2 misuse; 130 Ctrl-C.
    """
    if arguments == "-":
        try:
            arguments = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError:
            raise click.UsageError("--json -: what standard input has is no UTF-8 text") from None
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
    if inside() is None:
        the_one_that_stays()  # else it is told as to a program, which might run the app itself
    with program_failures(ExecutionError, FunctionTimeoutError, RemoteError, DeserializationError):
        result = target.spawn(*args, **kwargs).object_id if spawn else target.remote(*args, **kwargs)
    if spawn:
        click.echo(result)
        return
    try:
        click.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        with program_failures():  # it is the program's own how its values are shown
            click.echo(repr(result))


def _read(option: str, text: str, **kinds: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{option} is no JSON: {error}") from None
    if not isinstance(value, tuple(kinds.values())):
        raise click.UsageError(f"{option} is no {' and no '.join(kinds)}")
    return value
