"""``--sandbox`` and ``--runtime``, of every command that starts containers."""

import os
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from greenroom.model.sandbox_choice import PACKAGED, find_program, mend, missing
from greenroom.model.settings import SANDBOXES


def sandbox_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options, which also stand in the environment."""
    sandbox = click.option("--sandbox", type=click.Choice(SANDBOXES), default="auto", envvar="GREENROOM_SANDBOX",
                           help="What containers run in.")  # fmt: skip
    runtime = click.option("--runtime", metavar="NAME|PATH", default="", envvar="GREENROOM_RUNTIME",
                           help="What starts real containers.  [default: crun, else runc]")  # fmt: skip
    return sandbox(runtime(command))


def choose_sandbox(ctx: click.Context, sandbox: str, runtime: str) -> None:
    """For the worker, which reads the environment: what is given as an option wins over what stands there.

    Raises:
        click.ClickException: the two contradict each other, or there is no such runtime.
    """
    given = {name for name in ("sandbox", "runtime") if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if sandbox == "process" and runtime:
        if given == {"sandbox", "runtime"}:
            raise click.UsageError("--runtime starts real containers, and --sandbox process has none: leave one out")
        sandbox, runtime = ("process", "") if "sandbox" in given else ("auto", runtime)
    if runtime and find_program(runtime) is None:
        fix = mend(runtime) if runtime in PACKAGED else f"it can be {', '.join(PACKAGED)} or a path"
        raise click.BadParameter(f"{missing(runtime)}; {fix}", param_hint="--runtime")
    os.environ.update(GREENROOM_SANDBOX=sandbox, GREENROOM_RUNTIME=runtime_path(runtime))


def said_of_sandboxes(ctx: click.Context) -> list[str]:
    """Where it was said what containers run in, after :func:`choose_sandbox`: as options, or in the environment."""
    names = [("sandbox", "GREENROOM_SANDBOX"), ("runtime", "GREENROOM_RUNTIME")]
    return [
        f"--{name}" if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE else variable
        for name, variable in names
        if os.environ[variable] not in ("", "auto")
    ]


def runtime_path(runtime: str) -> str:
    """As the worker understands it too, which has another working directory."""
    return os.path.abspath(runtime) if os.sep in runtime else runtime
