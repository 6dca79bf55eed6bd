"""``greenroom doctor``: what this machine can do, and the one command that mends each lack.

``--json`` prints a list of objects with the fields of :class:`Finding`; fields may be added, never taken away.
"""

import json
import sys

import click

from greenroom.cli.machine import CHECKS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list: name, ok, text, mend, needed.")
def doctor(as_json: bool) -> None:
    """Say what this machine can do, and the command that mends each lack.

    A dash marks what is missing and only needed by later features.

    Exit status: 0 when `greenroom run` works here, else 1.
    """
    findings = [check() for check in CHECKS]
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "✓" if finding.ok else ("✗" if finding.needed else "–")
            mend = f"  →  {finding.mend}" if finding.mend and not finding.ok else ""
            click.echo(f"{mark} {finding.name:<17}  {finding.text}{mend}")
    sys.exit(0 if all(finding.ok for finding in findings if finding.needed) else 1)
