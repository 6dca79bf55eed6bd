"""``greenroom shell``."""

import signal

import click

from greenroom.cli.failure import program_failures
from greenroom.cli.inside import command_in, run
from greenroom.cli.load import find_app, import_target
from greenroom.cli.misuse import Misuse
from greenroom.cli.namespace import namespace_option
from greenroom.cli.sandboxes import choose_sandbox, sandbox_options
from greenroom.cli.servers import Answering
from greenroom.model.errors import ExecutionError, ImageBuildError, TimeoutError
from greenroom.sdk.address import address, chosen, wants_its_own
from greenroom.sdk.app import App
from greenroom.sdk.function_call import FunctionCall
from greenroom.sdk.output import enable_output
from greenroom.usercode.waiting import shell as wait_for_the_shell

FOREVER = 30 * 86400.0
"""Seconds that a shell may be open."""
LOOK = 0.02
"""Seconds between two looks whether the container is up."""
SHELL = ["/bin/sh", "-c", "command -v bash >/dev/null && exec bash || exec sh"]


@click.command()
@click.option("-m", "as_module", is_flag=True, help="TARGET is a module, such as pkg.mod.")
@click.option("-c", "--cmd", metavar="COMMAND", help="Run this by the shell and leave.")
@sandbox_options
@namespace_option
@click.argument("target", metavar="TARGET", type=click.Path())
@click.pass_context
def shell(ctx: click.Context, as_module: bool, cmd: str | None, sandbox: str, runtime: str, target: str) -> None:
    """Open a shell in a container like those of a function or class: TARGET is
    FILE.py::NAME, with its files, secrets and limits. Its hooks don't run.

    Exit status: the shell's; 1 it could not be opened; 2 misuse.
    """
    choose_sandbox(ctx, sandbox, runtime)
    if (far := chosen()) is not None and not wants_its_own():
        raise Misuse(f"a shell is opened on the machine that its container is on, and {far} is another: run this there, or set "
                     "GREENROOM_SERVER=local")  # fmt: skip
    path, _, name = target.partition("::")
    words = ["/bin/sh", "-c", cmd] if cmd is not None else SHELL
    failures = program_failures(ExecutionError, ImageBuildError)
    with failures, enable_output(False):  # nothing is drawn: the screen is the shell's
        app, name = find_app(import_target(path, as_module), name, path)
        name = "" if name in app.registered_entrypoints else name.partition(".")[0]
        ctx.exit(open_shell(app, name, words))


def open_shell(app: App, name: str, words: list[str]) -> int:
    """Run ``words`` in a container like ``name``'s; their exit status."""
    around = App("shell")
    waiting = around.add_like(wait_for_the_shell, app, name, timeout=FOREVER)
    with around.run():
        call = waiting.spawn()
        server = Answering(address())
        command = command_in(server, _container(server, around, call), words)
        before = signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C is the shell's
        try:
            return run(command)
        finally:
            signal.signal(signal.SIGINT, before)
            call.cancel()


def _container(server: Answering, app: App, call: FunctionCall[None]) -> str:
    """Its id, once it is up; raises what kept it from that."""
    while True:
        for record in server.containers():
            if record["state"] == "RUNNING" and record["app_id"] == app.app_id:
                return str(record["id"])
        try:
            call.get(timeout=LOOK)
        except TimeoutError:
            continue
