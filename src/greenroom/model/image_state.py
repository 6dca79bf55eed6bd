"""An image's life on one server, as one table: wanted, being made, there or not to be had.

Whoever asks for an image that has FAILED tries again: what it needs may be there now. A worker that dies takes its builds
with it; the next one makes them, from the layers that were complete.
"""

from greenroom.model.errors import StateError
from greenroom.model.versions import StrEnum


class ImageState(StrEnum):
    """Where an image is in its life."""

    PENDING = "PENDING"
    BUILDING = "BUILDING"
    READY = "READY"
    FAILED = "FAILED"


class ImageEvent(StrEnum):
    """What can happen to an image."""

    BEGIN = "BEGIN"
    MADE = "MADE"
    FAIL = "FAIL"
    LOST = "LOST"
    """The worker that has it, or makes it, has gone."""
    RETRY = "RETRY"


_S = ImageState
_E = ImageEvent

TRANSITIONS: dict[ImageState, dict[ImageEvent, ImageState]] = {
    _S.PENDING: {_E.BEGIN: _S.BUILDING},
    _S.BUILDING: {_E.MADE: _S.READY, _E.FAIL: _S.FAILED, _E.LOST: _S.PENDING},
    _S.READY: {_E.LOST: _S.PENDING},
    _S.FAILED: {_E.RETRY: _S.PENDING},
}


def next_state(state: ImageState, event: ImageEvent) -> ImageState:
    """The state that ``event`` leads to.

    Raises:
        StateError: ``state`` doesn't accept ``event``; nothing has changed.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise StateError(f"an image that is {state} does not accept {event}") from None
