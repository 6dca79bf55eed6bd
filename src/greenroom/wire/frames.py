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
    """Bytes in, frames out.

    Args:
        first: bytes of header and body that the first frame may have.
    """

    def __init__(
        self, max_header: int = MAX_HEADER, max_body: int = MAX_BODY, first: tuple[int, int] | None = None
    ) -> None:
        self._later = max_header, max_body
        self._max_header, self._max_body = first or self._later
        self._partial = bytearray()
        self._wanted = 0

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun and not ended: the end of the stream here would lose something."""
        return bool(self._partial)

    @property
    def partial(self) -> int:
        """Bytes that have come of a frame that isn't whole."""
        return len(self._partial)

    def feed(self, data: bytes | memoryview) -> list[tuple[bytes, bytes]]:
        """The frames, as ``(header, body)``, that ``data`` completes.

        Raises:
            ProtocolError: a frame promises more than the limits. Nothing can be decoded after that.
        """
        frames: list[tuple[bytes, bytes]] = []
        start, end = 0, len(data)
        while self._partial:
            # It gets no more than it lacks: what comes after is not copied for its sake.
            lacks = self._wanted - len(self._partial)
            self._partial += data[start : start + lacks]
            start = min(start + lacks, end)
            if len(self._partial) < self._wanted:
                return frames
            header_length, body_length = _lengths.unpack_from(self._partial)
            if header_length > self._max_header or body_length > self._max_body:
                raise _too_long(header_length, body_length, self._max_header, self._max_body)
            self._wanted = PREFIX + header_length + body_length
            if len(self._partial) == self._wanted:
                with memoryview(self._partial) as view:
                    frames.append((bytes(view[PREFIX : PREFIX + header_length]), bytes(view[PREFIX + header_length :])))
                self._partial.clear()
                self._max_header, self._max_body = self._later
        self._wanted = PREFIX
        while end - start >= PREFIX:
            header_length, body_length = _lengths.unpack_from(data, start)
            if header_length > self._max_header or body_length > self._max_body:
                raise _too_long(header_length, body_length, self._max_header, self._max_body)
            self._wanted = PREFIX + header_length + body_length
            if end - start < self._wanted:
                break
            body_start = start + PREFIX + header_length
            start += self._wanted
            header, body = data[body_start - header_length : body_start], data[body_start:start]
            if isinstance(header, bytes) and isinstance(body, bytes):
                frames.append((header, body))
            else:
                frames.append((bytes(header), bytes(body)))
            self._max_header, self._max_body = self._later
            self._wanted = PREFIX
        if start < end:
            self._partial += data[start:]
        return frames


def _too_long(header: int, body: int, max_header: int, max_body: int) -> ProtocolError:
    return ProtocolError(f"a frame promises {header} + {body} bytes; the limit is {max_header} + {max_body}")
