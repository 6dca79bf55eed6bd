"""Groups of state directories that have gone: who may remove them, and whose must stay."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from greenroom.worker.cgroups import ROOT, Cgroups, Layout, LeftGroups, read_layout, runs_with_groups
from greenroom.worker.group_owner import ABANDONED, NOTE, is_nobodys, note_of, note_owner
from greenroom.worker.processes import Identity, identify
from greenroom.worker.sweep import sweep
from tests.conftest import Need, groups_of, wait_for
from tests.worker.peer import Peer

LONG_AGO = time.time() - ABANDONED - 60
ENDED = Identity(os.getpid(), 1)
"""Of another process that once had this number."""
GONE = Path("/nonexistent/greenroom-of-a-test")


def changed(note: bytes, **fields: object) -> bytes:
    names = ("home", "namespace", "pid", "started", "at")
    return json.dumps([fields.get(name, value) for name, value in zip(names, json.loads(note), strict=True)]).encode()


NOTES: dict[str, tuple[Callable[[], bytes], bool]] = {
    "gone": (lambda: note_of(GONE, ENDED, LONG_AGO), True),
    "home": (lambda: note_of(Path("/"), ENDED, LONG_AGO), False),
    "worker": (lambda: note_of(GONE, identify(os.getpid()) or ENDED, LONG_AGO), False),
    "young": (lambda: note_of(GONE, ENDED, time.time()), False),
    "elsewhere": (lambda: changed(note_of(GONE, ENDED, LONG_AGO), namespace=1), False),
    "nonsense": (lambda: b"{}", False),
    "number": (lambda: b"1", False),
}


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """A directory that can have notes, as groups can."""
    try:
        os.setxattr(tmp_path, NOTE, b"")
    except OSError as error:
        pytest.skip(f"no note can be written on {tmp_path}: {error.strerror}")
    return tmp_path


@pytest.mark.parametrize(("note", "nobodys"), NOTES.values(), ids=NOTES.keys())
def test_whose_they_are(noted: Path, note: Callable[[], bytes], nobodys: bool) -> None:
    os.setxattr(noted, NOTE, note())
    assert is_nobodys(noted) is nobodys


def test_without_a_note_they_are_somebodys(tmp_path: Path) -> None:
    assert not is_nobodys(tmp_path)
    assert not is_nobodys(tmp_path / "nowhere")


def test_a_note_names_home_and_worker(noted: Path) -> None:
    note_owner(noted, noted)
    home, _, pid, _, at = json.loads(os.getxattr(noted, NOTE))
    assert (home, pid) == (str(noted), os.getpid())
    assert abs(time.time() - at) < 3600
    note_owner(noted / "nowhere", noted)


@pytest.mark.parametrize("version", [1, 2])
def test_all_of_what_is_empty_goes(noted: Path, version: int) -> None:
    """On directories: runc makes groups in hierarchies that limits don't need."""
    names = ("cpu", "memory", "pids") if version == 1 else ("unified",)
    hierarchies = [noted / name for name in names]
    other = [noted / "devices"] if version == 1 else []
    used = hierarchies if version == 1 else hierarchies * 3
    directories = dict(zip(("cpu", "memory", "pids"), map(str, used), strict=True))
    layout = Layout(version, directories, [str(path) for path in (*hierarchies, *other)])
    for hierarchy in (*hierarchies, *other):
        for name in ("a-run", "another"):
            (hierarchy / ROOT / name / "ta-1").mkdir(parents=True)
        if hierarchy in hierarchies:
            os.setxattr(hierarchy / ROOT / "a-run", NOTE, note_of(GONE, ENDED, LONG_AGO))
    (hierarchies[-1] / ROOT / "a-run" / "ta-1" / "in use").touch()
    left = LeftGroups(layout, "a-run")
    assert left.are_nobodys() and not LeftGroups(layout, "another").are_nobodys()
    left.remove_empty()
    assert runs_with_groups(layout) == {"a-run", "another"}
    assert left.are_nobodys(), "what is left of them is still known"
    (hierarchies[-1] / ROOT / "a-run" / "ta-1" / "in use").unlink()
    left.remove_empty()
    assert runs_with_groups(layout) == {"another"}
    assert all((path / ROOT / "another" / "ta-1").is_dir() for path in (*hierarchies, *other))


@pytest.fixture
def mine() -> Iterator[Callable[..., str]]:
    """Makes real groups of another home, of this test's own; the name of their run."""
    Need.runtime("crun")
    layout = read_layout(Path("/proc/self/mountinfo").read_text())
    made: list[str] = []

    def make(kind: str, note: bytes | None) -> str:
        name = f"{'1' * 12}-{os.getpid()}-{kind}"
        made.append(name)
        Cgroups(layout, name, 9).group("ta-1").acquire()
        for hierarchy in layout.hierarchies:
            if note is not None:
                os.setxattr(Path(hierarchy, ROOT, name), NOTE, note)
        return name

    yield make
    for name in made:
        LeftGroups(layout, name).remove()


def test_a_sweep_removes_nobodys_groups_and_no_others(home: Path, mine: Callable[..., str]) -> None:
    layout = read_layout(Path("/proc/self/mountinfo").read_text())
    names = {kind: mine(kind, note()) for kind, (note, _) in NOTES.items()}
    names["bare"] = mine("bare", None)
    names["used"] = mine("used", NOTES["gone"][0]())
    group = Cgroups(layout, names["used"], 9).group("ta-1")
    joins = "; ".join(f"echo 0 > {path}" for path in group.joins())
    with subprocess.Popen(["sh", "-c", f"{joins}; exec sleep 1000"]) as process:
        wait_for(lambda: group.processes() == [process.pid])
        sweep(home, 40.0)
        assert process.poll() is None
        there = runs_with_groups(layout)
        assert {kind for kind, name in names.items() if name not in there} == {"gone"}
        assert all(Path(path).exists() for path in group.joins())
        process.kill()
        process.wait(10)
    wait_for(lambda: not group.processes())
    sweep(home, 40.0)
    assert names["used"] not in runs_with_groups(layout)


def test_a_workers_groups_say_whose_they_are(contained: Peer) -> None:
    groups = [group for group in groups_of(contained.home) if NOTE in os.listxattr(group)]
    notes = [json.loads(os.getxattr(group, NOTE)) for group in groups]
    assert {(note[0], note[2]) for note in notes} == {(str(contained.home), contained.pid)}
