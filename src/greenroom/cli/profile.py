"""``greenroom profile``: servers on other machines, by name."""

import json
import os
import sys

import click

from greenroom.cli.misuse import Misuse
from greenroom.cli.table import print_table
from greenroom.model.errors import NotFoundError
from greenroom.sdk import profiles
from greenroom.sdk.address import LOCAL, OWN
from greenroom.sdk.profiles import Profile, Profiles
from greenroom.wire.far import certificate_at, check_fingerprint, read_address


@click.group()
def profile() -> None:
    """Servers on other machines, by name. The active one is used by all commands
    and programs of this user, unless GREENROOM_SERVER names another: a profile,
    HOST:PORT (with GREENROOM_TOKEN), local (this machine's) or own (one that
    ends with its program).
    """


@profile.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list: name, server, fingerprint, active.")
def list_(as_json: bool) -> None:
    """List the profiles, without their tokens."""
    known = profiles.read()
    if as_json:
        click.echo(json.dumps([
            {"name": name, "server": p.server, "fingerprint": p.fingerprint, "active": name == known.active}
            for name, p in known.by_name.items()
        ], indent=2))  # fmt: skip
    elif not known.by_name:
        click.echo("no profiles: `greenroom profile set NAME --server HOST:PORT --token TOKEN` makes one", err=True)
    else:
        rows = [("", "NAME", "SERVER", "FINGERPRINT")]
        rows += [
            ("*" * (name == known.active), name, p.server, p.fingerprint or "-") for name, p in known.by_name.items()
        ]
        print_table(rows)


@profile.command(short_help="Say which server is used.")
def current() -> None:
    """Say which server is used: a profile's name, HOST:PORT, local or own."""
    said = os.environ.get("GREENROOM_SERVER", "")
    if said and ":" not in said and said not in (OWN, LOCAL):
        profiles.find(said)
    click.echo(said or profiles.read().active or LOCAL)


@profile.command(short_help="Use one from now on, or the server of this machine.")
@click.argument("name")
def activate(name: str) -> None:
    """Use the profile NAME from now on; local: the server that stays on this machine."""
    known = profiles.read()
    if name != LOCAL and name not in known.by_name:
        raise NotFoundError(f"there is no profile {name!r}; `greenroom profile list` shows them")
    profiles.write(known._replace(active="" if name == LOCAL else name))
    said = os.environ.get("GREENROOM_SERVER")
    but = f", but for GREENROOM_SERVER={said}, which goes before it" if said and said != name else ""
    click.echo(f"✓ {name} is used from now on{but}")


@profile.command("set", short_help="Make a profile, or change one.")
@click.argument("name")
@click.option("--server", metavar="HOST:PORT", help="Where its server listens.")
@click.option(
    "--token",
    metavar="TOKEN",
    help="What `greenroom token create --client` has printed there; - reads it from standard input.",
)
@click.option("--fingerprint", metavar="SHA256:…",
              help="Of the server's certificate, as the server has printed it; without it the server is asked, and you.")  # fmt: skip
def set_(name: str, server: str | None, token: str | None, fingerprint: str | None) -> None:
    """Make the profile NAME, or change what is given of it. The first one made is active."""
    profiles.check_name(name)
    known = profiles.read()
    before = known.by_name.get(name)
    if token == "-":  # noqa: S105 - no token
        token = sys.stdin.readline().strip()
    if before is None and not (server and token):
        raise Misuse(f"profile set {name}: there is none yet, so give --server HOST:PORT and --token TOKEN")
    before = before or Profile("", "")
    made = Profile(server or before.server, token or before.token, before.fingerprint)
    host, port = read_address("--server", made.server)
    if fingerprint:
        made = made._replace(fingerprint=check_fingerprint("--fingerprint", fingerprint))
    elif server:
        made = made._replace(fingerprint=_asked(host, port, made.server))
    active = known.active or (name if not known.by_name else "")
    profiles.write(Profiles(active, {**known.by_name, name: made}))
    click.echo(f"✓ {name} is {made.server}{', and active' if active == name else ''}")


@profile.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget the profile NAME, and its token."""
    known = profiles.read()
    if name not in known.by_name:
        raise NotFoundError(f"there is no profile {name!r}; `greenroom profile list` shows them")
    others = {other: p for other, p in known.by_name.items() if other != name}
    profiles.write(Profiles("" if known.active == name else known.active, others))
    click.echo(f"✓ {name} is removed")


def _asked(host: str, port: int, server: str) -> str:
    """The fingerprint that a person vouches for; ``""`` where an authority vouches for the certificate."""
    shown, trusted = certificate_at(host, port)
    if trusted:
        return ""
    if not sys.stdin.isatty():
        raise Misuse(
            f"nobody whom this machine trusts vouches for {server}: if its certificate is {shown}, as `greenroom server` has printed "
            f"it there, add --fingerprint {shown}"
        )
    click.echo(f"{server} shows the certificate {shown}, for which nobody vouches.", err=True)
    click.confirm("Is that what `greenroom server` has printed there?", abort=True, err=True)
    return shown
