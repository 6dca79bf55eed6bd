"""Between apps that stay and the store: what is kept of a version, and an app made of what was kept."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from greenroom.model.errors import Error, NotFoundError
from greenroom.model.spec import FunctionSpec
from greenroom.server import sealing
from greenroom.server.defining import add_function

if TYPE_CHECKING:
    from sqlite3 import Connection

    from greenroom.server.apps import App
    from greenroom.server.core import Server
    from greenroom.server.store.versions import FunctionRow, ImageRow, VersionRow

Contents = tuple[list["FunctionRow"], list["ImageRow"]]
KEPT = 20
"""Versions of an app that can be rolled back to."""


class Kept(NamedTuple):
    """A version, whole."""

    row: "VersionRow"
    functions: "list[FunctionRow]"
    images: "list[ImageRow]"


def contents_of(server: "Server", app: "App") -> Callable[[], Contents]:
    """What is to be kept of an app that is defined, as it is now: work for the disk's thread, which raises ExecutionError."""
    from greenroom.server.store.versions import FunctionRow, ImageRow

    vault = server.secrets.vault
    functions = [(f.spec, f.definition, f.sealed) for f in app.functions.values()]
    images = [ImageRow(i.id, i.name, i.asked, i.payloads) for i in server.images.of(app)]

    def seal() -> Contents:
        rows = []
        for spec, definition, sealed in functions:
            spec = sealing.unseal_spec(
                vault, spec, sealed
            )  # with the key of now, should another have been there before
            rows.append(sealing.seal_function(vault, FunctionRow(spec.function_id, spec.to_json(), definition)))
        return rows, [sealing.seal_image(vault, row) for row in images]

    return seal


def all_kept(connection: "Connection") -> list[Kept]:
    """Those that serve."""
    from greenroom.server.store import versions

    return [_whole(connection, row) for row in versions.all_current(connection)]


def all_detached(connection: "Connection") -> list[Kept]:
    """Apps that go on without their program."""
    from greenroom.server.store import versions

    return [_whole(connection, row) for row in versions.all_detached(connection)]


def _whole(connection: "Connection", row: "VersionRow") -> Kept:
    from greenroom.server.store import versions

    return Kept(row, versions.functions_of(connection, row.app_id), versions.images_of(connection, row.app_id))


def kept(connection: "Connection", app: str, number: int) -> Kept:
    """A version of an app by its number; 0: that before the current one.

    Raises:
        NotFoundError: it isn't kept.
    """
    from greenroom.server.store import versions
    from greenroom.server.store.versions import VersionState as S

    rows = versions.history(connection, app)
    latest = next((row.number for row in rows if row.state is S.CURRENT), 0)
    if number:
        found = next((row for row in rows if row.number == number), None)
    else:
        found = next((row for row in rows if row.number < latest and row.state is S.REPLACED), None)
    if found is None or found.state is S.PENDING:
        there = ", ".join(str(row.number) for row in rows if row.state is not S.PENDING)
        if not there:
            raise NotFoundError(f"no version of {app} is kept")
        if not (number or latest):
            raise NotFoundError(f"{app} isn't deployed, so say which version to go back to; there are: {there}")
        raise NotFoundError(f"{app} has no version {number or 'before this one'} to go back to; there are: {there}")
    return _whole(connection, found)


def kept_spec(fields: dict[str, Any], *, scaled: bool) -> tuple[FunctionSpec, str]:
    """A function's spec, as it is kept, without its values, and these, sealed; ``scaled``: as its autoscaler was told since."""
    from greenroom.server.store.versions import SCALING

    bare = dict(fields)
    sealed, scaling = str(bare.pop(sealing.SEALED, "")), bare.pop(SCALING, {})
    return FunctionSpec.from_json(bare | scaling if scaled else bare), sealed


def fill(
    server: "Server", app: "App", kept: Kept, then: Callable[[Error | None], None], *, whole: bool = False
) -> None:
    """Give an app that has none the functions and images of a version; what of an image isn't there is made, with the values that
    its secrets have now. ``then`` is told when that is under way (``whole``: when it is there), or why it can't be."""
    missing = {"", *(image.id for image in kept.images if whole)}  # "": the functions

    def made(image_id: str, error: Error | None) -> None:
        if error is not None:
            server.log(f"an image of {app.name} can't be had: {error}")
        if image_id in missing:
            missing.discard(image_id)
            if error is not None:
                missing.clear()
            if not missing:
                then(error)

    def served(urls: dict[str, str], error: Error | None) -> None:
        if error is not None:
            server.log(f"web endpoints of {app.name} can't be served: {error}")

    def read(done: Future[tuple[list[tuple[dict[str, Any], dict[str, Any]]], list[tuple[FunctionSpec, str]]]]) -> None:
        try:
            images, specs = done.result()
        except (Error, TypeError, KeyError, ValueError) as error:
            then(error if isinstance(error, Error) else Error(f"it was kept by another version of Greenroom: {error}"))
            return
        if app.stopping is not None:
            then(NotFoundError(f"the app {app.name} has ended meanwhile"))
            return
        for image, (asked, spec) in zip(kept.images, images, strict=True):
            server.images.want(app, image.name.partition(".")[2], image.id, asked, spec, image.payloads, made)
        for (function, sealed), row in zip(specs, kept.functions, strict=True):
            app.first_id = function.app_id
            spec_here = function._replace(app_id=app.id, function_id=f"{app.id}/{function.name}")
            add_function(server, app, spec_here, row.definition, served, sealed)
        made("", None)

    def work() -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], list[tuple[FunctionSpec, str]]]:
        specs = []
        for row in kept.functions:
            # What is rolled back to is as it was deployed.
            specs.append(kept_spec(row.spec, scaled=kept.row.app_id == app.id))
            if row.spec["bundle"]:
                server.bundles.has(row.spec["bundle"])  # it counts as used
        asked = [sealing.unseal_image(server.secrets.vault, image.spec) for image in kept.images]
        return [(spec, server.secrets.fill(spec, was_made=not whole)) for spec in asked], specs

    server.disk.do(work, read)
