"""Who may say what to a server, by a real one."""

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.messages import PROTOCOL_VERSION, Bind, EndInputs, Failed, Hello, Inputs, Outputs, Welcome


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings=Settings(sandbox="process")) as made:
        yield made


def speak(cluster, role, token):
    connection = BlockingConnection(connect(str(cluster.run / "server.sock")))
    connection.send(Hello(role, token, PROTOCOL_VERSION))
    message, _ = connection.receive(30)
    assert isinstance(message, Welcome)
    return connection


def test_a_container_adds_nothing_to_another_ones_call(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f(x):
        return x

    with app.run():
        call = f.spawn_map([1, 2])
        assert call.num_inputs() == 2
        token = cluster.on_server(lambda server: next(iter(server.lifecycle.containers.by_id.values())).token)
        connection = speak(cluster, "container", token)
        connection.send(Inputs(call.object_id, 2, []), [b"x"])
        assert isinstance(connection.receive(30)[0], Outputs), "it was refused"
        connection.send(EndInputs(call.object_id, 5, 7))
        message, _ = connection.receive(30)
        assert message == Failed(7, "NotFoundError", f"the call {call.object_id} has ended, with its app")
        assert (call.num_inputs(), list(call.iter())) == (2, [1, 2])
        connection.close()


def test_a_message_of_another_shape_ends_the_connection(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f(x):
        return x

    with app.run():
        f.remote(1)
        connection = speak(cluster, "client", cluster.on_server(lambda server: server.token))
        connection.send(Bind(f.object_id, "b", []))
        with pytest.raises(greenroom.ConnectionError):
            connection.receive(30)
        assert f.remote(2) == 2, "the others go on"
        connection.close()
