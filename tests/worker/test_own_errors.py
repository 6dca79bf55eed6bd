"""Errors of our own in a worker: each costs one container, which says so, and no other."""

import os
import resource
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from greenroom.model.spec import Limits
from greenroom.wire import messages as m
from greenroom.worker.guard import guarded
from greenroom.worker.sandbox.oci import GROUP
from tests.conftest import Need, assert_nothing_left, wait_for
from tests.worker.peer import SETTINGS, Peer, children_of, gone, program


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What workers that the test's own body has started have written to stderr so far."""
    heard = []

    def so_far() -> str:
        heard.append(capfd.readouterr().err)
        return "".join(heard)

    return so_far


def another_worker(peer: Peer) -> None:
    peer.kill_worker()
    peer.start_worker()


def still_works(peer: Peer, name: str = "ta-after") -> None:
    peer.start(name, program())
    peer.entered().stop()
    assert peer.ended(name) == m.ContainerEnded(name, "", True)


def test_a_guarded_method_tells_its_object() -> None:
    class One:
        errors: list[Exception] = []

        def broke(self, error: Exception) -> None:
            self.errors.append(error)

        @guarded
        def callback(self, number: int) -> None:
            1 // number

    one = One()
    one.callback(1)
    assert one.errors == []
    one.callback(0)
    assert [type(error) for error in one.errors] == [ZeroDivisionError]


@pytest.mark.parametrize("bundle", [None, ""], ids=["once its files are there", "at once"])
def test_an_error_while_it_starts_is_its_end_and_no_others(said, peer: Peer, bundle: str | None) -> None:
    """More limits than there are: whoever sent them is at fault, and so is whoever did not check."""
    another_worker(peer)
    peer.start("ta-other", program(exit="print('exit')"))
    other = peer.entered()
    peer.start("ta-1", program("'broken'"), bundle=bundle, limits=(*Limits(), 1, 2))
    ended = peer.ended("ta-1")
    assert ended.reason.startswith("could not start: greenroom's own error: TypeError: ") and "\n" not in ended.reason
    assert not ended.started and not peer.directory("ta-1").exists()
    assert "Traceback" in (text := said()) and "start.py" in text
    other.stop()
    assert peer.ended("ta-other") == m.ContainerEnded("ta-other", "", True)
    assert peer.logs["ta-other"] == b"exit\n"


def test_an_error_while_it_ends_kills_what_is_left(said, peer: Peer) -> None:
    """The worker has no descriptor free in the very moment in which it must look for what the supervisor has left."""
    another_worker(peer)
    peer.start("ta-other", program())
    other = peer.entered()
    peer.start("ta-1", program(exit="while True: time.sleep(1)"))
    pid = peer.until(m.ContainerStarted, "ta-1").pid
    peer.entered()
    (agent,) = children_of(pid)
    before = resource.prlimit(peer.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(peer.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "Traceback" in said(), what="the worker tells of its error")
    resource.prlimit(peer.pid, resource.RLIMIT_NOFILE, before)
    ended = peer.ended()
    assert ended.started and ended.reason.startswith("greenroom's own error: OSError: [Errno 24] Too many open files")
    gone(agent)
    assert not peer.directory("ta-1").exists()
    other.stop()
    assert peer.ended("ta-other").reason == ""
    still_works(peer)


@pytest.mark.parametrize("pid", ["", "echo none > $2"], ids=["no number", "no number in it"])
def test_a_runtime_that_does_not_say_what_it_started(said, home: Path, tmp_path: Path, pid: str) -> None:
    Need.runtime("crun")
    runtime = tmp_path / "crun-mute"
    runtime.write_text(f'#!/bin/sh\nwhile [ "$1" != --pid-file ]; do shift; done\n{pid}\nexit 0\n')
    runtime.chmod(0o755)
    peer = Peer(home, SETTINGS._replace(sandbox="oci", runtime=str(runtime)))
    peer.start("ta-1", program())
    ended = peer.ended()
    assert ended.reason.startswith("could not start: greenroom's own error: ") and not ended.started
    assert "_runtime_ended" in said()
    peer.close()
    assert_nothing_left(home)


def test_an_error_while_it_is_taken_over_ends_it(said, contained: Peer) -> None:
    # Without its group, its processes are found by its name: one that no other test's containers have.
    name = f"ta-{uuid.uuid4().hex}"
    contained.start(name, program())
    pid = contained.until(m.ContainerStarted).pid
    contained.entered()
    contained.kill_worker()
    (contained.directory(name) / GROUP).write_bytes(b"\xff")
    contained.start_worker()
    contained.worker.send(m.Adopt([[name, 0]]))
    ended = contained.ended()
    assert ended.started and ended.reason.startswith("greenroom's own error: UnicodeDecodeError: ")
    gone(pid)
    assert not contained.directory(name).exists()
    still_works(contained)
