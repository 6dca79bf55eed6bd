"""``greenroom token``: what lets clients request endpoints with ``requires_proxy_auth=True``, and programs on other machines use
this one's server.
"""

import sys
import time

import click

from greenroom.cli.misuse import Misuse
from greenroom.cli.table import print_table
from greenroom.model import client_tokens, web_tokens
from greenroom.model.settings import home_directory


@click.group()
def token() -> None:
    """Create, list or revoke tokens of this machine's server: for web endpoints
    that want one, and for programs on other machines (--client).
    """


@token.command()
@click.option("--name", default="", help="Of a token for web endpoints: what it is for, for the list.")
@click.option("--client", metavar="NAME", default="",
              help="Make one that lets programs on other machines do all that this user may; NAME is for the list.")  # fmt: skip
def create(name: str, client: str) -> None:
    """Make a token and print it: its secret is shown this once.

    Without --client it is for web endpoints with requires_proxy_auth=True: sent as
    the headers Modal-Key and Modal-Secret, or as basic authorization. With
    --client it is for `greenroom server --listen`: on the other machine,
    `greenroom profile set NAME --server HOST:PORT --token TOKEN`, or GREENROOM_TOKEN.
    """
    if name and client:
        raise Misuse("--name is of a token for web endpoints, --client of one for programs: give one of them")
    home = home_directory()
    try:
        if client:
            click.echo(client_tokens.create(home, client)[1])
        else:
            made, secret = web_tokens.create(home, name)
            click.echo(f"Modal-Key: {made.id}\nModal-Secret: {secret}")
    except ValueError as error:
        raise Misuse(str(error)) from None


@token.command(name="list")
def list_tokens() -> None:
    """List the tokens, without their secrets."""
    home = home_directory()
    try:
        tokens = [("web", each) for each in web_tokens.read(home)]
        tokens += [("client", each) for each in client_tokens.read(home)]
    except ValueError as error:
        raise Misuse(str(error)) from None
    if not tokens:
        click.echo("no tokens: `greenroom token create` makes one", err=True)
        return
    rows = [("ID", "NAME", "FOR", "CREATED")]
    rows += [(t.id, t.name, kind, time.strftime("%Y-%m-%d %H:%M", time.localtime(t.created))) for kind, t in tokens]
    print_table(rows)


@token.command(short_help="Let a token be of no more use.")
@click.argument("token_id", metavar="ID")
def revoke(token_id: str) -> None:
    """Let a token be of no more use, from the next second on: who requests with
    it is refused, and the connections of programs that have shown it end.
    """
    of = client_tokens if token_id.startswith(f"{client_tokens.KIND}-") else web_tokens
    try:
        there = of.revoke(home_directory(), token_id)
    except ValueError as error:
        raise Misuse(str(error)) from None
    if not there:
        raise Misuse(f"there is no token {token_id}; `greenroom token list` shows them")
    print(f"{token_id} is of no more use", file=sys.stderr)
