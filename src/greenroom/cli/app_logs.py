"""``greenroom app logs``: what the containers of a deployed app have printed, and print."""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from greenroom.cli.image import seconds
from greenroom.cli.logs import FAR_LOOK
from greenroom.cli.namespace import namespace_option
from greenroom.cli.servers import Answering, Conversation, chosen_far, the_one_that_stays
from greenroom.model.app_logs import file_of, older_than
from greenroom.model.errors import NotFoundError
from greenroom.model.settings import home_directory
from greenroom.wire.deploy_messages import ListApps
from greenroom.wire.far_messages import ReadAppLog

LOOK = 0.1
"""Seconds between two looks at a file that may grow."""


@click.command(short_help="What the containers of a deployed app have printed.")
@click.argument("name", metavar="APP")
@click.option("-f", "--follow", is_flag=True, help="Go on with what they print, until Ctrl-C.")
@click.option("--since", metavar="AGE", default="", help="Only of the last 30s, 10m, 2h or 7d.")
@click.option("--grep", metavar="REGEX", default="", help="Only lines that match.")
@click.option("--container", metavar="ID", default="", help="Only of one container; the beginning of an id will do.")
@click.option("--timestamps", is_flag=True, help="Begin lines with the time.")
@click.option("--json", "as_json", is_flag=True, help="Lines of JSON, as they are kept.")
@namespace_option
def logs(name: str, follow: bool, since: str, grep: str, container: str, timestamps: bool, as_json: bool) -> None:
    """Print what the containers of a deployed app have printed, in the order in
    which it came; the latest 50 MB of an app are kept.

    Exit status: 0; 1 nothing of that app is kept, nor does it run.
    """
    begin = time.time() - seconds(since) if since else 0.0
    try:
        pattern = re.compile(grep)
    except re.error as error:
        raise click.BadParameter(f"{grep!r} is no regular expression: {error}", param_hint="--grep") from None
    far = chosen_far()
    file = file_of(home_directory(), name)
    if far is None and not file.exists() and not any(older.exists() for older in older_than(file)):
        if not follow:
            raise click.ClickException(f"nothing that {name} has printed is kept here")
        _check_runs(the_one_that_stays(), name)
    for line in _lines(file, follow=follow) if far is None else _far_lines(far, name, follow=follow):
        entry = _entry(line)
        if entry is None or entry["at"] < begin or not entry["container"].startswith(container):
            continue
        if not pattern.search(entry["text"]):
            continue
        if as_json:
            sys.stdout.write(line)
        else:
            at = time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(entry["at"])) if timestamps else ""
            print(f"{at}{entry['function']} {entry['container'][:9]} | {entry['text']}")
        if follow:
            sys.stdout.flush()


def _check_runs(server: Answering, name: str) -> None:
    """Nobody waits for ever for what an app prints that there isn't."""
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


def _lines(file: Path, *, follow: bool) -> Iterator[str]:
    """Whole lines, the oldest first; with ``follow``, without end."""
    for older in older_than(file):
        if older.exists():
            with open(older, encoding="utf-8", errors="replace") as opened:
                yield from opened
    while True:
        while not file.exists():
            if not follow:
                return
            time.sleep(LOOK)
        with open(file, encoding="utf-8", errors="replace") as opened:
            begun = ""
            while True:
                if line := opened.readline():
                    begun += line
                    if begun.endswith("\n"):
                        yield begun
                        begun = ""
                elif not follow:
                    return
                elif _inode(file) != os.fstat(opened.fileno()).st_ino:
                    yield from opened  # what has come meanwhile
                    break  # the next file was begun
                else:
                    time.sleep(LOOK)


def _inode(file: Path) -> int:
    """0: it isn't there just now."""
    try:
        return file.stat().st_ino
    except FileNotFoundError:
        return 0


def _far_lines(server: Answering, name: str, *, follow: bool) -> Iterator[str]:
    """The same, of an app on another machine."""
    place: list[int] = []
    begun = b""
    known = False
    with Conversation(server.address) as conversation:
        while True:
            try:
                answer, data = conversation.ask(ReadAppLog(1, name, place))
            except NotFoundError as error:
                if not follow:
                    raise click.ClickException(str(error)) from None
                if not known:
                    _check_runs(server, name)
                answer, data = {"place": place}, b""
            known = True
            place = answer["place"]
            *lines, begun = (begun + data).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace") + "\n"
            if data:
                continue
            if not follow:
                return
            time.sleep(FAR_LOOK)
