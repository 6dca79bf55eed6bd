"""What one container can use up: each limit is reached, said in a line, and keeps nobody else from anything."""

import hashlib
import os
import pickle
import struct
import threading
import time

import pytest

import greenroom
from greenroom.server import allowance
from greenroom.wire.connection import connect
from greenroom.wire.messages import (
    Bind,
    Call,
    CancelCall,
    Collect,
    Done,
    EndInputs,
    Failed,
    Inputs,
    Outputs,
    Refused,
)
from greenroom.wire.payload import PayloadWriter
from tests.server.hostile import Speaker

ARGUMENTS = b"\x80\x05)}\x86."
"""The pickle of ``((), {})``."""


class Apps:
    """A hostile container, which has been started; ``good``, whose calls go on; and ``held``, which waits for a file."""

    def __init__(self, go):
        self.app = app = greenroom.App("t")

        @app.function(serialized=True, max_containers=1, scaledown_window=600)
        def hostile():
            return None

        @app.function(serialized=True, max_containers=1, scaledown_window=600)
        def good(x=0):
            return x

        @app.function(serialized=True, max_containers=1, scaledown_window=600)
        def held(x=0):
            while not os.path.exists(go):
                time.sleep(0.01)  # a container's, not the test's
            return x

        @app.cls(serialized=True)
        class Bound:
            def __init__(self, x):
                self.x = x

            @greenroom.method()
            def get(self):
                return self.x

        self.hostile, self.good, self.held, self.Bound = hostile, good, held, Bound

    def go_on(self):
        assert list(self.good.map(range(20))) == list(range(20))


@pytest.fixture
def apps(cluster, tmp_path):
    made = Apps(str(tmp_path / "go"))
    with made.app.run():
        made.hostile.remote()
        made.go_on()
        before = cluster.containers()
        yield made
        made.go_on()
        after = {c["id"] for c in cluster.containers()}
        assert {c["id"] for c in before} <= after, "no container of either has been ended"


@pytest.fixture
def lines(cluster, monkeypatch):
    said = []
    server = cluster.on_server(lambda server: server)
    monkeypatch.setattr(server.peer_log, "_log", said.append)
    return said


def refusal(message):
    assert isinstance(message, Outputs), message
    ((index, status, detail),) = message.items
    assert (index, status) == (-1, "refused")
    return detail


def held_of(cluster):
    """What the server holds for the hostile container."""

    def look(server):
        of = next(c for c in server.lifecycle.containers.live() if c.pool.function.spec.name == "hostile").allowance
        return of.calls, of.spawned, of.held, of.files, of.arriving, len(of.connections)

    return cluster.on_server(look)


def test_connections(cluster, apps, lines, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_CONNECTIONS", 50)
    made = [Speaker(cluster, "hostile") for _ in range(50)]
    for speaker in made:
        speaker.__enter__()
    over = [Speaker(cluster, "hostile") for _ in range(30)]
    for speaker in over:
        message = speaker.hear()
        assert message == Refused("this container has 50 connections, the most that one may have")
        speaker.connection.close()
    assert len([line for line in lines if "50 connections" in line]) == 10, "the others are counted"
    with Speaker(cluster, "good"):
        apps.go_on()
    for speaker in made:
        speaker.connection.close()
    cluster.wait_until(lambda: held_of(cluster)[-1] == 0)
    with Speaker(cluster, "hostile"):
        pass


def test_connections_that_say_nothing(cluster, apps, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_STRANGERS", 50)
    silent = [connect(str(cluster.run / "server.sock")) for _ in range(200)]
    with Speaker(cluster, "good"):
        apps.go_on()
    cluster.wait_until(lambda: cluster.on_server(lambda server: len(server.strangers)) <= 50)
    for sock in silent:
        sock.close()


def test_parameter_sets(cluster, apps, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_BINDINGS", 100)
    functions = cluster.on_server(lambda server: list(server.functions))
    (function,) = (name for name in functions if name.endswith("Bound"))
    with Speaker(cluster, "hostile") as speaker:
        for number in range(101):
            binding = b"%d" % number
            name = hashlib.sha256(binding).hexdigest()[:32]
            speaker.say(Bind(function, name, []), [binding])
        speaker.say(Call("over", function, "get", name, "unary", []), [ARGUMENTS])
        assert refusal(speaker.hear()) == (
            "InvalidError: this container has named 100 parameter sets, the most that one may"
        )
        assert apps.Bound(7).get.remote() == 7


def test_calls_in_flight(cluster, apps, tmp_path, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_CALLS", 200)
    with Speaker(cluster, "hostile") as speaker:
        for number in range(201):
            speaker.say(Call(f"flight-{number}", apps.held.object_id, "", "", "unary", []), [ARGUMENTS])
        message = speaker.hear()
        assert message.call_id == "flight-200"
        assert refusal(message) == "InvalidError: this container has 200 calls in flight, the most that one may have"
        apps.go_on()
        (tmp_path / "go").touch()
        done = 0
        while done < 200:
            done += len(speaker.hear().items)
        assert held_of(cluster)[:4] == (0, 0, 0, 0)
        speaker.say(Call("again", apps.held.object_id, "", "", "unary", []), [ARGUMENTS])
        assert speaker.hear().items == [[0, "ok", ""]]


def test_spawned_calls(cluster, apps, tmp_path, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_SPAWNED", 200)
    with Speaker(cluster, "hostile") as speaker:
        for number in range(201):
            speaker.say(Call(f"spawn-{number}", apps.held.object_id, "", "", "spawn", []), [ARGUMENTS])
            speaker.say(EndInputs(f"spawn-{number}", 1))
        assert refusal(speaker.hear()) == (
            "InvalidError: this container has spawned 200 calls that are not over, the most that one may have"
        )
        apps.go_on()
        (tmp_path / "go").touch()
        cluster.wait_until(lambda: held_of(cluster)[1] == 0)
        speaker.say(Collect(1, "spawn-7"))
        assert isinstance(speaker.hear(), Outputs)
        assert speaker.hear() == Done(1, {"count": 1})


def test_half_a_spawned_call_goes_with_its_caller(cluster, apps):
    with Speaker(cluster, "hostile") as speaker:
        speaker.say(Call("half", apps.held.object_id, "", "", "spawn", []), [ARGUMENTS])
        cluster.wait_until(lambda: held_of(cluster)[1] == 1)
    cluster.wait_until(lambda: held_of(cluster)[1] == 0)


@pytest.mark.parametrize("shape", ["map", "spawn"])
def test_bytes_that_wait(cluster, apps, shape, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_BYTES", 8 * 1024**2)
    large = ARGUMENTS + bytes(1024**2)
    with Speaker(cluster, "hostile") as speaker:
        speaker.say(Call("bytes", apps.held.object_id, "", "", shape, []), [])
        for number in range(8):
            speaker.say(Inputs("bytes", number, []), [large])
        assert refusal(speaker.hear()) == (
            "InvalidError: more than 8 MiB would wait in the server for this container, the most that may"
        )
        apps.go_on()
        speaker.say(CancelCall("bytes"))
    cluster.wait_until(lambda: held_of(cluster)[0] == 0)


def test_what_spawned_calls_have_returned_waits_too(cluster, apps, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_BYTES", 1024**2)
    large = pickle.dumps(((bytes(300_000),), {}))
    with Speaker(cluster, "hostile") as speaker:
        for number in range(3):
            speaker.say(Call(f"kept-{number}", apps.good.object_id, "", "", "spawn", []), [large])
            speaker.say(EndInputs(f"kept-{number}", 1, number + 1))
            assert speaker.hear() == Done(number + 1, {})
            cluster.wait_until(lambda: held_of(cluster)[1] == 0)
        assert 900_000 < held_of(cluster)[2] < 1024**2
        speaker.say(Call("kept-3", apps.good.object_id, "", "", "spawn", []), [large])
        assert "InvalidError: more than 1 MiB would wait" in refusal(speaker.hear())


def test_values_in_files(cluster, apps, tmp_path, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_FILES", 30)
    with Speaker(cluster, "hostile") as speaker:
        speaker.say(Call("files", apps.held.object_id, "", "", "map", []), [])
        for number in range(31):
            writer = PayloadWriter(0, 1000)
            writer.write(ARGUMENTS)
            speaker.say(Inputs("files", number, []), [writer.payload()])
        assert refusal(speaker.hear()) == (
            "InvalidError: more than 30 large values would wait in the server for this container, the most that may"
        )
        (tmp_path / "go").touch()
    cluster.wait_until(lambda: held_of(cluster)[:4] == (0, 0, 0, 0))


def test_frames_that_do_not_end(cluster, apps, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_ARRIVING", 4 * 1024**2)
    with Speaker(cluster, "hostile") as speaker, Speaker(cluster, "hostile") as other:
        half = struct.pack(">II", 100, 60 * 1024**2) + bytes(3 * 1024**2)
        other.connection.sock.sendall(half)
        cluster.wait_until(lambda: held_of(cluster)[4] >= 3 * 1024**2)
        with pytest.raises(OSError):
            for _ in range(20):
                speaker.connection.sock.sendall(half)
        apps.go_on()
    cluster.wait_until(lambda: held_of(cluster)[4] == 0)


def test_answers_that_are_not_read(cluster, apps, lines, monkeypatch):
    monkeypatch.setattr(allowance, "MOST_UNREAD", 1024**2)
    large = pickle.dumps(((bytes(500_000),), {}))
    with Speaker(cluster, "hostile") as speaker:
        speaker.say(Call("loud", apps.good.object_id, "", "", "spawn", []), [large])
        speaker.say(EndInputs("loud", 1, 1))
        assert speaker.hear() == Done(1, {})
        with pytest.raises(greenroom.ConnectionError):
            while True:
                speaker.say(Collect(2, "loud"))
        apps.go_on()
    assert any("1 MiB sent to this container are unread" in line for line in lines)


def test_requests_for_one_output(cluster, apps, tmp_path):
    with Speaker(cluster, "hostile") as speaker:
        speaker.say(Call("asked", apps.held.object_id, "", "", "spawn", []), [ARGUMENTS])
        speaker.say(EndInputs("asked", 1))
        for number in range(1001):
            speaker.say(Collect(number, "asked"))
        assert [speaker.hear() for _ in range(1000)] == [Outputs("asked", [], [])] * 1000, "nothing is ready yet"
        assert speaker.hear() == Failed(
            1000, "InvalidError", "the outputs of one call are asked for 1000 times at once, the most that may be"
        )
        (tmp_path / "go").touch()
        assert isinstance(speaker.hear(), Outputs)


def test_a_batch_is_never_larger_than_a_frame(cluster, apps):
    """Two inputs that each fill a frame, one behind the other, for the same container."""
    with Speaker(cluster, "hostile") as speaker:
        speaker.say(Call("fat", apps.good.object_id, "", "", "map", []), [])
        for number, size in enumerate((5, 62, 5, 62)):
            speaker.say(Inputs("fat", number, []), [pickle.dumps(((bytes(size * 1024**2),), {}))])
        seen = set()
        while len(seen) < 4:
            seen |= {index for index, status, _ in speaker.hear().items if status == "ok"}
        apps.go_on()


def test_a_call_that_only_runs_here_is_not_cancelled_from_here(cluster, apps, tmp_path):
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(apps.held.remote(5)))
    thread.start()
    known = cluster.wait_until(
        lambda: cluster.on_server(lambda server: [c.id for c in server.lifecycle.calls.by_id.values()])
    )
    with Speaker(cluster, "hostile") as speaker:
        speaker.say(CancelCall(known[0]))
        speaker.say(Call("after", apps.good.object_id, "", "", "unary", []), [ARGUMENTS])
        assert isinstance(speaker.hear(), Outputs)
    (tmp_path / "go").touch()
    thread.join()
    assert outcome == [5]
