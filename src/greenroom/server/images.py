"""The images of a server's apps: each is made once by the worker, however many ask for it. Only this file moves their state."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import Error, ImageBuildError, NotFoundError, ProtocolError
from greenroom.model.image import ImageSpec, digest
from greenroom.model.image_state import ImageEvent, ImageState, next_state
from greenroom.server.secrets import stored_in
from greenroom.wire.image_messages import DropImage, ImageLog, ImageMade, ImageStep, MakeImage
from greenroom.wire.payload import Payload, digest_of

if TYPE_CHECKING:
    from greenroom.server.apps import App

E, S = ImageEvent, ImageState
Answer = Callable[[str, Error | None], None]
"""Told the image's id, and why it can't be had."""
Send = Callable[[Any, list[Payload] | None], None]


class Image:
    """One image, as the server keeps it."""

    def __init__(
        self, image_id: str, name: str, asked: dict[str, Any], spec: dict[str, Any], payloads: list[Payload]
    ) -> None:
        self.id = image_id
        self.name = name
        """Who first asked for it: ``app.function``."""
        self.asked = asked
        """As it was asked for: with the names of its stored secrets."""
        self.spec = spec
        """As it is made: with the values of its secrets."""
        self.payloads = payloads
        self.state = S.PENDING
        self.made: dict[str, Any] = {}
        """A ``MadeImage``, once it is READY."""
        self.apps: set[App] = set()
        """Those that have it, or wait for it."""
        self.waiting: list[tuple[App, Answer]] = []
        self.steps: dict[int, ImageStep] = {}
        """How far it is, for who comes later."""


class Images:
    """All of them, by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Image] = {}
        self._worker: Send | None = None
        self.settled: Callable[[str, str], None] = lambda image_id, error: None
        """Called once an image is there (``""``), or with the reason why it can't be had."""

    def use_worker(self, send: Send | None) -> None:
        """There is another worker, or none for now."""
        self._worker = send
        for image in self._by_id.values():
            if send is None and image.state in (S.BUILDING, S.READY):
                image.state = next_state(image.state, E.LOST)
            self._begin(image)

    def want(
        self,
        app: "App",
        name: str,
        image_id: str,
        asked: dict[str, Any],
        spec: dict[str, Any],
        payloads: list[Payload],
        answer: Answer,
    ) -> None:
        """Have an image made for an app; ``answer`` is called once it is there, or can't be had.

        Args:
            image_id: see :func:`image_id_of`.
            asked: its spec.
            spec: the same with the values of stored secrets in the place of their names.
        """
        image = self._by_id.get(image_id)
        if image is None:
            image = self._by_id[image_id] = Image(image_id, f"{app.name}.{name}", asked, spec, payloads)
        image.spec = spec  # its secrets may have changed
        image.apps.add(app)
        if image.state is S.READY:
            answer(image_id, None)
            return
        if app not in [waiting for waiting, _ in image.waiting]:
            for step in image.steps.values():
                app.tell(step)
        image.waiting.append((app, answer))
        if image.state is S.FAILED:
            image.state = next_state(image.state, E.RETRY)
        self._begin(image)

    def made(self, app: "App", image_id: str) -> dict[str, Any]:
        """What a container of that image needs; raises :class:`NotFoundError` unless it was made for that app, which
        keeps it for as long as the app lasts."""
        image = self._by_id.get(image_id)
        if image is None or not image.made or app not in image.apps:
            raise NotFoundError(f"no image {image_id[:40]} has been made for the app {app.name}")
        return image.made

    def of(self, app: "App") -> list[Image]:
        """Those that an app has."""
        return [image for image in self._by_id.values() if app in image.apps]

    def ready(self, image_id: str) -> bool:
        """Whether containers of that image can start now. One that could not be made again, after its worker was lost, is
        tried anew."""
        image = self._by_id.get(image_id)
        if image is None or image.state is S.READY:
            return True
        if image.state is S.FAILED:
            image.state = next_state(image.state, E.RETRY)
            self._begin(image)
        return False

    def forget(self, app: "App") -> None:
        """An app has ended: nobody is to make what only it has waited for."""
        for image in [i for i in self._by_id.values() if app in i.apps]:
            image.apps.discard(app)
            waiting, image.waiting = image.waiting, [pair for pair in image.waiting if pair[0] is not app]
            for ended, answer in waiting:
                if ended is app:
                    answer(image.id, NotFoundError(f"the app {app.name} has ended, before its image was there"))
            if not image.apps:
                del self._by_id[image.id]
                if self._worker is not None:
                    self._worker(DropImage(image.id), None)

    # ---- what the worker says ----

    def on_step(self, message: ImageStep, payloads: list[Payload]) -> None:
        """How far a build is."""
        if (image := self._by_id.get(message.image_id)) is not None:
            image.steps[message.number] = message
            self._tell(image, message)

    def on_log(self, message: ImageLog, payloads: list[Payload]) -> "set[App]":
        """What a step has printed; whom that was told."""
        image = self._by_id.get(message.image_id)
        return self._tell(image, message, payloads) if image is not None else set()

    def on_made(self, message: ImageMade, payloads: list[Payload]) -> None:
        """A build has ended, well or not."""
        image = self._by_id.get(message.image_id)
        if image is None or image.state is not S.BUILDING:
            return  # dropped meanwhile
        image.state = next_state(image.state, E.FAIL if message.error else E.MADE)
        image.made = {} if message.error else message.image
        image.steps.clear()
        waiting, image.waiting = image.waiting, []
        for _, answer in waiting:
            answer(image.id, ImageBuildError(message.error) if message.error else None)
        self.settled(image.id, message.error)

    def _begin(self, image: Image) -> None:
        if image.state is S.PENDING and self._worker is not None:
            image.state = next_state(image.state, E.BEGIN)
            self._worker(MakeImage(image.id, image.name, image.spec, []), image.payloads)

    def _tell(self, image: Image, message: Any, payloads: list[Payload] | None = None) -> "set[App]":
        apps = {app for app, _ in image.waiting}
        for app in apps:
            app.tell(message, payloads)
        return apps


def check(spec: dict[str, Any], payloads: list[Payload]) -> None:
    """Raise ``ProtocolError`` unless that can be an image."""
    try:
        base, steps, _ = ImageSpec.from_json(spec)
    except (TypeError, KeyError, ValueError) as error:
        raise ProtocolError(f"an image's spec has another shape: {error}") from None
    if any(place >= len(payloads) for step in steps for place in step.payloads):
        raise ProtocolError(f"an image's steps name more payloads than the {len(payloads)} that came")
    for step in (base, *steps):
        stored_in(step)


def image_id_of(spec: dict[str, Any], payloads: list[Payload]) -> str:
    """Named by all that was said of it: who says the same gets the same. Not for the loop: arguments may be large."""
    return f"im-{digest([spec, [digest_of(payload) for payload in payloads]])[:20]}"
