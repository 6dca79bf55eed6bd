"""``greenroom server``: the server that stays."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from greenroom.cli.sandboxes import choose_sandbox, sandbox_options
from greenroom.model.settings import home_directory, own_environment, settings_from_environment
from greenroom.model.standing import hold
from greenroom.sdk.server_process import prepare


@click.group(invoke_without_command=True)
@sandbox_options
@click.pass_context
def server(ctx: click.Context, sandbox: str, runtime: str) -> None:
    """Run the server that stays, until Ctrl-C or SIGTERM: it keeps deployed
    apps, and programs of this user use it rather than start one of their own.
    """
    if ctx.invoked_subcommand is not None:
        return
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
        for number in (stay, listener, lock):
            os.set_inheritable(number, True)
        os.execve(sys.executable, [*made.command(listener, lock), "--stay", str(stay)], own_environment())  # noqa: S606 - the same process, as a server


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
def install(only_print: bool) -> None:
    """Write a systemd unit that runs this server with the machine (as root), or
    with this user's session, and say what starts it.

    Exit status: 0; 1 there is another unit of that name.
    """
    root = os.geteuid() == 0
    home = home_directory()
    command = f"{_quoted(sys.executable)} -P -m greenroom.cli.main server"
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
