"""The message about output that has to wait. See ``messages.py``; it is apart since no container needs it."""

from typing import NamedTuple

from greenroom.wire.schema import message

# ---- server → worker ----


@message
class HoldOutput(NamedTuple):
    """Whether what a container, or an image's build, prints stays in its file for now: whoever is to see it doesn't read."""

    source_id: str
    """Of the container or the image."""
    held: bool
