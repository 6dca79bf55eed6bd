"""A worker whose disk is full, or becomes so."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.wire import messages as m
from tests.worker.peer import Peer, children_of, gone, program, tar_of


@pytest.fixture
def disk(home: Path) -> Iterator[Path]:
    """A state directory on a file system of 1 MiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", home], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"can't mount a small disk here: {mounted.stderr.strip()}")
    yield home
    subprocess.run(["umount", "-l", home], check=True)


@pytest.fixture
def peer(disk: Path) -> Iterator[Peer]:
    made = Peer(disk)
    yield made
    made.close()


def fill(disk: Path) -> None:
    with open(disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left on device"):
        while True:
            file.write(b"x" * 512)


def test_a_container_that_finds_no_room_is_one_line_and_leaves_nothing(peer: Peer, disk: Path) -> None:
    source = program()
    peer.start("ta-0", source)
    peer.entered().stop()
    assert peer.ended().reason == ""
    fill(disk)
    peer.start("ta-1", source)
    ended = peer.ended()
    assert ended.reason.startswith("could not start: No space left on device")
    assert not ended.started and not peer.directory("ta-1").exists()
    (disk / "filler").unlink()
    peer.start("ta-2", source)
    peer.entered().stop()
    assert peer.ended() == m.ContainerEnded("ta-2", "", True)


def test_a_bundle_that_finds_no_room_is_one_line_and_leaves_nothing(peer: Peer, disk: Path) -> None:
    files = peer.bundle(tar_of({"data": bytes(700_000)}))
    peer.start("ta-1", "", bundle=files)
    ended = peer.ended()
    assert ended.reason.startswith("could not start: can't unpack") and "No space left" in ended.reason
    assert not ended.started and not list(peer.code.glob(".unpack-*"))


def test_a_disk_that_fills_up_hides_no_end(peer: Peer, disk: Path) -> None:
    peer.start("ta-1", program())
    pid = peer.until(m.ContainerStarted).pid
    peer.entered()
    (agent,) = children_of(pid)
    fill(disk)
    peer.kill_worker()
    os.kill(agent, 11)
    gone(pid)
    peer.start_worker()
    peer.worker.send(m.Adopt([["ta-1", 0]]))
    assert peer.ended() == m.ContainerEnded("ta-1", "killed by signal 11 (SIGSEGV)", True)
