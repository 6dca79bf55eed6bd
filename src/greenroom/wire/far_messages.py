"""What only programs on other machines need to say, or to hear. See ``messages.py``."""

from typing import NamedTuple

from greenroom.wire.schema import message


@message
class Piece(NamedTuple):
    """A part of a file that can't be passed as a descriptor. The message that the file belongs to follows all of its files, as
    if their descriptors had come. Never passed on to whoever reads a connection."""

    last: bool
    """The file is whole."""
    sizes: list[int]


@message
class ReadAppLog(NamedTuple):
    """What the containers of an app have printed, as lines of JSON (see ``model/app_logs.py``), the oldest first, some at a time.
    Answered with ``Printed``, whose payload is empty once there is nothing more for now, and ``{"place": …}`` to go on from."""

    rid: int
    app: str
    place: list[int]
    """A file, by its inode, and an offset in it; empty: the beginning."""


@message
class ReadContainerLog(NamedTuple):
    """What a container has printed from that byte on, some at a time. Answered with ``Printed``, and ``{"offset": int, "over":
    bool}``: where it goes on, and whether nothing more will come once nothing more has."""

    rid: int
    container_id: str
    offset: int


@message
class ListEnded(NamedTuple):
    """Answered with ``{"containers": [record, …]}``: of those that have ended, as far as they are kept."""

    rid: int


@message
class Printed(NamedTuple):
    """Payload: what was asked for, ahead of the answer."""

    rid: int
    sizes: list[int]
