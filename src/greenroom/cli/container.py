"""``greenroom container list`` and ``container show``.

``--json`` prints records; a program may rely on these fields (others may be added, none is taken away):

- ``id``, ``app_id``, ``app_name``, ``function`` (a function's or a class's name), ``server_id``, ``pid`` (0: none yet)
- ``state``: a name of ``model/container_state.py``; ``reason``: why it ended, or is to end; ``""``: no reason yet
- ``created_at``: seconds since 1970; ``inputs_done``: how many inputs it has served; ``errors``: of its hooks
- ``events``, in order: ``at`` (seconds since 1970), ``event``, ``state`` (after it), ``reason``. An event is one of the
  table's, or QUEUED (the first), or HOOK: a step that has ended, with its ``name`` and ``seconds``. Of RUNNING, the
  first input's start and the latest end are kept.

``list`` prints a JSON list of them, ``show`` one.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import click

from greenroom.cli.timeline import duration, timeline
from greenroom.model.container_state import LIVE
from greenroom.model.errors import ConnectionError, ProtocolError
from greenroom.model.settings import home_directory
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.messages import PROTOCOL_VERSION, Done, Hello, ListContainers, Refused

TIMEOUT = 2.0
"""Seconds that a server may take to answer."""

_FIELDS = ("id", "app_name", "function", "state", "reason", "created_at", "inputs_done", "events")


_LATER = ("exec", "logs", "stop")
"""Commands of Modal's."""


class _Group(click.Group):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _LATER:
            raise NotImplementedError(f"container {cmd_name} is not built yet")
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Group)
def container() -> None:
    """Containers: what runs, what ran, and where the time went."""


@container.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of records, as `show --json` prints one.")
@click.option("-a", "--all", "ended_too", is_flag=True, help="The latest that have ended, too.")
def list_(as_json: bool, ended_too: bool) -> None:
    """List the containers that live; with --all, the latest that have ended too."""
    live, ended = live_containers(), ended_containers() if ended_too else []
    over = {record["id"] for record in ended}
    records = [record for record in live if record["id"] not in over] + ended
    if as_json:
        click.echo(json.dumps(records, indent=2))
        return
    if not records:
        click.echo("no containers" if ended_too else "no containers; --all shows those that have ended")
        return
    rows = [("ID", "APP", "FUNCTION", "STATE", "AGE", "INPUTS", "REASON")]
    for record in records:
        age = duration(max(0.0, time.time() - record["created_at"]))
        rows.append((record["id"], record["app_name"], record["function"], record["state"], age,
                     str(record["inputs_done"]), record["reason"].partition("\n")[0]))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(line if len(line) <= room else line[: room - 1] + "…")


@container.command()
@click.argument("container_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The record as JSON.")
def show(container_id: str, as_json: bool) -> None:
    """Show one container's timeline: how long it took until it was ready, and
    what took it. ID may be the beginning of one.

    Exit status: 1 when there is none, 2 when there are several.
    """
    matching = {r["id"]: r for r in [*live_containers(), *ended_containers()] if r["id"].startswith(container_id)}
    if container_id in matching:
        matching = {container_id: matching[container_id]}
    if len(matching) != 1:
        problem = (
            f"there is no container {container_id}"
            if not matching
            else f"{container_id} is the beginning of {len(matching)} ids: {', '.join(sorted(matching)[:5])}"
        )
        click.echo(f"greenroom: {problem}; `greenroom container list --all` lists them", err=True)
        sys.exit(1 if not matching else 2)
    (record,) = matching.values()
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    colour = {"FAILED": "red", "STOPPED": None}.get(record["state"], "green")
    state = click.style(record["state"], fg=colour)
    click.echo(f"{record['id']}  {record['app_name']}.{record['function']}  {state}  {record['reason']}".rstrip())
    for line in timeline(record):
        click.echo(line)


def live_containers() -> list[dict[str, Any]]:
    """Records from every server of this state directory that answers, the youngest first."""
    records: list[dict[str, Any]] = []
    for run in (home_directory() / "run").glob("*"):
        try:
            records += _ask(run)
        except (OSError, ConnectionError, ProtocolError):
            continue  # a server that has just ended, or died; its containers end by themselves
    return sorted(records, key=lambda record: -record["created_at"])


def _ask(run: Path) -> list[dict[str, Any]]:
    token = (run / "token").read_text()
    connection = BlockingConnection(connect(os.fspath(run / "server.sock")))
    until = time.monotonic() + TIMEOUT
    try:
        connection.send(Hello("client", token, PROTOCOL_VERSION))
        connection.send(ListContainers(1))
        while True:
            message, _ = connection.receive(max(0.0, until - time.monotonic()))
            if isinstance(message, Refused):
                return []
            if isinstance(message, Done):
                containers: list[dict[str, Any]] = message.data["containers"]
                return [record for record in containers if record["state"] in LIVE]
    finally:
        connection.close()


def ended_containers() -> list[dict[str, Any]]:
    """The records that are kept, the youngest first."""
    records: list[dict[str, Any]] = []
    for file in (home_directory() / "containers").glob("*.json"):
        try:
            record = json.loads(file.read_text())
        except (OSError, ValueError):
            continue  # just dropped, or written while the disk was full
        if isinstance(record, dict) and record.get("events") and all(field in record for field in _FIELDS):
            records.append(record)
    return sorted(records, key=lambda record: -record["created_at"])
