"""``greenroom container``: list, show, logs, exec, stop.

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
import sys
import time
from typing import Any

import click

from greenroom.cli.misuse import Misuse
from greenroom.cli.namespace import namespace_option
from greenroom.cli.servers import Answering, answering, chosen_far
from greenroom.cli.table import print_table
from greenroom.cli.timeline import duration, timeline
from greenroom.model.settings import home_directory
from greenroom.wire.far_messages import ListEnded
from greenroom.wire.messages import StopContainer

_FIELDS = ("id", "app_name", "function", "state", "reason", "created_at", "inputs_done", "events")


@click.group()
def container() -> None:
    """Containers: what runs, what ran, and where the time went."""


@container.command("list", short_help="List those that live, or that ended too.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of records, as `show --json` prints one.")
@click.option("-a", "--all", "ended_too", is_flag=True, help="The latest that have ended, too.")
@namespace_option
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
    print_table(rows)


@container.command(short_help="Show one's timeline: what took how long.")
@click.argument("container_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The record as JSON.")
@namespace_option
def show(container_id: str, as_json: bool) -> None:
    """Show one container's timeline: how long it took until it was ready, and
    what took it. ID may be the beginning of one.

    Exit status: 1 when there is none, 2 when there are several.
    """
    matching = {r["id"]: r for r in [*live_containers(), *ended_containers()] if r["id"].startswith(container_id)}
    if container_id in matching:
        matching = {container_id: matching[container_id]}
    if len(matching) != 1:
        _complain(container_id, list(matching))
    (record,) = matching.values()
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    colour = {"FAILED": "red", "STOPPED": None}.get(record["state"], "green")
    state = click.style(record["state"], fg=colour)
    click.echo(f"{record['id']}  {record['app_name']}.{record['function']}  {state}  {record['reason']}".rstrip())
    for line in timeline(record):
        click.echo(line)


@container.command(
    "exec",
    short_help="Run a command in one that lives.",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)
@click.argument("container_id", metavar="ID")
@click.argument("words", metavar="-- CMD [ARGS]...", nargs=-1, required=True, type=click.UNPROCESSED)
@namespace_option
def exec_(container_id: str, words: tuple[str, ...]) -> None:
    """Run a command in a container that lives, on this terminal if there is
    one. ID may be the beginning of one.

    Exit status: the command's; 2 when there is no such container.
    """
    from greenroom.cli.inside import command_in, execute

    command = list(words[words[0] == "--" :])
    if not command:
        raise click.MissingParameter(param_type="argument", param_hint="'-- CMD [ARGS]...'")
    server, found = _one_alive(container_id)
    execute(command_in(server, found, command))


@container.command(short_help="Stop one in order: its exit hooks run.")
@click.argument("container_id", metavar="ID")
@namespace_option
def stop(container_id: str) -> None:
    """Stop a container in order: its inputs are cancelled, its exit hooks run.
    Returns once it has ended.
    """
    server, found = _one_alive(container_id)
    reason = server.ask(StopContainer(1, found), timeout=None)["reason"]
    click.echo(f"{found} has ended: {reason}")


@container.command(short_help="Show what one printed, or prints.")
@click.argument("container_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until it has ended.")
@namespace_option
def logs(container_id: str, follow: bool) -> None:
    """Show what a container printed. ID may be the beginning of one.

    Exit status: 1 when there is none, 2 when there are several.
    """
    from greenroom.cli.logs import find_output, show, show_far

    if (far := chosen_far()) is not None:
        known = {record["id"] for record in [*live_containers(), *ended_containers()]}
        matching = [one for one in known if one.startswith(container_id)]
        if len(matching) != 1:
            _complain(container_id, matching)
        show_far(far, matching[0], follow)
        return
    files = find_output(container_id)
    if len(files) != 1:
        known = {record["id"] for record in [*live_containers(), *ended_containers()]}
        if not files and any(one.startswith(container_id) for one in known):
            return  # it printed nothing, or so long ago that it isn't kept
        _complain(container_id, [file.parent.name if file.name == "output" else file.stem for file in files])
    show(files[0], follow)


def _one_alive(container_id: str) -> tuple[Answering, str]:
    found = [
        (server, record["id"])
        for server, records in answering()
        for record in records
        if record["id"].startswith(container_id)
    ]
    if len(found) != 1:
        raise Misuse(_which(container_id, [one for _, one in found], "that lives"))
    return found[0]


def _complain(container_id: str, matching: list[str]) -> None:
    click.echo(f"greenroom: {_which(container_id, matching)}", err=True)
    sys.exit(1 if not matching else 2)


def _which(container_id: str, matching: list[str], alive: str = "") -> str:
    problem = (
        f"{container_id} is the beginning of {len(matching)} ids: {', '.join(sorted(matching)[:5])}"
        if matching
        else f"there is no container {container_id}{' ' + alive if alive else ''}"
    )
    return f"{problem}; `greenroom container list{'' if alive else ' --all'}` lists them"


def live_containers() -> list[dict[str, Any]]:
    """Records from every server of this state directory that answers, the youngest first."""
    records = [record for _, found in answering() for record in found]
    return sorted(records, key=lambda record: -record["created_at"])


def ended_containers() -> list[dict[str, Any]]:
    """The records that are kept, the youngest first."""
    records: list[dict[str, Any]] = []
    if (far := chosen_far()) is not None:
        records = far.ask(ListEnded(1))["containers"]
        return sorted(filter(_is_whole, records), key=lambda record: -record["created_at"])
    for file in (home_directory() / "containers").glob("*.json"):
        try:
            record = json.loads(file.read_text())
        except (OSError, ValueError):
            continue  # just dropped, or written while the disk was full
        if _is_whole(record):
            records.append(record)
    return sorted(records, key=lambda record: -record["created_at"])


def _is_whole(record: Any) -> bool:
    return isinstance(record, dict) and bool(record.get("events")) and all(field in record for field in _FIELDS)
