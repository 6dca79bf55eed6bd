"""``greenroom app logs``: what the containers of a deployed or detached app have printed, and print."""

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import click

from greenroom.cli.image import seconds
from greenroom.cli.logs import FAR_LOOK
from greenroom.cli.namespace import namespace_option
from greenroom.cli.servers import Answering, Conversation, chosen_far, the_one_that_stays
from greenroom.model.app_logs import read_on
from greenroom.model.errors import NotFoundError
from greenroom.model.settings import home_directory
from greenroom.sdk.address import standing
from greenroom.sdk.lines import final_state
from greenroom.wire.deploy_messages import ListApps
from greenroom.wire.far_messages import ReadAppLog

LOOK = 0.1
"""Seconds between two looks at a file that may grow."""
Read = Callable[[list[int]], tuple[bytes, list[int]]]
"""What follows a place, and the place after it: see :func:`greenroom.model.app_logs.read_on`."""


@click.command(short_help="Print what an app's containers have printed.")
@click.argument("name", metavar="APP")
@click.option("-f", "--follow", is_flag=True, help="Go on with what they print, until Ctrl-C.")
@click.option("--since", metavar="AGE", default="", help="Only of the last 30s, 10m, 2h or 7d.")
@click.option("--grep", metavar="REGEX", default="", help="Only lines that match.")
@click.option("--container", metavar="ID", default="", help="Only of one container; the beginning of an id will do.")
@click.option("--timestamps", is_flag=True, help="Begin lines with the time.")
@click.option("--json", "as_json", is_flag=True, help="Lines of JSON, as they are kept.")
@namespace_option
def logs(name: str, follow: bool, since: str, grep: str, container: str, timestamps: bool, as_json: bool) -> None:
    """Print what the containers of a deployed or detached app have printed, in
    the order in which it came; the latest 50 MB of an app are kept.

    Exit status: 0; 1 nothing of that app is kept, nor does it run.
    """
    begin = time.time() - seconds(since) if since else 0.0
    try:
        pattern = re.compile(grep)
    except re.error as error:
        raise click.BadParameter(f"{grep!r} is no regular expression: {error}", param_hint="--grep") from None
    far = chosen_far()

    def missing(error: NotFoundError) -> None:
        if far is None and not follow and standing() is None:
            raise click.ClickException(f"{error} here")
        _check_runs(far or the_one_that_stays(), name)

    with _reader(far, name) as read:
        for line in _lines(read, missing, follow=follow, wait=LOOK if far is None else FAR_LOOK):
            entry = _entry(line)
            if entry is None or entry["at"] < begin or not entry["container"].startswith(container):
                continue
            text = final_state(entry["text"])
            if not pattern.search(text):
                continue
            if as_json:
                sys.stdout.write(line)
            else:
                at = time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(entry["at"])) if timestamps else ""
                print(f"{at}{entry['function']} {entry['container'][:9]} | {text}")
            if follow:
                sys.stdout.flush()


def _check_runs(server: Answering, name: str) -> None:
    """Whether an app may still print something: nobody waits for ever for one that there isn't."""
    names = {record["name"] for record in server.ask(ListApps(1))["apps"]}
    if name not in names:
        raise click.ClickException(
            f"nothing that {name} has printed is kept, and no app of that name is deployed; there are: "
            f"{', '.join(sorted(names)) or 'none'}"
        )


def _entry(line: str) -> dict[str, Any] | None:
    """What a line says; None: it was cut off by a full disk, or a server's death."""
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return entry


@contextlib.contextmanager
def _reader(far: Answering | None, name: str) -> Iterator[Read]:
    """Of files on this machine, which needs no server; or through one on another."""
    if far is None:
        yield partial(read_on, home_directory(), name)
        return
    with Conversation(far.address) as conversation:

        def read(place: list[int]) -> tuple[bytes, list[int]]:
            answer, data = conversation.ask(ReadAppLog(1, name, place))
            return data, answer["place"]

        yield read


def _lines(read: Read, missing: Callable[[NotFoundError], None], *, follow: bool, wait: float) -> Iterator[str]:
    """Whole lines, the oldest first; with ``follow``, without end. ``missing`` is told if there is nothing to begin with."""
    place: list[int] = []
    begun = b""
    while True:
        try:
            data, place = read(place)
        except NotFoundError as error:
            missing(error)
            data, missing = b"", lambda error: None
        *lines, begun = (begun + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace") + "\n"
        if data:
            continue
        if not follow:
            return
        time.sleep(wait)
