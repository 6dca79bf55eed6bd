"""The messages about output that has to wait. See ``messages.py``; they are apart since no container needs them."""

from typing import NamedTuple

from greenroom.wire.schema import message

# ---- server → worker ----


@message
class HoldOutput(NamedTuple):
    """Whether what a container, or an image's build, prints stays in its file for now: whoever is to see it doesn't read."""

    source_id: str
    """Of the container or the image."""
    held: bool


@message
class LeaveOutput(NamedTuple):
    """A container whose output is held waits no longer for it when it ends: that stays in its file."""

    container_id: str
    """``""``: all of them, for the server ends, too."""
