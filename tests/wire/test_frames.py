import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.model.errors import ProtocolError
from greenroom.wire.frames import FrameDecoder, encode_frame

frames = st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=200)), max_size=8)


@given(frames, st.data())
def test_any_split_gives_the_same_frames(sent, data):
    stream = b"".join(encode_frame(header, body) for header, body in sent)
    decoder, got = FrameDecoder(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        got += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert got == sent
    assert not decoder.mid_frame


@given(frames, st.data())
def test_frames_that_came_in_a_buffer_outlive_what_it_holds_next(sent, data):
    stream = b"".join(encode_frame(header, body) for header, body in sent)
    decoder, got, buffer = FrameDecoder(), [], bytearray(len(stream))
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        buffer[:cut] = stream[:cut]
        got += decoder.feed(memoryview(buffer)[:cut])
        buffer[:cut] = b"\xff" * cut
        stream = stream[cut:]
    assert got == sent
    assert all(type(part) is bytes for frame in got for part in frame)


@given(st.lists(st.binary(max_size=64)))
def test_arbitrary_bytes_are_frames_or_wait_or_are_refused(chunks):
    decoder = FrameDecoder(max_header=1000, max_body=1000)
    try:
        for chunk in chunks:
            for header, body in decoder.feed(chunk):
                assert len(header) <= 1000
                assert len(body) <= 1000
    except ProtocolError:
        pass


@pytest.mark.parametrize("lengths", [(2000, 0), (0, 2000), (2**32 - 1, 2**32 - 1)])
def test_a_promise_past_the_limit_is_refused_before_it_comes(lengths):
    prefix = b"".join(length.to_bytes(4, "big") for length in lengths)
    with pytest.raises(ProtocolError, match="promises"):
        FrameDecoder(max_header=1000, max_body=1000).feed(prefix)
