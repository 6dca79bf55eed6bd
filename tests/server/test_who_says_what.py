"""Every message, by who may say it to a server: a table that a new message must have a row in, and a server that keeps to it."""

import importlib
import pkgutil

import pytest

import greenroom
import greenroom.wire
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.messages import PROTOCOL_VERSION, Hello, Refused, Welcome
from greenroom.wire.schema import message_types

for found in pkgutil.iter_modules(greenroom.wire.__path__):
    importlib.import_module(f"greenroom.wire.{found.name}")

CALLER, AGENT, CLIENT = "caller", "agent", "client"
"""A container that calls, on a connection of its own; a container's data connection; a program."""
CALLS = {"Bind", "Call", "CancelCall", "Collect", "Credit", "EndInputs", "Inputs", "WasKept", "WhereServed"}
PROGRAMS = {
    "BuildImage", "CreateApp", "CreateVersion", "DefineFunction", "DeleteSecret", "Deploy", "EnterContainer", "FollowApp",
    "HasBundle", "ListApps", "ListContainers", "ListSecrets", "ListVersions", "Lookup", "PutBundle", "PutSecret", "Rollback",
    "GetStats", "Shutdown", "StopApp", "StopContainer", "StopDeployed", "TakeOver", "UpdateAutoscaler",
}  # fmt: skip
AGENTS = {
    "Entered", "Exited", "Exiting", "HookDone", "Results", "Returned", "Returning", "StartFailed", "Stuck", "WebOut", "WebTaken", "Yielded"
}  # fmt: skip
NOBODY = {
    # The server's own, and what workers say on the socket pair that they were born with.
    "AddCredit", "Adopt", "Begin", "ContainerChanged", "ContainerEnded", "ContainerLog", "ContainerStarted", "Done", "DropImage",
    "Failed", "ImageLog", "ImageMade", "ImageStep", "Interrupt", "Kept", "Log", "MakeImage", "Notice", "Outputs", "Refused", "Requested",
    "Resume", "Revoke", "Run", "SignalContainer", "StartContainer", "Stop", "Values", "WebIn", "Welcome", "WorkerReady",
    "Hello",  # once, as the first
}  # fmt: skip
MAY = {
    **{name: {CALLER, CLIENT} for name in CALLS},
    **{name: {CLIENT} for name in PROGRAMS},
    **{name: {AGENT} for name in AGENTS},
    **{name: set() for name in NOBODY},
}


def test_every_message_has_a_row():
    assert set(MAY) == set(message_types())
    assert len(MAY) == len(CALLS) + len(PROGRAMS) + len(AGENTS) + len(NOBODY)


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings=Settings(sandbox="process")) as made:
        yield made


@pytest.fixture(scope="module")
def token(cluster):
    """Of a container that lives."""
    app = greenroom.App("t")

    @app.function(serialized=True, min_containers=1)
    def f():
        return 1

    with app.run():
        assert f.remote() == 1
        yield cluster.on_server(lambda server: next(iter(server.lifecycle.containers.by_id.values())).token)


def speak(cluster, role, token):
    connection = BlockingConnection(connect(str(cluster.run / "server.sock")))
    connection.send(Hello(role, token, PROTOCOL_VERSION))
    return connection


def empty(kind):
    """A message of that type, with nothing in it."""
    blank = {int: 1, str: "x", list: [], dict: {}, bool: False, float: 0.0}
    fields = {name: blank[getattr(hint, "__origin__", hint)] for name, hint in kind.__annotations__.items()}
    return kind(**fields)


@pytest.mark.parametrize("name", sorted(name for name, roles in MAY.items() if CALLER not in roles))
def test_a_container_that_says_what_is_not_for_it_is_cut_off_and_that_is_logged(cluster, token, name, capfd):
    connection = speak(cluster, "container", token)
    assert isinstance(connection.receive(30)[0], Welcome)
    before = cluster.on_server(lambda server: (list(server.apps), len(server.functions)))
    connection.send(empty(message_types()[name]), [b""] if "sizes" in message_types()[name]._fields else None)
    with pytest.raises(greenroom.ConnectionError):
        connection.receive(30)
    connection.close()
    assert cluster.on_server(lambda server: (list(server.apps), len(server.functions))) == before
    said = cluster.on_server(lambda server: dict(server.peer_log._said))
    assert any(source.startswith("ta-") for source in said)


@pytest.mark.parametrize("name", sorted(name for name, roles in MAY.items() if CLIENT not in roles))
def test_a_program_that_says_what_is_not_for_it_is_cut_off(cluster, token, name):
    connection = speak(cluster, "client", cluster.on_server(lambda server: server.token))
    assert isinstance(connection.receive(30)[0], Welcome)
    connection.send(empty(message_types()[name]), [b""] if "sizes" in message_types()[name]._fields else None)
    with pytest.raises(greenroom.ConnectionError):
        connection.receive(30)
    connection.close()


@pytest.mark.parametrize("name", sorted(set(MAY) - {"Hello"}))
def test_a_stranger_says_nothing(cluster, token, name):
    connection = BlockingConnection(connect(str(cluster.run / "server.sock")))
    connection.send(empty(message_types()[name]), [b""] if "sizes" in message_types()[name]._fields else None)
    with pytest.raises(greenroom.ConnectionError):
        connection.receive(30)
    connection.close()


@pytest.mark.parametrize(
    ("role", "whose"), [("client", "container"), ("container", "client"), ("worker", "client"), ("client", "x")]
)
def test_a_token_opens_one_door(cluster, token, role, whose):
    tokens = {"container": token, "client": cluster.on_server(lambda server: server.token), "x": "x"}
    connection = speak(cluster, role, tokens[whose])
    assert isinstance(connection.receive(30)[0], Refused)
    with pytest.raises(greenroom.ConnectionError):
        connection.receive(30)
    connection.close()
