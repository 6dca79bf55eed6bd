"""``greenroom secret``: create, list, delete.

``list --json`` prints a JSON list of records; a program may rely on these fields:

- ``name``; ``keys``: the names of its variables; ``created``, ``updated``, ``used``: seconds since 1970 (``used``: when a
  container or an image last got it; 0: never)
- ``problem``: why it can't be read, or ``""``. Then ``keys`` is empty, and the times are 0.
"""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from greenroom.cli.misuse import Misuse
from greenroom.cli.namespace import namespace_option
from greenroom.cli.table import print_table
from greenroom.model.secrets import check_name, check_sizes
from greenroom.sdk.channel import next_rid
from greenroom.sdk.secret import checked_variables, read_dotenv
from greenroom.sdk.session import close_session, open_session
from greenroom.wire.schema import to_json
from greenroom.wire.secret_messages import DeleteSecret, ListSecrets, PutSecret

WHERE = "secret create"


@click.group()
def secret() -> None:
    """Store secrets: variables that containers of apps that name them find."""


@secret.command(short_help="Store one.")
@click.argument("name")
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--from-dotenv", type=click.Path(path_type=Path), help="Variables of a .env file.")
@click.option("--from-json", type=click.Path(path_type=Path), help="Variables of a JSON object.")
@click.option("--force", is_flag=True, help="Overwrite the one of that name, as a whole.")
@namespace_option
def create(name: str, pairs: tuple[str, ...], from_dotenv: Path | None, from_json: Path | None, force: bool) -> None:
    """Store a secret. KEY=- reads the value from standard input, so that it is
    in no command line: `greenroom secret create NAME KEY=- < file` (but for
    the newline at its end); on a terminal it is asked for, unseen.
    """
    check_name(WHERE, name)
    variables = _of_pairs(pairs)
    if from_dotenv is not None:
        variables |= read_dotenv(WHERE, from_dotenv)
    if from_json is not None:
        variables |= _of_json(from_json)
    if not variables:
        raise Misuse(f"{WHERE}: give at least one variable, as KEY=VALUE, or by --from-dotenv or --from-json")
    values = checked_variables(WHERE, variables)
    check_sizes(WHERE, values)
    existed = _ask(PutSecret(next_rid(), name, force, []), [to_json(values)])["existed"]
    names = ", ".join(sorted(values))
    click.echo(f"{name} is {'overwritten' if existed else 'stored'}, with {names}", err=True)
    click.echo(f"a program names it: greenroom.Secret.from_name({name!r}, required_keys={sorted(values)!r})", err=True)


@secret.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of records.")
@namespace_option
def list_(as_json: bool) -> None:
    """List the secrets, without their values.

    Exit status: 1 when one can't be read.
    """
    records = _ask(ListSecrets(next_rid()))["secrets"]
    if as_json:
        click.echo(json.dumps(records, indent=2))
    elif not records:
        click.echo("no secrets: `greenroom secret create NAME KEY=VALUE` stores one", err=True)
    else:
        rows = [("NAME", "VARIABLES", "CREATED", "UPDATED", "USED")]
        for record in records:
            times = (_at(record[when], record["problem"]) for when in ("created", "updated", "used"))
            rows.append((record["name"], ", ".join(record["keys"]) or "?", *times))
        print_table(rows)
    problems = dict.fromkeys(record["problem"] for record in records if record["problem"])
    for problem in problems:
        click.echo(f"greenroom: {problem}", err=True)
    if problems:
        sys.exit(1)


@secret.command(short_help="Remove one.")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Without asking.")
@namespace_option
def delete(name: str, yes: bool) -> None:
    """Remove a secret. What runs keeps what it has; no container that needs it
    starts any more.
    """
    check_name("secret delete", name)
    if not yes:
        if not sys.stdin.isatty():
            raise Misuse(f"secret delete {name}: there is nobody to ask whether that is meant: add --yes")
        click.confirm(f"remove the secret {name}?", abort=True, err=True)
    _ask(DeleteSecret(next_rid(), name))
    click.echo(f"{name} is removed", err=True)


def _ask(message: Any, payloads: list[Any] | None = None) -> dict[str, Any]:
    """The answer of the server, which is started for that where none is set."""
    session = open_session()
    try:
        return session.request(message, payloads)
    finally:
        close_session(session)


def _of_pairs(pairs: Iterable[str]) -> dict[str, Any]:
    """Nothing that was typed is in an error: it may be a value."""
    variables: dict[str, Any] = {}
    read = ""
    for number, pair in enumerate(pairs, 1):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise Misuse(f"{WHERE}: argument {number} after the name is not KEY=VALUE")
        if value == "-":
            value = _typed(key, read)
            read = read or key
        variables[key] = value
    return variables


def _typed(key: str, before: str) -> str:
    if sys.stdin.isatty():
        typed: str = click.prompt(key, hide_input=True, err=True, default="", show_default=False)
        return typed
    if before:
        raise Misuse(f"{WHERE}: {before}=- has read all of standard input, and there is none for {key}=-")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise Misuse(f"{WHERE}: what standard input has for {key} is no UTF-8 text") from None


def _of_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise Misuse(f"{WHERE}: can't read {file}: {error.strerror}") from None
    except (ValueError, RecursionError):  # whose text may show what is there
        raise Misuse(f"{WHERE}: {file} is no JSON") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Misuse(f'{WHERE}: {file} has to be an object whose values are texts: {{"KEY": "VALUE"}}')
    return found


def _at(when: float, problem: str) -> str:
    if not when:
        return "?" if problem else "never"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
