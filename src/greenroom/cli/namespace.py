"""``-e``, of Modal's environments: there is one here."""

from collections.abc import Callable
from typing import Any

import click


def _refused(ctx: click.Context, parameter: click.Parameter, value: str) -> None:
    if value not in ("", "main"):
        raise click.BadParameter(f"{value!r}: there is one namespace for now, and it is called main; leave it out")


def namespace_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option, which takes one value."""
    option = click.option("-e", "--env", metavar="NAME", default="", envvar="MODAL_ENVIRONMENT", expose_value=False,
                          callback=_refused, help="Modal's environment: main, the only one here.", hidden=True)  # fmt: skip
    return option(command)
