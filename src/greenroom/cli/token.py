"""``greenroom token``: what lets clients request endpoints with ``requires_proxy_auth=True``."""

import sys
import time

import click

from greenroom.cli.misuse import Misuse
from greenroom.cli.table import print_table
from greenroom.model import web_tokens
from greenroom.model.settings import home_directory


@click.group()
def token() -> None:
    """Create, list or revoke tokens for web endpoints that want one."""


@token.command()
@click.option("--name", default="", help="What it is for, for the list.")
def create(name: str) -> None:
    """Make a token and print it: its secret is shown this once. Clients send it
    as the headers Modal-Key and Modal-Secret, or as basic authorization.
    """
    made, secret = web_tokens.create(home_directory(), name)
    click.echo(f"Modal-Key: {made.id}\nModal-Secret: {secret}")


@token.command(name="list")
def list_tokens() -> None:
    """List the tokens, without their secrets."""
    try:
        tokens = web_tokens.read(home_directory())
    except ValueError as error:
        raise Misuse(str(error)) from None
    if not tokens:
        click.echo("no tokens: `greenroom token create` makes one", err=True)
        return
    rows = [("ID", "NAME", "CREATED")]
    rows += [(t.id, t.name, time.strftime("%Y-%m-%d %H:%M", time.localtime(t.created))) for t in tokens]
    print_table(rows)


@token.command()
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """Let a token be of no more use, from the next second on."""
    if not web_tokens.revoke(home_directory(), token_id):
        raise Misuse(f"there is no token {token_id}; `greenroom token list` shows them")
    print(f"{token_id} is of no more use", file=sys.stderr)
