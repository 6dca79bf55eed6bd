"""Frames: how one message lies on the wire.

``header length u32 | body length u32 | header (a JSON object) | body (opaque bytes)``, big-endian. The decoder does no
I/O: bytes go in as they arrive, whole frames come out.
"""

import struct

from greenroom.model.errors import ProtocolError

MAX_HEADER = 16 * 1024**2
"""Bytes that a header may have."""
MAX_BODY = 64 * 1024**2
"""Bytes that a body may have; a larger payload travels as a file descriptor."""

_lengths = struct.Struct(">II")
PREFIX = _lengths.size


def encode_frame(header: bytes, body: bytes = b"") -> bytes:
    """One frame; raises :class:`ProtocolError` when a part is past its limit."""
    if len(header) > MAX_HEADER or len(body) > MAX_BODY:
        raise ProtocolError(
            f"a frame of {len(header)} + {len(body)} bytes is past the limit of {MAX_HEADER} + {MAX_BODY}"
        )
    return _lengths.pack(len(header), len(body)) + header + body


class FrameDecoder:
    """Bytes in, frames out."""

    def __init__(self, max_header: int = MAX_HEADER, max_body: int = MAX_BODY) -> None:
        self._max_header = max_header
        self._max_body = max_body
        self._partial = bytearray()
        self._wanted = 0

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun and not ended: the end of the stream here would lose something."""
        return bool(self._partial)

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """The frames, as ``(header, body)``, that ``data`` completes.

        Raises:
            ProtocolError: a frame promises more than the limits. Nothing can be decoded after that.
        """
        if self._partial:
            self._partial += data
            if len(self._partial) < self._wanted:
                return []
            data = bytes(self._partial)
            self._partial.clear()
        frames: list[tuple[bytes, bytes]] = []
        start, end = 0, len(data)
        self._wanted = PREFIX
        while end - start >= PREFIX:
            header_length, body_length = _lengths.unpack_from(data, start)
            if header_length > self._max_header or body_length > self._max_body:
                raise ProtocolError(
                    f"a frame promises {header_length} + {body_length} bytes; "
                    f"the limit is {self._max_header} + {self._max_body}"
                )
            self._wanted = PREFIX + header_length + body_length
            if end - start < self._wanted:
                break
            body_start = start + PREFIX + header_length
            start += self._wanted
            frames.append((data[body_start - header_length : body_start], data[body_start:start]))
            self._wanted = PREFIX
        if start < end:
            self._partial += data[start:]
        return frames
