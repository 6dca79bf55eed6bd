"""The messages about images. See ``messages.py``; these are apart since no container needs them."""

from typing import Any, NamedTuple

from greenroom.wire.schema import message

# ---- client → server ----


@message
class BuildImage(NamedTuple):
    """Have an image made, for an app; progress comes to this connection. ``image``: an ``ImageSpec``, whose steps name
    payloads by their number. Answered, once it is there, with ``{"image_id": str}``."""

    rid: int
    app_id: str
    name: str
    """Of the function or class that asks."""
    image: dict[str, Any]
    sizes: list[int]


# ---- server ↔ worker ----


@message
class MakeImage(NamedTuple):
    """Make an image, or find that it is there; its layers are kept from then on, until ``DropImage``."""

    image_id: str
    name: str
    """``app.function``, of the first that asked."""
    image: dict[str, Any]
    sizes: list[int]


@message
class DropImage(NamedTuple):
    """Nobody wants that image any more: end its build, let its layers go."""

    image_id: str


@message
class ImageMade(NamedTuple):
    """``image``: a ``MadeImage``, where ``error`` is ``""``; else why there is none."""

    image_id: str
    image: dict[str, Any]
    error: str


# ---- worker → server → client ----


@message
class ImageStep(NamedTuple):
    """Step ``number`` of ``total`` is ``running``, ``cached``, ``done``, ``failed`` or ``waiting`` for another build of it."""

    image_id: str
    number: int
    total: int
    text: str
    state: str
    seconds: float = 0.0


@message
class ImageLog(NamedTuple):
    """Payload: what the step that runs has printed, cut anywhere."""

    image_id: str
    sizes: list[int]
