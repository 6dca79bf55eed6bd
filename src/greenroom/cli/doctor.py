"""``greenroom doctor``: what this machine can do, and the one command that mends each lack.

``--json`` prints a list of objects with the fields of :class:`Finding`; fields may be added, never taken away.
"""

import json
import shutil
import sys

import click

from greenroom.cli.machine import CHECKS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list: name, ok, text, mend, needed.")
def doctor(as_json: bool) -> None:
    """Say what this machine can do, and the command that mends each lack.

    A cross marks what stops a run, a dash what is missing and not needed for one.

    Exit status: 0 when `greenroom run` works here, else 1.
    """
    findings = [check() for check in CHECKS]
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        for finding in findings:
            mark = "✓" if finding.ok else ("✗" if finding.needed else "–")
            line = f"{mark} {finding.name:<17}  {finding.text}"
            mend = f"→  {finding.mend}" if finding.mend and not finding.ok else ""
            if mend and len(line) + len(mend) + 2 > room:  # whole, so that it can be copied
                click.echo(f"{line}\n{' ' * 21}{mend}")
            else:
                click.echo(f"{line}  {mend}".rstrip())
    sys.exit(0 if all(finding.ok for finding in findings if finding.needed) else 1)
