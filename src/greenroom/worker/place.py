"""The worker, as its containers see it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from greenroom.model.settings import Settings
from greenroom.wire.payload import Payload
from greenroom.worker.bundle import Bundles
from greenroom.worker.images.store import Layers
from greenroom.worker.sandbox.base import Making, Sandboxes
from greenroom.worker.watch import FileWatch

if TYPE_CHECKING:
    from greenroom.worker.runner import Runner

SLACK = 5.0
"""Seconds beyond all the grace that a container may have."""


UNMADE = 1.0
"""Seconds that a container which makes a layer has, once its worker has gone."""


def backstop(settings: Settings) -> float:
    """Seconds after which a container that nobody looks after must have gone by itself."""
    return settings.cancel_grace + settings.exit_grace + SLACK


class Place(Protocol):
    """The worker around a container."""

    run: Path
    logs: Path
    settings: Settings
    sandboxes: Sandboxes
    bundles: Bundles
    watch_fd: int
    files: FileWatch
    layers: Layers
    making: Making | None
    """What its containers make; None where they serve."""

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Tell the server."""

    @property
    def backlog(self) -> int:
        """Bytes that the server hasn't taken; 0 when it has gone."""

    def ended(self, runner: "Runner") -> None:
        """Nothing of it is left."""
