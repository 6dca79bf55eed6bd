import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.model.errors import ProtocolError
from greenroom.wire import messages
from greenroom.wire.schema import decode_header, encode_header, message_types

VALUES = {
    str: st.text(),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
}


def strategy(annotation):
    if annotation in VALUES:
        return VALUES[annotation]
    if getattr(annotation, "__origin__", None) is dict:
        return st.dictionaries(st.text(), st.text())
    return st.lists(st.integers())


any_message = st.sampled_from(sorted(message_types())).flatmap(
    lambda kind: st.builds(
        message_types()[kind],
        **{name: strategy(annotation) for name, annotation in message_types()[kind].__annotations__.items()},
    )
)


@given(any_message)
def test_every_message_and_back(message):
    assert decode_header(encode_header(message)) == message
    assert type(decode_header(encode_header(message))) is type(message)


@given(st.binary())
def test_arbitrary_headers_are_refused(header):
    with pytest.raises(ProtocolError):
        decode_header(header)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"t": 1}',
        b'{"t": "Nothing"}',
        b'{"t": "Stop"}',
        b'{"t": "Stop", "reason": 1}',
        b'{"t": "Stop", "reason": "x", "more": 1}',
        b'{"t": "Stop", "reason": "x"} ',
        b'{"t": "Interrupt", "seq": true}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_headers_of_another_shape_are_refused(header):
    with pytest.raises(ProtocolError):
        decode_header(header)


def test_whole_numbers_pass_for_seconds():
    header = json.dumps({"t": "SignalContainer", "container_id": "ta-1", "action": "kill", "seconds": 3}).encode()
    assert math.isclose(decode_header(header).seconds, 3)
    assert isinstance(decode_header(header), messages.SignalContainer)
