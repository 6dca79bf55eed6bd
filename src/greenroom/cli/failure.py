"""How the failure of a program is shown: as Python shows it, with the user's frames alone."""

import os
import select
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import click

from greenroom.cli.misuse import Misuse
from greenroom.model.errors import Error, InputCancellation

_STDLIB = os.path.dirname(os.__file__) + os.sep
_RUNNERS = tuple(os.path.join(_STDLIB, name) + os.sep for name in ("asyncio", "importlib"))
"""What stands between us and a program's first frame."""


def show_failure(error: BaseException) -> None:
    """On stderr: a traceback, or for an error of ours that no line of the program has caused, one line."""
    has_lines = _keep_program_frames(error)
    ours = isinstance(error, Error | InputCancellation | NotImplementedError)
    if ours and not has_lines:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", []))
        click.echo(f"greenroom: {error}{notes}", err=True)
    else:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)


@contextmanager
def program_failures(*ours: type[Error]) -> Iterator[None]:
    """What a program raises is shown, and is status 1, as with ``run``; so are ``ours``. Other errors of ours go on, unless a line
    of the program has caused them: they are misuse.
    """
    try:
        yield
    except (Misuse, click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BaseException as error:
        from greenroom.usercode.exceptions import is_remote

        interrupted = isinstance(error, KeyboardInterrupt | SystemExit) and not is_remote(error)
        if interrupted or (
            isinstance(error, Error) and not isinstance(error, ours) and not _keep_program_frames(error)
        ):
            raise
        show_failure(error)
        sys.exit(1)


def _keep_program_frames(error: BaseException) -> bool:
    """Leave the program's frames in an error's traceback; whether it has any."""
    from greenroom.usercode.exceptions import hide_own_frames

    hide_own_frames(error)
    error.__traceback__ = _from_the_program_on(error.__traceback__)
    return error.__traceback__ is not None


def _from_the_program_on(tb: TracebackType | None) -> TracebackType | None:
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_RUNNERS):
        tb = tb.tb_next
    return tb


def exit_status(finished: SystemExit) -> int:
    """What ``sys.exit(…)`` asks for; text is shown, as Python shows it."""
    if finished.code is None:
        return 0
    if isinstance(finished.code, int):
        return finished.code & 0xFF
    click.echo(str(finished.code), err=True)
    return 1


def stdout_is_gone() -> bool:
    """Whether nobody reads stdout any more: ``greenroom run … | head``."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), select.POLLOUT)
    except (OSError, ValueError, AttributeError):
        return False
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))


def settle_stdout() -> bool:
    """Write what stdout still holds; where that can't be, drop it, so that nothing more is said about it at exit.

    Returns:
        Whether all that it was given has been written, or nobody wants it.
    """
    out = sys.stdout
    if out is None or getattr(out, "closed", False) or not hasattr(out, "flush"):
        return True  # as the program left it, which is its own affair
    try:
        out.flush()
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, out.fileno())
        os.close(null)
        if not isinstance(error, BrokenPipeError):
            click.echo(f"greenroom: can't write to stdout: {error.strerror or error}", err=True)
            return False
    return True
