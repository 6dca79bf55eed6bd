"""``greenroom server``: the server that stays."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import click

from greenroom.cli.sandboxes import choose_sandbox, sandbox_options
from greenroom.model import client_tokens
from greenroom.model.errors import InvalidError
from greenroom.model.settings import home_directory, own_environment, settings_from_environment
from greenroom.model.standing import hold
from greenroom.sdk.server_process import prepare
from greenroom.wire.far import Far, read_address


@click.group(invoke_without_command=True)
@sandbox_options
@click.option("--listen", metavar="HOST:PORT", default="", envvar="GREENROOM_LISTEN",
              help="Let programs on other machines in too, over TLS, with a token of `greenroom token create --client`.")  # fmt: skip
@click.option("--tls-cert", metavar="FILE", default="", envvar="GREENROOM_TLS_CERT",
              help="A certificate, instead of one of its own that clients know by its fingerprint.")  # fmt: skip
@click.option("--tls-key", metavar="FILE", default="", envvar="GREENROOM_TLS_KEY", help="Its key.")
@click.pass_context
def server(ctx: click.Context, sandbox: str, runtime: str, listen: str, tls_cert: str, tls_key: str) -> None:
    """Run the server that stays, until Ctrl-C or SIGTERM: it keeps deployed
    apps, and programs of this user use it rather than start one of their own.
    """
    others = Others(listen, tls_cert, tls_key)
    ctx.obj = others
    if ctx.invoked_subcommand is not None:
        return
    others.check()
    choose_sandbox(ctx, sandbox, runtime)
    settings_from_environment()  # a wrong setting is told in one line
    made = prepare(stays=True)
    made.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    stay = hold(made.home)
    with ExitStack() as opened:
        try:
            listener, lock = made.open(opened)
        except OSError as error:
            raise made.not_written(error) from None
        try:
            remote = others.open(opened)
        except InvalidError:
            shutil.rmtree(made.run, ignore_errors=True)
            raise
        for number in (stay, listener, lock, *(number for number in remote if isinstance(number, int))):
            os.set_inheritable(number, True)
        command = [*made.command(listener, lock), "--stay", str(stay), *map(str, remote)]
        os.execve(sys.executable, command, own_environment())  # noqa: S606 - the same process, as a server


class Others(NamedTuple):
    """How programs on other machines come in, as the options say it."""

    listen: str
    certificate: str
    key: str

    def options(self) -> list[str]:
        """Those of the command."""
        given = {"--listen": self.listen, "--tls-cert": _absolute(self.certificate), "--tls-key": _absolute(self.key)}
        return [word for option, value in given.items() if value for word in (option, value)]

    def check(self) -> None:
        """Raise InvalidError where that can't be, or lets nobody in."""
        if (self.certificate or self.key) and not self.listen:
            raise InvalidError("--tls-cert and --tls-key are for --listen HOST:PORT: give that too, or leave them out")
        if self.key and not self.certificate:
            raise InvalidError("--tls-key is the key of --tls-cert FILE: give that too, or leave it out")
        if self.listen:
            host, port = read_address("--listen", self.listen)
            _check_tokens(host, port)

    def open(self, opened: ExitStack) -> list[str | int]:
        """What the server is told of it, the descriptor that it listens on included; raises InvalidError."""
        if not self.listen:
            return []
        host, port = read_address("--listen", self.listen)
        try:
            listener = opened.enter_context(socket.create_server((host, port), backlog=1024, family=_family(host)))
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise InvalidError(
                f"--listen {self.listen}: {why}; choose another port, or an address of this machine"
            ) from None
        files = ["--tls-cert", _absolute(self.certificate), "--tls-key", _absolute(self.key)]
        return ["--remote", listener.fileno(), *(files if self.certificate else [])]


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _check_tokens(host: str, port: int) -> None:
    """Beyond this machine nothing listens that nobody may use."""
    try:
        there = bool(client_tokens.read(home_directory()))
        local = all(ip_address(found[4][0]).is_loopback for found in socket.getaddrinfo(host, port, _family(host)))
    except (OSError, ValueError) as error:
        raise InvalidError(f"--listen {host}:{port}: {getattr(error, 'strerror', None) or error}") from None
    if not there and not local:
        raise InvalidError(
            f"--listen {Far(host, port)} is open to other machines, and there is no token for them yet: make one first, by "
            "`greenroom token create --client NAME`"
        )


@server.command(short_help="Copy what the server keeps into a file, while it runs.")
@click.argument("file", type=click.Path(dir_okay=False))
@click.pass_context
def backup(ctx: click.Context, file: str) -> None:
    """Copy deployed apps, calls and results into FILE, as they are at one moment;
    the server may run. Source bundles, layers and secrets are not in it.

    Exit status: 0; 1 it could not be copied.
    """
    _store(ctx, "backup", file)
    click.echo(f"✓ backed up to {file}")


@server.command(short_help="Put a backup in the place of what is kept.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.pass_context
def restore(ctx: click.Context, file: str) -> None:
    """Put the backup FILE in the place of what is kept, which stays beside it.
    The server must not run.

    Exit status: 0; 1 a server runs, or FILE is no backup of this version or an earlier one.
    """
    _store(ctx, "restore", file)
    click.echo(f"✓ restored from {file}")


UNIT = """[Unit]
Description=Greenroom: deployed apps and what calls them
After=network-online.target

[Service]
ExecStart={command}
Environment={home}
Restart=always
# It ends its containers itself, so that their exit hooks run, and may take as long as that takes. Should it be killed, they go
# on, and the one that is started next has them.
KillMode=process
TimeoutStopSec=60
LimitNOFILE=65536

[Install]
WantedBy={target}
"""


@server.command(short_help="Write a systemd unit for it.")
@click.option("--print", "only_print", is_flag=True, help="Print the unit, and write nothing.")
@click.pass_obj
def install(others: Others, only_print: bool) -> None:
    """Write a systemd unit that runs this server with the machine (as root), or
    with this user's session, and say what starts it. With `greenroom server
    --listen HOST:PORT install` it listens there.

    Exit status: 0; 1 there is another unit of that name.
    """
    root = os.geteuid() == 0
    home = home_directory()
    others.check()
    command = " ".join([f"{_quoted(sys.executable)} -P -m greenroom.cli.main server", *map(_quoted, others.options())])
    unit = UNIT.format(
        command=command,
        home=_quoted(f"GREENROOM_HOME={home}"),
        target="multi-user.target" if root else "default.target",
    )
    if only_print:
        click.echo(unit, nl=False)
        return
    directory = Path("/etc/systemd/system") if root else Path.home() / ".config/systemd/user"
    file = directory / "greenroom.service"
    if file.exists() and file.read_text() != unit:
        raise click.ClickException(f"{file} is there, and is another one: remove it first, or edit it")
    directory.mkdir(parents=True, exist_ok=True)
    file.write_text(unit)
    click.echo(f"✓ {file} is written; start it: systemctl {'' if root else '--user '}enable --now greenroom")


def _quoted(text: str) -> str:
    """A word of a unit. Source: systemd.syntax(7), systemd.unit(5)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _store(ctx: click.Context, what: str, file: str) -> None:
    command = [sys.executable, "-P", "-m", "greenroom.server.store", what, str(home_directory()), os.path.abspath(file)]
    if status := subprocess.run(command, env=own_environment(), check=False).returncode:
        ctx.exit(status)
