"""Clearing up after servers that died: what goes, and what must be left alone."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from greenroom.sdk.server_process import STANDING, Prepared
from greenroom.worker.cgroups import ROOT, LeftGroups, home_mark, read_layout, runs_with_groups
from greenroom.worker.processes import CONTAINER, RUN, marked_processes
from greenroom.worker.removal import remove_run
from greenroom.worker.sweep import drop_old_logs, sweep
from tests.conftest import Need, assert_nothing_left, wait_for
from tests.worker.peer import SETTINGS, Peer, program

PATIENCE = 40.0
LONG_AGO = (1e9, 1e9)


def make_run(home: Path, name: str, *, token: bool = True) -> Path:
    run = home / "run" / name
    (run / "containers" / "ta-1").mkdir(parents=True)
    (run / "lock").touch()
    if token:
        (run / "token").touch()
    return run


@pytest.fixture
def straggler() -> Iterator:
    """Starts a process that is marked as a container's of a run."""
    made: list[subprocess.Popen] = []

    def start(run: Path) -> subprocess.Popen:
        made.append(
            subprocess.Popen(["sleep", "1000"], env={RUN: str(run), CONTAINER: "ta-1", "PATH": os.environ["PATH"]})
        )
        wait_for(lambda: marked_processes({RUN: str(run)}))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


def test_nothing_of_the_next_server_is_removed_with_a_run(home: Path) -> None:
    for number in range(50):
        run = make_run(home, STANDING)
        for each in range(30):
            (run / "containers" / str(each)).mkdir()
        with ExitStack() as opened, ThreadPoolExecutor(1) as pool:
            sweeping = pool.submit(sweep, home, PATIENCE)
            Prepared(home, run, "sv-1", f"tk-{number}").open(opened)
            sweeping.result()
            assert (run / "token").read_text() == f"tk-{number}"
        remove_run(run)


def test_what_another_took_away_meanwhile_and_the_next_server_made_anew_is_left_alone(home: Path, monkeypatch) -> None:
    run, flock = make_run(home, STANDING), fcntl.flock
    with ExitStack() as opened:

        def made_anew(fd: int, how: int) -> None:
            monkeypatch.undo()
            remove_run(run)
            Prepared(home, run, "sv-1", "tk-1").open(opened)
            flock(fd, how)

        monkeypatch.setattr(fcntl, "flock", made_anew)
        assert sweep(home, PATIENCE) == []
        assert (run / "token").read_text() == "tk-1"


def test_a_dead_servers_run_is_removed(home: Path) -> None:
    make_run(home, "a")
    make_run(home, "b")
    assert sorted(sweep(home, PATIENCE)) == ["a", "b"]
    assert not list((home / "run").iterdir())


@pytest.mark.parametrize("ledger", ["ended/ta-1", "containers/ta-1/ledger"])
def test_what_a_dead_servers_containers_had_begun_is_kept_for_the_next_one_to_come(home: Path, ledger: str) -> None:
    file = make_run(home, "a") / ledger
    file.parent.mkdir(exist_ok=True)
    file.touch()
    assert sweep(home, PATIENCE) == []
    assert file.exists()
    os.utime(file, LONG_AGO)
    assert sweep(home, PATIENCE) == ["a"]


def test_a_live_servers_run_is_left_alone(home: Path, straggler) -> None:
    run = make_run(home, "a")
    process = straggler(run)
    with open(run / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(run, LONG_AGO)
        assert sweep(home, 0) == []
    assert run.exists() and process.poll() is None


def test_a_run_that_is_being_made_is_left_alone(home: Path) -> None:
    run = make_run(home, "a", token=False)
    bare = home / "run" / "b"
    bare.mkdir()
    assert sweep(home, PATIENCE) == []
    os.utime(run, LONG_AGO)
    os.utime(bare, LONG_AGO)
    assert sorted(sweep(home, PATIENCE)) == ["a", "b"]


def test_containers_in_their_exit_hooks_have_time(home: Path, straggler) -> None:
    run = make_run(home, "a")
    process = straggler(run)
    other = straggler(home / "run" / "other")
    assert sweep(home, PATIENCE) == []
    assert process.poll() is None
    os.utime(run / "stale", LONG_AGO)
    assert sweep(home, PATIENCE) == ["a"]
    assert process.wait(10) == -9
    assert other.poll() is None


def test_nothing_there_is_fine(home: Path) -> None:
    assert sweep(home, PATIENCE) == []


def test_a_worker_finds_two_thousand_leftovers(home: Path) -> None:
    """Of runs that died: directories and control groups. It takes them away, and nothing of anybody else's."""
    Need.runtime("crun")
    layout = read_layout(Path("/proc/self/mountinfo").read_text())
    mine = [f"{home_mark(home)}-{number:04}" for number in range(2000)]
    other = f"{'0' * 12}-{os.getpid()}"
    groups = [Path(hierarchy, ROOT, name) for hierarchy in layout.hierarchies for name in (*mine, other)]
    for group in groups:
        (group / "ta-1").mkdir(parents=True)
    for number in range(2000):
        make_run(home, f"{number:04}")
    try:
        peer = Peer(home, SETTINGS._replace(sandbox="oci"))
        wait_for(lambda: [run.name for run in (home / "run").iterdir()] == ["test"], what="run directories go")
        wait_for(lambda: not set(mine) & runs_with_groups(layout), what="control groups go")
        assert other in runs_with_groups(layout)
        peer.start("ta-1", program())
        peer.entered().stop()
        assert peer.ended().reason == "", "and meanwhile it works"
        peer.close()
        assert_nothing_left(home)
    finally:
        LeftGroups(layout, other).remove()
        for name in set(mine) & runs_with_groups(layout):
            LeftGroups(layout, name).remove()


def test_what_the_latest_containers_printed_is_kept(tmp_path: Path) -> None:
    for number in range(5):
        log = tmp_path / f"ta-{number}.log"
        log.write_bytes(bytes(4096))
        os.utime(log, (number, number))
    drop_old_logs(tmp_path, most=4, room=1 << 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"ta-{n}.log" for n in (1, 2, 3, 4)]
    drop_old_logs(tmp_path, most=4, room=2 * 4096)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ta-3.log", "ta-4.log"]
