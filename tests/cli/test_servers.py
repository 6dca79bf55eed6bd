"""What a server said before it closed the connection is what a command says, whichever is faster."""

import socket

import pytest

from greenroom.cli.servers import Conversation
from greenroom.model.errors import AuthError, ConnectionError
from greenroom.sdk.address import Address
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.messages import Hello, ListContainers, Refused


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        made.listen()
        yield made


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [([Refused("no such token")], AuthError, "no such token"), ([], ConnectionError, "closed|lost")],
)
def test_a_server_that_refuses_and_goes(listener, said, error, text):
    with Conversation(Address(listener.getsockname(), "t")) as conversation:
        server = BlockingConnection(listener.accept()[0])
        assert isinstance(server.receive(10)[0], Hello)
        for message in said:
            server.send(message)
        server.close()
        with pytest.raises(error, match=text):
            conversation.ask(ListContainers(1))
