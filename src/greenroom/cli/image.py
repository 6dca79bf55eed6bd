"""``greenroom image``: list, inspect, build, prune, verify, export.

``list --json`` prints a JSON list of records, ``inspect --json`` one; a program may rely on these fields:

- ``key``: the image's id; ``name``: the function that first asked for it, as ``app.function``; ``sandbox``, ``base``
- ``steps``, in order: ``text``, ``where`` (file and line), ``layer`` (a key, or ``""`` where it makes none), and of a layer
  its ``size`` (bytes), ``entries``, ``seconds`` (what it took) and ``created`` (seconds since 1970)
- ``layers``: keys, the lowest first; ``size``: bytes of all of them; ``made``, ``used``: seconds since 1970; ``in_use``
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import click

from greenroom.cli.misuse import Misuse
from greenroom.cli.table import print_table
from greenroom.cli.timeline import duration
from greenroom.model.settings import home_directory, own_environment
from greenroom.sdk.address import chosen, wants_its_own

REFUSED = 3
"""Exit status of the keeper of the layers: the last line that it said is for the person."""
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@click.group()
def image() -> None:
    """Images: what has been built, and what it takes."""


@image.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of records.")
def list_(as_json: bool) -> None:
    """List the images that have been built here, the latest first."""
    found = images()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("no images: they are built when an app that has one runs, or by `greenroom image build app.py`")
        return
    rows = [("ID", "FOR", "LAYERS", "SIZE", "MADE", "USED")]
    for record in found:
        made, used = (ago(time.time() - record[name]) for name in ("made", "used"))
        used = "now" if record["in_use"] else used
        rows.append((record["key"][:12], record["name"], str(len(record["layers"])), in_bytes(record["size"]),
                     made, used))  # fmt: skip
    print_table(rows)
    shared = {step["layer"]: step["size"] for record in found for step in record["steps"] if step["layer"]}
    click.echo(f"in all: {in_bytes(sum(shared.values()))} in {counted(len(shared), 'layer')}, each kept once")


@image.command()
@click.argument("image_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="The record as JSON.")
def inspect(image_id: str, as_json: bool) -> None:
    """Show an image's steps: what each takes, and how long it took. ID may be
    the beginning of one.

    Exit status: 2 when there is no such image, or several.
    """
    record = one_image(image_id)
    if as_json:
        click.echo(json.dumps(record, indent=2))
        return
    click.echo(f"{record['key'][:12]}  for {record['name']}  {in_bytes(record['size'])}  ({record['sandbox']})")
    rows = [("LAYER", "SIZE", "FILES", "TOOK", "STEP", "WHERE")]
    if not record["steps"] or record["steps"][0]["text"] != record["base"]:
        rows.append(("", "", "", "", record["base"], ""))
    for step in record["steps"]:
        numbers = (step["layer"][:12], in_bytes(step["size"]), str(step["entries"]), duration(step["seconds"])) \
            if step["layer"] else ("", "", "", "")  # fmt: skip
        rows.append((*numbers, step["text"], step["where"]))
    print_table(rows)


@image.command(short_help="Build a program's images, and run nothing.")
@click.option("-m", "as_module", is_flag=True, help="TARGET is a module, such as pkg.mod.")
@click.argument("target", metavar="TARGET", type=click.Path())
def build(as_module: bool, target: str) -> None:
    """Build the images of a program's functions and classes, and run nothing:
    TARGET is FILE.py or pkg.mod, with ::app where it has several.

    Exit status: 0; 1 one could not be built; 2 misuse.
    """
    from greenroom.cli.failure import program_failures
    from greenroom.cli.load import find_whole_app, import_target
    from greenroom.model.errors import ExecutionError, ImageBuildError
    from greenroom.sdk.output import enable_output

    path, _, name = target.partition("::")
    with program_failures(ExecutionError, ImageBuildError), enable_output():
        count = find_whole_app(import_target(path, as_module), name, path).build()
    click.echo(f"{counted(count, 'image')} ready" if count else "nothing to build: all of it runs on the host image")


@image.command()
@click.option("--older-than", metavar="AGE", default="7d", show_default=True,
              help="Remove what was not used for so long: 30m, 12h, 7d, 2w.")  # fmt: skip
@click.option("-a", "--all", "everything", is_flag=True, help="Remove all that is not in use.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
def prune(older_than: str, everything: bool, dry_run: bool) -> None:
    """Remove layers that no app uses, and that none has used for long. What an
    app still needs is built again when it runs.
    """
    words = [str(0 if everything else seconds(older_than)), *(["--dry-run"] if dry_run else [])]
    (done,) = ask("prune", *words)
    verb = "would remove" if dry_run else "removed"
    kept = f"; {done['kept']} more in use" if done["kept"] else ""
    click.echo(f"{verb} {counted(len(done['layers']), 'layer')}, {in_bytes(done['size'])}{kept}")


@image.command(short_help="Say whether layers are still as they were made.")
@click.argument("image_id", metavar="[ID]", required=False)
def verify(image_id: str | None) -> None:
    """Read every layer, or those of one image, and say whether it is as it was
    made.

    Exit status: 1 when one isn't.
    """
    layers = one_image(image_id)["layers"] if image_id else []
    if image_id and not layers:
        click.echo("it has no layers of its own")
        return
    bad, count = [], 0
    for answer in ask("verify", *layers, may_fail=True):
        count += 1
        if not answer["ok"]:
            bad.append(answer)
            step = f"{answer['text']}: " if answer["text"] else ""
            click.echo(f"✗ {answer['layer'][:12]} {step}{answer['why']}")
    if bad:
        click.echo(
            f"{len(bad)} of {counted(count, 'layer')} not as made; `greenroom image prune --all` removes what no app uses"
        )
        sys.exit(1)
    click.echo(f"✓ {counted(count, 'layer')} as made" if count else "nothing to verify: no layer has been built here")


@image.command(short_help="Write one as an OCI image, for other tools to read.")
@click.argument("image_id", metavar="ID")
@click.argument("path", metavar="PATH", type=click.Path())
@click.option("--archive", is_flag=True, help="One tar file. [default: a directory, unless PATH ends in .tar]")
def export(image_id: str, path: str, archive: bool) -> None:
    """Write an image's own layers as an OCI image, for other tools to read: a
    directory, or a tar file. Of one on the host image, what lies below them,
    this machine's Python, is not in it.
    """
    record = one_image(image_id)
    words = [record["key"], path, *(["--archive"] if archive or path.endswith(".tar") else [])]
    done: dict[str, Any] = {}
    with click.progressbar(length=record["size"], label="reading", file=sys.stderr) as bar:
        for done in answers("export", *words):
            bar.update(done.get("read", 0))
    layers = counted(done["layers"], "layer")
    click.echo(f"{path}: {layers}, {in_bytes(record['size'])} of content, {done['digest']}")
    if done["base"]:
        click.echo(f"below them it needs what {done['base']} has")


def images() -> list[dict[str, Any]]:
    """Every image's record, the latest first."""
    return ask("list")


def one_image(image_id: str) -> dict[str, Any]:
    """The image whose id begins so; raises :class:`Misuse`."""
    matching = [record for record in images() if record["key"].startswith(image_id)]
    if len(matching) != 1:
        some = ", ".join(record["key"][:12] for record in matching[:5])
        none = f"there is no image {image_id}" if image_id else "no image is named"
        which = f"several images begin with {image_id}: {some}" if matching else none
        raise Misuse(f"{which}; `greenroom image list` shows them")
    return matching[0]


def ask(command: str, *words: str, may_fail: bool = False) -> list[dict[str, Any]]:
    """All that the keeper of the layers answers; raises :class:`Misuse` with what it says instead."""
    return list(answers(command, *words, may_fail=may_fail))


def answers(command: str, *words: str, may_fail: bool = False) -> Iterator[dict[str, Any]]:
    """The same, as it comes."""
    if (far := chosen()) is not None and not wants_its_own():
        raise Misuse(f"images are kept on the machine that builds them, and {far} is another: run this there, or set "
                     "GREENROOM_SERVER=local")  # fmt: skip
    asked = [sys.executable, "-P", "-m", "greenroom.worker.images", str(home_directory()), command, *words]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(asked, env=own_environment(), stdout=subprocess.PIPE, stderr=errors, text=True) as keeper,
    ):
        assert keeper.stdout is not None
        for line in keeper.stdout:
            yield json.loads(line)
        status = keeper.wait()
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["?"])[-1]
    if status == REFUSED:
        raise Misuse(last)
    if status and not (may_fail and status == 1):
        verb = "removed" if command == "prune" else "read"
        raise Misuse(f"the layers in {home_directory()} can't be {verb}: {last}")


def seconds(age: str) -> float:
    """``7d``, as seconds; raises ``click.BadParameter``."""
    fits = _AGE.fullmatch(age.strip())
    if fits is None:
        raise click.BadParameter(f"{age!r} is no age: write it like 30m, 12h, 7d or 2w")
    return float(fits[1]) * _UNITS[fits[2]]


def ago(age: float) -> str:
    """``3 m ago``; of less than a second nobody wants to know more."""
    return f"{duration(age)} ago" if age >= 1 else "just now"


def counted(number: int, what: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number} {what}{'s' * (number != 1)}"


def in_bytes(size: float) -> str:
    """``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError
