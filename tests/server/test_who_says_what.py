"""Every message, by who may say it to a server: a table that a new message must have a row in, and a server that keeps to it."""

import importlib
import pkgutil

import pytest

import greenroom
import greenroom.wire
from greenroom.model.settings import Settings
from greenroom.sdk.address import Address
from greenroom.testing import Cluster
from greenroom.wire.connection import BlockingConnection, connect
from greenroom.wire.messages import PROTOCOL_VERSION, Failed, Hello, Refused, Welcome
from greenroom.wire.schema import message_types
from tests.server.far import open_to_others, speak_from_afar

for found in pkgutil.iter_modules(greenroom.wire.__path__):
    importlib.import_module(f"greenroom.wire.{found.name}")

CALLER, AGENT, CLIENT, FAR = "caller", "agent", "client", "far"
"""A container that calls, on a connection of its own; a container's data connection; a program; one on another machine."""
CALLS = {"Bind", "Call", "CancelCall", "Collect", "Credit", "EndInputs", "Inputs", "Spawn", "WasKept", "WhereServed"}
PROGRAMS = {
    "BuildImage", "CreateApp", "CreateVersion", "DefineFunction", "DeleteSecret", "Deploy", "Detach", "EnterContainer", "FollowApp",
    "HasBundle", "Leave", "ListApps", "ListContainers", "ListEnded", "ListSecrets", "ListVersions", "Lookup", "PutBundle",
    "PutSecret", "Rollback",
    "GetStats", "ReadAppLog", "ReadContainerLog", "Shutdown", "StopApp", "StopContainer", "StopDeployed", "TakeOver",
    "UpdateAutoscaler",
}  # fmt: skip
HERE = {"EnterContainer", "Shutdown"}
"""Of these, what is done on the server's machine alone."""
AGENTS = {
    "Entered", "Exited", "Exiting", "HookDone", "Results", "Returned", "Returning", "StartFailed", "Stuck", "WebOut", "WebTaken", "Yielded"
}  # fmt: skip
NOBODY = {
    # The server's own, and what workers say on the socket pair that they were born with.
    "AddCredit", "Adopt", "Begin", "ContainerChanged", "ContainerEnded", "ContainerLog", "ContainerStarted", "Done", "DropImage",
    "Failed", "ImageLog", "ImageMade", "ImageStep", "Interrupt", "Kept", "Log", "MakeImage", "Notice", "Outputs", "Refused", "Requested",
    "Printed", "Resume", "Revoke", "Run", "SignalContainer", "StartContainer", "Stop", "Values", "WebIn", "Welcome", "WorkerReady",
    "HoldOutput", "LeaveOutput", "Settled",
    "Hello",  # once, as the first
    "Piece",  # a part of what another machine says, and no word of its own
}  # fmt: skip
MAY = {
    **{name: {CALLER, CLIENT, FAR} for name in CALLS},
    **{name: {CLIENT} if name in HERE else {CLIENT, FAR} for name in PROGRAMS},
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


@pytest.fixture(scope="module")
def far(cluster):
    """Where it listens for other machines, and a token for them."""
    return open_to_others(cluster)


@pytest.mark.parametrize("name", sorted(name for name, roles in MAY.items() if FAR not in roles))
def test_a_program_on_another_machine_that_says_what_is_not_for_it_is_refused(cluster, token, far, name):
    connection = speak_from_afar(*far)
    assert isinstance(connection.receive(30)[0], Welcome)
    connection.send(empty(message_types()[name]), [b""] if "sizes" in message_types()[name]._fields else None)
    if name == "EnterContainer":  # which a person may well try, and is told
        answer, _ = connection.receive(30)
        assert isinstance(answer, Failed)
        assert "on the machine that it is on" in answer.text
    else:
        with pytest.raises(greenroom.ConnectionError):
            connection.receive(30)
    connection.close()


@pytest.mark.parametrize("name", sorted(set(MAY) - {"Hello"}))
def test_a_stranger_on_another_machine_says_nothing(cluster, token, far, name):
    connection = BlockingConnection(Address("", "", far=far[0]).connect())
    connection.send(empty(message_types()[name]), [b""] if "sizes" in message_types()[name]._fields else None)
    with pytest.raises(greenroom.ConnectionError):
        connection.receive(30)
    connection.close()


@pytest.mark.parametrize(
    ("role", "channel", "whose"),
    [("client", "", "local"), ("client", "", "container"), ("client", "", "x"), ("container", "", "container"),
     ("container", "data", "container"), ("container", "", "far"), ("worker", "", "far"), ("client", "", "its id")],
)  # fmt: skip
def test_a_clients_token_and_no_other_opens_the_door_to_other_machines(
    cluster, token, far, role, channel, whose, capfd
):
    tokens = {"local": cluster.on_server(lambda server: server.token), "container": token, "x": "x", "far": far[1],
              "its id": far[1].partition(".")[0]}  # fmt: skip
    cluster.on_server(lambda server: server.peer_log._said.clear())
    connection = speak_from_afar(far[0], tokens[whose], role, channel)
    assert isinstance(connection.receive(30)[0], Refused)
    with pytest.raises(greenroom.ConnectionError):
        connection.receive(30)
    connection.close()
    assert cluster.on_server(lambda server: dict(server.peer_log._said)) == {"127.0.0.1": 1}


def test_a_clients_token_opens_no_door_on_this_machine(cluster, token, far):
    for role in ("client", "container"):
        connection = speak(cluster, role, far[1])
        assert isinstance(connection.receive(30)[0], Refused)
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
