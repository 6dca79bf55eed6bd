"""The console script. Light, so that Ctrl-C finds its handler soon after the command was typed."""

import signal
import sys


def main() -> None:
    """Run a command: misuse is told in one line and status 2; Ctrl-C is status 130 from the first moment on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: sys.exit(128 + number))
    import click

    from greenroom.cli.commands import greenroom
    from greenroom.cli.misuse import Misuse
    from greenroom.model.errors import Error
    from greenroom.sdk.streams import open_standard_streams

    open_standard_streams()
    try:
        greenroom.main(prog_name="greenroom")
    except (Error, Misuse, NotImplementedError) as error:
        click.echo(f"greenroom: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        from greenroom.cli.failure import settle_stdout

        if settle_stdout():
            where = f": {error.filename}" if error.filename else ""
            click.echo(f"greenroom: {error.strerror or error}{where}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
