"""A cluster's server that programs on other machines reach, or say that they do."""

import socket

from greenroom.model import client_tokens
from greenroom.sdk.address import Address
from greenroom.server import certificate
from greenroom.server.remote import Remote
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.far import Far
from greenroom.wire.messages import PROTOCOL_VERSION, Hello


def open_to_others(cluster):
    """Where it listens from now on, with its fingerprint, and a token that opens it."""
    context, fingerprint = certificate.load(certificate.own(cluster.home), None)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def go(server):
        server.remote = Remote(server, listener, context)

    cluster.on_server(go)
    return Far("127.0.0.1", port, fingerprint), client_tokens.create(cluster.home, "a test")[1]


def speak_from_afar(far, token, role="client", channel=""):
    """A connection that has said that much."""
    connection = BlockingConnection(Address("", token, far=far).connect())
    connection.send(Hello(role, token, PROTOCOL_VERSION, channel))
    return connection
