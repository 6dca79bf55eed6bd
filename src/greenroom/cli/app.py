"""``greenroom app``: list, history, rollback, stop; ``logs`` is in ``app_logs.py``.

``list --json`` and ``history --json`` print records; a program may rely on these fields (others may be added):

- ``list``: ``id``, ``name``, ``state`` (``deploying``, ``deployed``, ``running`` beside a program, ``detached`` from one that has
  ended, ``stopping``), ``version`` (0: not deployed),
  ``created_at`` (seconds since 1970), ``containers`` (a number), ``functions`` (names), ``next`` (seconds since 1970 at which
  scheduled functions fire, by name)
- ``history``: ``app``, ``number``, ``app_id``, ``deployed_at``, ``state`` (CURRENT, REPLACED, STOPPED, FAILED, PENDING),
  ``strategy`` (``rolling``, ``recreate``)
"""

import json
import time
from typing import Any

import click

from greenroom.cli.app_logs import logs
from greenroom.cli.failure import program_failures
from greenroom.cli.namespace import namespace_option
from greenroom.cli.servers import answering, the_one_that_stays
from greenroom.cli.table import print_table
from greenroom.cli.timeline import duration
from greenroom.model.errors import ExecutionError, ImageBuildError
from greenroom.sdk.address import chosen, standing
from greenroom.wire.deploy_messages import ListApps, ListVersions, Rollback, StopDeployed


class _Version(click.IntRange):
    """A number, or as Modal has it: ``v3``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(value.removeprefix("v"), param, ctx)


@click.group()
def app() -> None:
    """Apps: which are deployed, which run, which versions there were."""


@app.command("list", short_help="List the apps that are deployed, or run.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of records.")
@namespace_option
def list_(as_json: bool) -> None:
    """List the apps that are deployed, and those that run beside a program."""
    records: list[dict[str, Any]] = [record for server, _ in answering() for record in server.ask(ListApps(1))["apps"]]
    records.sort(key=lambda record: (record["state"] != "deployed", record["name"]))
    if as_json:
        click.echo(json.dumps(records, indent=2))
        return
    if not records:
        if chosen() or standing():
            click.echo("no apps; `greenroom deploy` makes one that stays")
        else:
            click.echo("no apps run; those that are deployed are there once `greenroom server` runs")
        return
    rows = [("APP", "STATE", "VERSION", "CONTAINERS", "SINCE", "NEXT", "ID")]
    for record in records:
        since = duration(max(0.0, time.time() - record["created_at"]))
        version = str(record["version"]) if record["version"] else "-"
        rows.append((
            record["name"], record["state"], version, str(record["containers"]), since, _next(record["next"]), record["id"]
        ))  # fmt: skip
    print_table(rows)


@app.command(short_help="List the versions of one that is, or was, deployed.")
@click.argument("name", metavar="APP")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of records, the latest first.")
@namespace_option
def history(name: str, as_json: bool) -> None:
    """List the versions of a deployed app that are kept, the latest first."""
    records: list[dict[str, Any]] = the_one_that_stays().ask(ListVersions(1, name))["versions"]
    if as_json:
        click.echo(json.dumps(records, indent=2))
        return
    if not records:
        raise click.ClickException(f"no version of {name} is kept")
    rows = [("VERSION", "STATE", "DEPLOYED")]
    for record in records:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record["deployed_at"]))
        rows.append((str(record["number"]), record["state"].lower(), at))
    print_table(rows)


app.add_command(logs)


@app.command(short_help="Deploy an earlier version again.")
@click.argument("name", metavar="APP")
@click.argument("version", metavar="[VERSION]", type=_Version(1), default=None, required=False)
@namespace_option
def rollback(name: str, version: int | None) -> None:
    """Deploy an earlier version of an app again, as it was; without VERSION the one before.

    Exit status: 0; 1 it could not start, and the version that serves goes on; 2 there is none.
    """
    with program_failures(ExecutionError, ImageBuildError):
        number = the_one_that_stays().ask(Rollback(1, name, version or 0), timeout=None)["version"]
    click.echo(f"✓ {name} is rolled back: version {number}")


@app.command(short_help="Stop one: nothing answers to its name any more.")
@click.argument("name", metavar="APP|ID")
@namespace_option
def stop(name: str) -> None:
    """Stop an app that is deployed, or runs: its running inputs are cancelled, its exit hooks run."""
    the_one_that_stays().ask(StopDeployed(1, name), timeout=None)
    click.echo(f"✓ {name} has ended")


def _next(times: dict[str, float]) -> str:
    """When the first of an app's schedules fires."""
    if not times:
        return "-"
    name = min(times, key=lambda name: times[name])
    return f"{name} in {duration(max(0.0, times[name] - time.time()))}"
