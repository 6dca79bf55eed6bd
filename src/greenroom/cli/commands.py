"""``greenroom``: the command and its commands, each imported when it is called."""

import importlib
from typing import Any

import click

_COMMANDS = {
    "run": ("greenroom.cli.run", "run", "Run a program's entry point, function or method."),
    "serve": ("greenroom.cli.serve", "serve", "Serve a program's web endpoints, and each saved edit."),
    "deploy": ("greenroom.cli.deploy", "deploy", "Have the server that stays keep an app."),
    "app": ("greenroom.cli.app", "app", "List apps; see versions, go back to one, stop one."),
    "call": ("greenroom.cli.call", "call", "Call a function of a deployed app."),
    "shell": ("greenroom.cli.shell", "shell", "Open a shell in a container like a function's."),
    "container": ("greenroom.cli.container", "container", "List containers; show, read, enter or stop one."),
    "server": ("greenroom.cli.server", "server", "Run the server that stays, and keeps deployed apps."),
    "image": ("greenroom.cli.image", "image", "List, build, verify or remove images."),
    "secret": ("greenroom.cli.secret", "secret", "Store secrets that containers find as variables."),
    "token": ("greenroom.cli.token", "token", "Make tokens for web endpoints, and for other machines."),
    "profile": ("greenroom.cli.profile", "profile", "Name servers on other machines, and choose one."),
    "doctor": ("greenroom.cli.doctor", "doctor", "Say what this machine can do, and what mends each lack."),
    "completion": ("greenroom.cli.completion", "completion", "Print the completion script of a shell."),
}
_LATER = frozenset({
    "billing", "changelog", "config", "curl", "dashboard", "dict", "endpoint", "environment", "function",
    "launch", "nfs", "queue", "setup", "skills", "volume",
    "workspace",
})  # fmt: skip
"""Commands of Modal's."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _LATER:
            raise NotImplementedError(f"{cmd_name} is not built yet")
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from greenroom import __version__

        click.echo(f"greenroom {__version__}")
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
def greenroom(**options: Any) -> None:
    """
    \b
    Classes and functions in containers, on your own machines:
    greenroom run app.py::Model.predict --x 3
    """
