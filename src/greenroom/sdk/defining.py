"""Telling the server of an app: its files, its images, its functions and classes."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from greenroom.model.errors import ConnectionError, NotFoundError
from greenroom.model.ids import new_id
from greenroom.model.spec import FunctionSpec
from greenroom.sdk import bundle as bundles
from greenroom.sdk.channel import next_rid
from greenroom.sdk.codec import limits
from greenroom.sdk.image import Image
from greenroom.sdk.options import Options
from greenroom.sdk.program import main_module_name
from greenroom.sdk.resuming import going_on
from greenroom.sdk.session import Session, close_session
from greenroom.wire import messages as m
from greenroom.wire.deploy_messages import CreateVersion, Deploy, Detach, Leave
from greenroom.wire.image_messages import BuildImage
from greenroom.wire.payload import Payload, as_payload

Created = m.CreateApp | CreateVersion


class Defined(NamedTuple):
    """An app that the server knows."""

    images: set[str]
    """Ids."""
    urls: dict[tuple[str, str], str]
    """Of its web endpoints, by the function's name and the method's."""


def define(
    session: Session,
    created: Created,
    specs: list[tuple[FunctionSpec, Payload]],
    options: Mapping[str, Options],
    *,
    images_only: bool,
) -> Defined:
    """Create the app, make its images, then define what it has. Everything at once, answers after: few round trips.

    Args:
        specs: of each function and class, with its definition where that travels by value.
        options: what they were decorated with, by name.
        images_only: leave it at the images.

    Returns:
        What came of it.

    Raises:
        ImageBuildError: a step of an image failed.
        InvalidError: a file that belongs to the program or to an image can't be read.
    """
    try:
        return _define(session, created, specs, options, images_only=images_only)
    except Exception:
        with suppress(ConnectionError):  # the session may go on, for other apps
            session.send(m.StopApp(next_rid(), created.app_id))
        raise


def _define(
    session: Session,
    created: Created,
    specs: list[tuple[FunctionSpec, Payload]],
    options: Mapping[str, Options],
    *,
    images_only: bool,
) -> Defined:
    app_id = created.app_id
    answers = [
        session.send(created),
        session.send(m.FollowApp(next_rid(), app_id)),
    ]
    main_as = next((spec.module for spec, _ in specs if spec.main_alias), "")
    files = bundles.collect_files(main_as or main_module_name())
    digest = ""
    if files:
        bundle = bundles.pack(files)
        digest = bundle.digest
        if not session.request(m.HasBundle(next_rid(), digest))["present"]:
            session.request(m.PutBundle(next_rid(), digest, []), [as_payload(bundle.data, 1024**2)])
    defined: dict[str, Any] = {}
    made = make_images(session, app_id, digest, {spec.name: options[spec.name] for spec, _ in specs})
    for spec, definition in specs if not images_only else ():
        spec = spec._replace(
            function_id=f"{app_id}/{spec.name}", app_id=app_id, bundle=digest, image=made.get(spec.name, "")
        )
        defined[spec.name] = session.send(m.DefineFunction(next_rid(), spec.to_json(), []), [definition])
    for answer in answers:
        session.wait(answer)
    urls = {
        (name, method): url for name, answer in defined.items() for method, url in session.wait(answer)["urls"].items()
    }
    return Defined(set(made.values()), urls)


def make_images(session: Session, app_id: str, bundle: str, options: Mapping[str, Options]) -> dict[str, str]:
    """The image's id for each function or class that needs more than the host image.

    Raises:
        ImageBuildError: a step failed.
        InvalidError: a file that belongs to one can't be read.
    """
    asked = {}
    shared: dict[Image | None, Any] = {}
    files: dict[Any, Any] = {}
    for name, asking in options.items():
        if asking.hooked is None and (asking.image is None or asking.image.is_host):
            continue
        if asking.hooked is None and asking.image in shared:
            asked[name] = shared[asking.image]
            continue
        from greenroom.sdk.image_plan import Plan

        plan = Plan(bundle, files)
        hooks = plan.hook_steps(asking.hooked, asking) if asking.hooked is not None else ()
        spec = plan.describe(asking.image or Image.host(), hooks)
        for digest, found in plan.bundles.items():
            if not session.request(m.HasBundle(next_rid(), digest))["present"]:
                for part, more in found.parts(limits.inline):
                    session.request(m.PutBundle(next_rid(), digest, [], more), [part])
        asked[name] = session.send(BuildImage(next_rid(), app_id, name, spec.to_json(), []), plan.payloads)
        if asking.hooked is None:
            shared[asking.image] = asked[name]
    return {name: str(session.wait(answer)["image_id"]) for name, answer in asked.items()}


def deploy(name: str, strategy: str, define: Callable[[CreateVersion], Session]) -> int:
    """See ``App.deploy``; the version's number."""
    created = CreateVersion(next_rid(), new_id("ap"), name, strategy)
    session = define(created)
    try:
        return int(session.request(Deploy(next_rid(), created.app_id))["version"])
    finally:
        close_session(session)


def take_over(session: Session, app_id: str) -> None:
    """Have it answer requests in the place of the app that it replaces; raises ExecutionError where it can't."""
    from greenroom.wire.web_messages import TakeOver

    session.request(TakeOver(next_rid(), app_id))


def detach(session: Session, app_id: str) -> None:
    """Have it go on when this program has ended; raises InvalidError where the server doesn't, ExecutionError where it can't be kept."""
    session.request(Detach(next_rid(), app_id))
    going_on.add(app_id)


def leave(session: Session, app_id: str) -> None:
    """Let go of an app that is to go on; where the session is lost, the server has noticed."""
    going_on.discard(app_id)
    if not session.lost:
        with suppress(NotFoundError):  # it was stopped
            session.request(Leave(next_rid(), app_id))
