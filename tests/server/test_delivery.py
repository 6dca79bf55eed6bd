"""Outputs leave many in a frame, in their order, and no frame is larger than one may be."""

from greenroom.server.delivery import BATCH, BATCH_BYTES, deliver
from greenroom.wire.payload import Descriptor, PayloadWriter


class Receiver:
    def __init__(self) -> None:
        self.calls = set()
        self.frames = []

    def send(self, message, payloads=None) -> None:
        assert message.call_id == "fc-1"
        assert len(message.items) == len(payloads)
        self.frames.append([(*item, payload) for item, payload in zip(message.items, payloads, strict=True)])


def delivered(outputs) -> list:
    receiver = Receiver()
    deliver(receiver, "fc-1", iter(outputs))
    assert [output for frame in receiver.frames for output in frame] == outputs
    return [len(frame) for frame in receiver.frames]


def test_small_ones_share_frames():
    assert delivered([]) == []
    assert delivered([(3, "ok", "", b"x")]) == [1]
    assert delivered([(n, "ok", "", b"") for n in range(2 * BATCH + 1)]) == [BATCH, BATCH, 1]


def test_what_would_make_a_frame_too_large_begins_the_next():
    half = bytes(BATCH_BYTES // 2)
    assert delivered([(n, "ok", "", half) for n in range(5)]) == [2, 2, 1]
    assert delivered([(0, "ok", "", b""), (1, "ok", "", bytes(BATCH_BYTES + 1)), (2, "ok", "", b"")]) == [1, 1, 1]
    assert delivered([(n, "refused", "x" * (BATCH_BYTES // 2), b"") for n in range(3)]) == [2, 1]


def test_a_file_goes_by_itself():
    writer = PayloadWriter(0, 2**20)
    writer.write(b"large")
    file = writer.payload()
    assert isinstance(file, Descriptor)
    assert delivered([(0, "ok", "", b""), (1, "ok", "", file), (2, "ok", "", file), (3, "ok", "", b"")]) == [1, 1, 1, 1]
