"""``greenroom run``."""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from greenroom.cli.arguments import Parameter, Parameters, parameters_of, parse
from greenroom.cli.failure import exit_status, settle_stdout, show_failure, stdout_is_gone
from greenroom.cli.load import Found, load
from greenroom.cli.misuse import Misuse
from greenroom.cli.namespace import namespace_option
from greenroom.cli.sandboxes import choose_sandbox, said_of_sandboxes, sandbox_options
from greenroom.cli.signals import LEAVING, Signals
from greenroom.sdk.address import OWN
from greenroom.sdk.app import App
from greenroom.sdk.entrypoint import LocalEntrypoint
from greenroom.sdk.function import Function
from greenroom.sdk.output import enable_output, say


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-q", "--quiet", is_flag=True, help="Only the program's own output, and errors.")
@click.option("--timestamps", is_flag=True, help="Begin lines of containers with the time.")
@click.option(
    "-d", "--detach", is_flag=True, help="Let the app go on when the program has ended, on the server that stays."
)
@click.option("-m", "as_module", is_flag=True, help="TARGET is a module, such as pkg.mod.")
@sandbox_options
@namespace_option
@click.argument("target", metavar="TARGET", type=click.Path())
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    ctx: click.Context,
    quiet: bool,
    timestamps: bool,
    detach: bool,
    as_module: bool,
    sandbox: str,
    runtime: str,
    target: str,
    arguments: tuple[str, ...],
) -> None:
    """Run a program: TARGET is FILE.py or pkg.mod, with ::NAME where it has
    several things to run: an entry point, a function, or Class.method.

    ARGS are the program's: `greenroom run app.py --help` shows them. What a
    function or method returns is printed last.

    With --detach, what containers do goes on until it is done, whatever becomes of
    the program, or until `greenroom app stop`; so does a function that is run.

    Exit status: 0; 1 the run failed; 2 misuse; 130 Ctrl-C.
    """
    choose_sandbox(ctx, sandbox, runtime)
    its_own = said_of_sandboxes(ctx) + (["GREENROOM_SERVER=own"] if os.environ.get("GREENROOM_SERVER") == OWN else [])
    if detach and its_own:
        raise Misuse(f"--detach is for the server that stays: leave out {', '.join(its_own)}, or --detach")
    status = run_target(target, as_module, list(arguments), quiet=quiet, timestamps=timestamps, detach=detach)
    ctx.exit(status)


def run_target(
    target: str, as_module: bool, arguments: list[str], *, quiet: bool, timestamps: bool, detach: bool = False
) -> int:
    """The whole of a run; its exit status."""
    sys.argv = [target.partition("::")[0], *arguments]
    failed: BaseException | None = None
    with Signals(_leave, LEAVING) if detach else Signals() as signals:
        try:
            with enable_output(not quiet, timestamps=timestamps):
                found = load(target, as_module)
                call = prepare(found, target, arguments, detach=detach)
                result = None
                try:
                    with found.app.run(detach=detach):
                        try:
                            if detach:
                                _say_detached(found.app)
                            result = call()
                        except BaseException as error:  # noqa: BLE001 - shown below, once exit hooks have run
                            failed = error
                        finally:
                            signals.program_ended()
                finally:
                    # What containers print comes by another way than results: only now all of it has arrived.
                    if result is not None:
                        print(result)
        except BaseException as error:  # noqa: BLE001 - what kept it from starting, or from ending
            failed = error if failed is None else failed
    status = _status(failed, signals.status)
    return status if settle_stdout() else status or 1


def _leave() -> None:
    """At once: whoever interrupts twice waits for nothing, and there is nothing to end."""
    os._exit(130)


def _say_detached(app: App) -> None:
    say(
        f"{app.name or 'app'} goes on without this program, as {app.app_id}: `greenroom app stop {app.app_id}` ends it, "
        f"`greenroom app logs {app.name or 'app'}` shows what it prints"
    )


def _status(failed: BaseException | None, signalled: int | None) -> int:
    """Show what has to be shown, and say how it ended."""
    if failed is None:
        return signalled or 0
    from greenroom.usercode.exceptions import is_remote

    remote = is_remote(failed)
    if isinstance(failed, KeyboardInterrupt) and not remote:
        return signalled or 130
    if isinstance(failed, asyncio.CancelledError) and signalled:
        return signalled
    if isinstance(failed, Misuse):
        click.echo(f"greenroom: {failed}", err=True)
        return 2
    if isinstance(failed, click.ClickException):
        failed.show()
        if isinstance(failed, click.NoSuchOption) and any(failed.option_name in option.opts for option in run.params):
            click.echo(f"{failed.option_name} is one of greenroom's own: write it before the program", err=True)
        return 2
    if isinstance(failed, click.exceptions.Exit):
        return failed.exit_code
    if isinstance(failed, SystemExit) and not remote:
        return signalled or exit_status(failed)
    if not (isinstance(failed, BrokenPipeError) and stdout_is_gone()):
        show_failure(failed)
    return signalled or 1


def prepare(found: Found, target: str, arguments: list[str], *, detach: bool = False) -> Callable[[], Any]:
    """What to call once the app runs, with the program's options bound; it returns what is to be printed, or None.

    ``detach``: what is called in a container goes on there when this program ends.

    Raises:
        Misuse, click.ClickException: the arguments don't fit.
        click.exceptions.Exit: the program's help was asked for.
    """
    title = f"greenroom run {target}"
    thing = found.thing
    if isinstance(thing, LocalEntrypoint):
        own = parameters_of(thing.function, found.name)
        args, kwargs = own.bind(parse(title, inspect.getdoc(thing.function), [own], arguments))
        return lambda: _call_here(thing.function, args, kwargs)
    if isinstance(thing, Function):
        own = parameters_of(thing.definition, found.name)
        args, kwargs = own.bind(parse(title, inspect.getdoc(thing.definition), [own], arguments))
        return lambda: _call_remote(thing, args, kwargs, detach)
    cls, method = thing
    function = cls.definition.methods[method].function
    own = parameters_of(function, found.name, skip_self=True)
    constructor = constructor_of(cls)
    if both := own.names & constructor.names:
        raise Misuse(
            f"{cls.name} and its method {method} both take {', '.join(sorted(both))}: call it from a local entry point"
        )
    given = parse(title, inspect.getdoc(function), [constructor, own], arguments)
    args, kwargs = own.bind(given)
    to_construct, named = constructor.bind(given)
    return lambda: _call_remote(getattr(cls(*to_construct, **named), method), args, kwargs, detach)


def constructor_of(cls: Any) -> Parameters:
    """The parameters of a class: its constructor's, or its ``parameter()``s."""
    if cls.definition.has_constructor:
        own = parameters_of(cls.user_class.__init__, cls.name, skip_self=True)
        if own.rest:
            raise Misuse(f"{cls.name}'s constructor takes *{own.rest}: call its methods from a local entry point")
        return own
    kind, empty = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty
    infos = [info for info in cls.definition.parameters.values() if info.init]
    return Parameters([Parameter(i.name, kind, i.type, empty if i.required else i.default) for i in infos], cls.name)


def _call_here(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    result = function(*args, **kwargs)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def _call_remote(function: Any, args: list[Any], kwargs: dict[str, Any], detach: bool) -> Any:
    """Run a function from the command line: what it returns; what it yields is printed as it comes."""
    if not function.is_generator and detach:
        return function.spawn(*args, **kwargs).get()
    if not function.is_generator:
        return function.remote(*args, **kwargs)
    for value in function.remote_gen(*args, **kwargs):
        print(value, flush=True)
    return None
