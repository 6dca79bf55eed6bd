"""The client's own thread: what it survives, and what it does once the server has gone."""

import contextlib
import os
import signal
import threading
import time

import pytest

import greenroom
from greenroom.sdk import last_words, session
from greenroom.sdk.output import use_sink
from greenroom.testing import Cluster
from tests.conftest import assert_nothing_left, wait_for
from tests.contract.conftest import Recorder

LINES = 20


class Broken(Recorder):
    """A display whose stream is the program's own, and raises."""

    def log(self, container_id, function, data):
        raise RuntimeError("this stream is closed to you")


def test_a_display_that_fails_stops_nothing(capsys):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f(x):
        print("said")
        return x

    broken = Broken()
    with Cluster(), use_sink(broken), app.run():
        for number in range(3):
            assert f.remote(number) == number
    assert broken.changes[-1][1] == "STOPPED", "events go on"
    assert "not all that happened could be shown: RuntimeError: this stream is closed to you" in capsys.readouterr().err


def test_a_reader_that_fails_lets_nobody_wait(monkeypatch):
    """Whatever ends the thread: requests that wait for their answers get an error."""
    app = greenroom.App("t")
    app.function(serialized=True)(print)

    def fail(self, message, payloads):
        raise RuntimeError("unexpected")

    with Cluster():
        app.start()
        monkeypatch.setattr(session.Session, "_take", fail)
        monkeypatch.setattr("threading.excepthook", lambda args: None)
        stopping = threading.Thread(target=stop, args=(app,), daemon=True)
        stopping.start()
        stopping.join(30)
        assert not stopping.is_alive()


def stop(app):
    with contextlib.suppress(greenroom.ConnectionError):
        app.stop()


@pytest.fixture(params=["process", "auto"])
def short(request, home, monkeypatch):
    monkeypatch.setenv("GREENROOM_EXIT_GRACE", "5")
    monkeypatch.setenv("GREENROOM_CANCEL_GRACE", "1")
    monkeypatch.setenv("GREENROOM_SANDBOX", request.param)
    return home


def test_what_exit_hooks_print_after_the_servers_sudden_death(short):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class K:
        @greenroom.enter()
        def enter(self):
            print("enter", flush=True)

        @greenroom.method()
        def m(self, x):
            print("method", x, flush=True)
            return x

        @greenroom.exit()
        def exit(self):
            import time

            for number in range(LINES):
                print("exit", number, flush=True)
                time.sleep(0.05)

    recorder = Recorder()
    with use_sink(recorder):
        app.start()
        try:
            assert (K().m.remote(1), K().m.remote(2)) == (1, 2)
            wait_for(lambda: "method 2" in recorder.lines())
            os.kill(session._current._process._pid, signal.SIGKILL)
            with pytest.raises(greenroom.ConnectionError):
                while True:
                    K().m.remote(3)
        finally:
            app.stop()
        lines = [line for line in recorder.lines() if line != "method 3"]
    assert lines == ["enter", "method 1", "method 2", *(f"exit {number}" for number in range(LINES))]
    assert_nothing_left(short)


class Dead:
    """A server whose worker is still at it for a while."""

    def __init__(self, run, seconds, backstop=10.0):
        self.run = run
        self.backstop = backstop
        self._until = time.monotonic() + seconds

    def in_use(self):
        return time.monotonic() < self._until


def relayed(process, heard):
    shown = {}
    last_words.relay(process, heard, lambda key, data: shown.update({key: shown.get(key, b"") + data}))
    return shown


def test_relay_goes_on_where_the_server_stopped(tmp_path):
    for name, text in (("a", b"heard and not"), ("b", b"never heard"), ("c", b"cut")):
        (tmp_path / "containers" / name).mkdir(parents=True)
        (tmp_path / "containers" / name / "output").write_bytes(text)
    (tmp_path / "containers" / "d").mkdir()
    assert relayed(Dead(tmp_path, 0), {"a": 5, "c": 1000}) == {"a": b" and not", "b": b"never heard"}
    assert relayed(Dead(tmp_path / "gone", 0), {}) == {}


def test_relay_ends_with_the_backstop(tmp_path):
    started = time.monotonic()
    assert relayed(Dead(tmp_path, 60, backstop=0.1), {}) == {}
    assert time.monotonic() - started < 5
