"""A container's start: what it needs is acquired in order, then its sandbox starts a supervisor."""

import asyncio
import os
from pathlib import Path
from typing import Any, Protocol

from greenroom.model.errors import ExecutionError
from greenroom.model.image import MadeImage
from greenroom.model.spec import Limits
from greenroom.wire.begin import Begin, write_begin
from greenroom.wire.messages import StartContainer
from greenroom.wire.payload import INLINE_ONLY, Payload
from greenroom.worker.guard import guarded
from greenroom.worker.held import Held
from greenroom.worker.images.holding import Holding
from greenroom.worker.place import UNMADE, Place, backstop
from greenroom.worker.sandbox.base import Descriptors, Launch, Stack


class Outcome(Protocol):
    """What becomes of it. One of the first three comes, once."""

    def started(self, pid: int) -> None:
        """The sandbox has a supervisor."""

    def failed(self, reason: str) -> None:
        """The sandbox could not start it."""

    def refused(self, error: Exception) -> None:
        """It can't be started here, or now."""

    def broke(self, error: Exception) -> None:
        """An error of our own."""

    def still_wanted(self) -> bool:
        """Whether to go on. It says no once: then it sees to the end."""


class Start:
    """One container's. What it gets is in ``held``, whoever ends it."""

    def __init__(
        self, place: Place, held: Held, message: StartContainer, payloads: list[Payload], outcome: Outcome
    ) -> None:
        self._place = place
        self._held = held
        self._message = message
        self._payloads = payloads
        self._outcome = outcome

    def broke(self, error: Exception) -> None:
        """It is the container's error."""
        self._outcome.broke(error)

    @guarded
    def begin(self) -> None:
        """Its directory and its output, and the program's files as soon as they are there."""
        try:
            self._held.acquire(self._held.scratch)
            self._held.acquire(self._held.output)
        except OSError as error:
            self._outcome.refused(error)
            return
        if not self._message.bundle:
            self._launch(None)
            return
        unpacked = self._place.bundles.directory(self._message.bundle)
        if unpacked.done():
            self._bundle_ready(unpacked)
        else:
            unpacked.add_done_callback(self._bundle_ready)

    @guarded
    def _bundle_ready(self, done: "asyncio.Future[Path]") -> None:
        try:
            code = done.result()
        except ExecutionError as error:
            self._outcome.refused(error)
        else:
            self._launch(code)

    def _launch(self, code: Path | None) -> None:
        if not self._outcome.still_wanted():
            return
        held, place = self._held, self._place
        begin = self._begin(code)
        image = MadeImage.from_json(self._message.image) if self._message.image else MadeImage()
        try:
            held.acquire(Holding(place.layers, image.layers, held.scratch.directory))
            held.sandbox = place.sandboxes.sandbox(self._what(code, image))
            held.acquire(held.sandbox)
            held.ledger.make(lasting=begin.reconnect > 0 and not place.sandboxes.inline_only)
            with _Open(write_begin(begin, self._payloads)) as begin_fd, _Open(held.scratch.open_notes()) as notes:
                descriptors = Descriptors(begin_fd, held.ledger.fd, notes, place.watch_fd)
                held.sandbox.start(descriptors, self._outcome.started, self._outcome.failed)
        except (OSError, ValueError) as error:  # ValueError: a variable's name or value that no process can have
            self._outcome.refused(error)

    def _what(self, code: Path | None, image: MadeImage) -> Launch:
        scratch, place = self._held.scratch, self._place
        bound = [(place.bundles.unpacked(digest), path, each) for digest, path, each in image.mounts]
        return Launch(
            container_id=scratch.container_id,
            directory=scratch.directory,
            run=place.run,
            output=scratch.output,
            asked=self._message.environment,
            code=code,
            backstop=backstop(place.settings) + self._message.begin.get("reconnect", 0.0)
            if place.making is None
            else UNMADE,
            limits=Limits(*self._message.limits),
            stack=Stack(image.layers, image.config, bound),
            making=place.making,
        )

    def _begin(self, code: Path | None) -> Begin:
        """What the agent is told, as things look from inside."""
        asked, sandboxes = self._message.begin, self._place.sandboxes
        seen: dict[str, Any] = {
            "code": sandboxes.code(code) if code is not None else "",
            "socket": sandboxes.socket(asked["socket"]),
        }
        if sandboxes.inline_only:
            seen |= {"inline_limit": INLINE_ONLY, "max_payload": min(INLINE_ONLY, asked["max_payload"])}
        return Begin(**{**asked, **seen}, sizes=[])


class _Open:
    """A descriptor, for ``with``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)
