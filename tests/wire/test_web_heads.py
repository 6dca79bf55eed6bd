"""Heads of requests and responses as lines: what goes in comes out, and nothing passes for what it isn't."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.wire.web_heads import (
    Head,
    headers_of,
    is_block,
    join_head,
    pack_request,
    pack_response,
    unpack_request,
    unpack_response,
)

LINES = st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"-"))
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_!~", min_size=1, max_size=9).map(str.encode)
VALUES = st.text(max_size=20).map(
    lambda text: bytes(byte for byte in text.encode() if (byte >= 32 or byte == 9) and byte != 127)
)


@given(
    parts=st.builds(Head, *[LINES] * len(Head._fields)),
    headers=st.lists(st.tuples(LINES, LINES), max_size=5),
    more=st.booleans(),
    body=st.binary(max_size=50),
)
def test_a_request_comes_out_as_it_went_in(parts, headers, more, body):
    assert unpack_request(pack_request(join_head(parts, headers), more, body)) == (parts, headers, more, body)


@given(st.integers(0, len(Head._fields) + 3))
def test_a_line_break_is_refused_wherever_it_is(place):
    lines = [b"x"] * (len(Head._fields) + 4)
    lines[place] = b"a\nb"
    parts, (name, value, *more) = lines[: len(Head._fields)], lines[len(Head._fields) :]
    with pytest.raises(ValueError, match="line break"):
        join_head(parts, [(name, value), tuple(more)])


@given(status=st.integers(200, 599), headers=st.lists(st.tuples(NAMES, VALUES)), body=st.binary(max_size=50))
def test_a_response_comes_out_as_it_went_in(status, headers, body):
    block = b"".join(b"%b: %b\r\n" % header for header in headers)
    assert is_block(block)
    assert unpack_response(pack_response(status, block, body)) == (status, block, body)
    assert headers_of(block) == headers


@pytest.mark.parametrize("status", [-1, 1 << 16, 1 << 70])
def test_a_status_that_can_be_none_is_zero(status):
    assert unpack_response(pack_response(status, b"", b""))[0] == 0


@pytest.mark.parametrize("block", [
    b"x", b"x: y", b"x: y\n", b"x: y\r", b"\r\n", b"x: y\r\n\r\n", b"x: y\r\n\r\nz: z\r\n", b"x:y\r\n", b": y\r\n", b"x : y\r\n",
    b"X: y\r\n", b"x y: z\r\n", b"x: a\rb\r\n", b"x: a\nb\r\n", b"x: a\0b\r\n", b"x: a\x7f\r\n", b"x: y\r\n z\r\n", b"\xe9: y\r\n",
])  # fmt: skip
def test_what_is_no_block(block):
    assert not is_block(block)


@given(st.binary(max_size=30))
def test_any_bytes_are_a_response_or_none(data):
    try:
        status, block, body = unpack_response(data)
    except ValueError:
        assert len(data) < 6 or struct.unpack_from(">HI", data)[1] > len(data) - 6
    else:
        assert pack_response(status, block, body) == data
