"""The file in which a worker tells an agent what to be: one ``Begin`` frame, then its payloads."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from greenroom.model.errors import ProtocolError
from greenroom.wire.frames import PREFIX, FrameDecoder, encode_frame
from greenroom.wire.payload import Descriptor, Payload
from greenroom.wire.schema import decode_header, encode_header, message


@message
class Begin(NamedTuple):
    """What an agent is to be. Payloads: definition, binding."""

    container_id: str
    token: str
    socket: str
    app_id: str
    spec: dict[str, Any]
    """A ``FunctionSpec`` without its environment."""
    code: str
    """Directory of the source bundle; ``""``: none."""
    exit_grace: float
    cancel_grace: float
    max_payload: int
    inline_limit: int
    sizes: list[int]
    reconnect: float = 0.0
    """Seconds for which it goes on without its server, and looks for the next one; 0: it ends at once."""
    job: dict[str, Any] = {}
    """A step of an image that it is to make, and nothing else: see ``agent/build.py``."""
    deployed: bool = False
    """Another version of its app may take what it spawns."""


def write_begin(begin: Begin, payloads: Sequence[Payload]) -> int:
    """A memfd that holds it, positioned at its start; the caller closes it."""
    fd = os.memfd_create("greenroom-begin", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(encode_frame(encode_header(begin, [len(payload) for payload in payloads])))
        for payload in payloads:
            if isinstance(payload, Descriptor):
                with payload.open() as source:
                    while block := source.read(1 << 20):
                        file.write(block)
            else:
                file.write(payload)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def read_begin(fd: int) -> tuple[Begin, list[Payload]]:
    """The inverse; closes ``fd``.

    Raises:
        ProtocolError: the file holds something else.
    """
    with open(fd, "rb") as file:
        prefix = file.read(PREFIX)
        header_length = int.from_bytes(prefix[:4], "big")
        frames = FrameDecoder().feed(prefix + file.read(header_length))
        begin = decode_header(frames[0][0]) if frames else None
        if not isinstance(begin, Begin):
            raise ProtocolError("an agent was started without a Begin")
        payloads: list[Payload] = [file.read(size) for size in begin.sizes]
    return begin, payloads
