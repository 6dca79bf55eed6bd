"""Removing layers: never one in use or below another that stays, and what is said to be free is free."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.worker.images.holding import NOTE, Holding, noted_layers
from greenroom.worker.images.prune import prune, removable
from greenroom.worker.images.store import ImageRecord, Layers
from greenroom.worker.images.tree import room
from tests.worker.shelf import Other, aged, key, put, record

DAY = 86400.0


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path / "layers")


def keys(found) -> list[int]:
    return [int(layer.key, 16) for layer in found]


@pytest.mark.parametrize(
    ("below", "old", "removed"),
    [
        ({}, [], []),
        ({1: []}, [], []),
        ({1: []}, [1], [1]),
        ({1: [], 2: [1]}, [1], []),
        ({1: [], 2: [1]}, [2], [2]),
        ({1: [], 2: [1]}, [1, 2], [2, 1]),
        ({1: [], 2: [1], 3: [1, 2]}, [1, 2, 3], [3, 2, 1]),
        ({1: [], 2: [1], 3: [1, 2]}, [1, 3], [3]),
        ({1: [], 2: [1], 3: [1]}, [1, 2], [2]),
        ({1: [], 2: [1], 3: [1], 4: []}, [1, 2, 3, 4], [2, 3, 1, 4]),
        ({2: [1]}, [2], [2]),  # what it stood on has gone
    ],
)
def test_what_can_go(below: dict[int, list[int]], old: list[int], removed: list[int]) -> None:
    layers = [record(number, under) for number, under in below.items()]
    assert keys(removable(layers, {key(number) for number in old})) == removed


@st.composite
def forests(draw) -> dict[int, list[int]]:
    """Each layer on one that is there, or on nothing."""
    below: dict[int, list[int]] = {}
    for number in range(draw(st.integers(0, 12))):
        under = draw(st.sampled_from([None, *below]))
        below[number] = [] if under is None else [*below[under], under]
    return below


@given(forests(), st.sets(st.integers(0, 12)))
def test_no_layer_goes_before_what_stands_on_it(below: dict[int, list[int]], old: set[int]) -> None:
    layers = [record(number, under) for number, under in below.items()]
    gone = keys(removable(layers, {key(number) for number in old}))
    assert set(gone) <= old & below.keys()
    left = dict(below)
    for number in gone:  # killed after any of them, each that is left has all that it stands on
        del left[number]
        assert all(under in left for unders in left.values() for under in unders)
    for number in old & left.keys():  # no more is kept than must be
        assert any(number in left[other] for other in left.keys() - old)


def test_layers_that_were_long_unused_go_and_others_stay(layers: Layers) -> None:
    put(layers, 1)
    put(layers, 2, [1])
    put(layers, 3, [1])
    for number, days in ((1, 9), (2, 8), (3, 1)):
        aged(layers, number, days * DAY)
    assert keys(prune(layers, 7 * DAY).layers) == [2]
    assert keys(layers.all()) == [1, 3]
    assert keys(prune(layers, 0).layers) == [3, 1]


def test_a_trial_removes_nothing_and_says_the_same(layers: Layers) -> None:
    put(layers, 1, text="x" * 100_000)
    put(layers, 2, [1])
    trial = prune(layers, 0, trial=True)
    assert keys(layers.all()) == [1, 2]
    done = prune(layers, 0)
    assert (keys(trial.layers), trial.size, trial.kept) == (keys(done.layers), done.size, done.kept)


def test_images_without_layers_of_their_own_are_forgotten(layers: Layers) -> None:
    """Nothing but the record is there of them."""
    put(layers, 1)
    for number, below, age in ((2, [], 2 * DAY), (3, [], 0), (4, [1], 2 * DAY)):
        steps = [{"text": "", "where": "", "layer": key(under)} for under in below]
        layers.note_image(ImageRecord(key(number), "a.f", "oci", "", steps, [], time.time() - age))
    prune(layers, DAY, trial=True)
    prune(layers, DAY, forced_only=True)
    assert sorted(int(image.key, 16) for image in layers.images()) == [2, 3, 4]
    prune(layers, DAY)
    assert sorted(int(image.key, 16) for image in layers.images()) == [3, 4]


def test_an_empty_store(layers: Layers) -> None:
    done = prune(layers, 0)
    assert (done.layers, done.size, done.kept) == ([], 0, 0)
    assert not layers.directory.exists()


def test_what_is_said_to_be_free_is_what_the_disk_gave(layers: Layers) -> None:
    draft = layers.draft()
    (draft.path / "fs").mkdir()
    with open(draft.path / "fs" / "holes", "wb") as file:
        file.truncate(1 << 40)
        file.write(b"x" * 5000)
    os.link(draft.path / "fs" / "holes", draft.path / "fs" / "same")
    (draft.path / "log").write_bytes(b"x" * 50_000)
    draft.keep(layers, record(1))
    said = room(layers.directory / key(1))
    listed = subprocess.run(
        ["du", "--summarize", "--block-size=1", str(layers.directory / key(1))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said == int(listed.stdout.split()[0])
    assert prune(layers, 0).size == said
    assert os.listdir(layers.directory) == []


def test_a_layer_in_use_stays_with_all_that_it_stands_on(layers: Layers) -> None:
    put(layers, 1)
    put(layers, 2, [1])
    put(layers, 3, [1, 2])
    put(layers, 4)
    with Other(layers.directory, "assert layers.use(key(2))"):
        for trial in (True, False):
            done = prune(layers, 0, trial=trial)
            assert (keys(done.layers), done.kept) == ([3, 4], 2)
    assert keys(layers.all()) == [1, 2]
    assert keys(prune(layers, 0).layers) == [2, 1]


def test_layers_that_are_made_anew_each_time_go_with_what_stands_on_them(layers: Layers) -> None:
    put(layers, 1)
    put(layers, 2, [1], forced=True)
    put(layers, 3, [1, 2])
    put(layers, 4, [1])
    assert keys(prune(layers, 0, forced_only=True).layers) == [3, 2]
    assert keys(layers.all()) == [1, 4]


def test_a_killed_prune_leaves_whole_layers_and_the_next_one_finishes(layers: Layers) -> None:
    for number in range(5):
        put(layers, number, range(number))
    killed = "for number in (4, 3):\n    layers.set_aside(key(number))"
    Other(layers.directory, killed).kill()
    assert keys(layers.all()) == [0, 1, 2]
    assert all(layer.tree.size for layer in layers.all())
    prune(layers, 10 * DAY)
    assert not list(layers.directory.glob(".old-*"))
    assert keys(layers.all()) == [0, 1, 2]


def test_prunings_and_builds_at_once_leave_no_layer_without_what_it_stands_on(layers: Layers) -> None:
    """One process prunes all it can, as fast as it can; here each layer is put on those that are held."""
    layers.directory.mkdir()
    pruning = Other(layers.directory, "import threading\nfrom greenroom.worker.images.prune import prune\n"
                    "def work():\n    while True: prune(layers, 0)\n"
                    "threading.Thread(target=work, daemon=True).start()")  # fmt: skip
    try:
        for round in range(40):
            held: list[int] = []
            for number in range(round * 10, round * 10 + 3):
                while not layers.use(key(number)):
                    put(layers, number, held)
                held.append(number)
                there = {layer.key for layer in layers.all()}
                assert {key(n) for n in held} <= there
            for number in held:
                layers.leave(key(number))
    finally:
        pruning.kill()
    there = {layer.key for layer in layers.all()}
    assert all(set(layer.below) <= there for layer in layers.all())


# ---- containers ----


def container(home: Path, layers: Layers, *numbers: int) -> Holding:
    """A container's hold, in a directory like its own."""
    directory = home / "run" / "sv-1" / "containers" / "ta-1"
    directory.mkdir(parents=True)
    (home / "run" / "sv-1" / "lock").touch()
    holding = Holding(layers, [key(number) for number in numbers], directory)
    holding.acquire()
    return holding


def test_a_container_holds_its_layers(tmp_path: Path, layers: Layers) -> None:
    put(layers, 1)
    put(layers, 2)
    holding = container(tmp_path, layers, 1, 2)
    other = Layers(layers.directory)
    assert (keys(prune(other, 0).layers), prune(other, 0).kept) == ([], 2)
    holding.release()
    assert keys(prune(other, 0).layers) == [1, 2]


def test_a_container_whose_layer_has_gone_holds_nothing_and_says_why(tmp_path: Path, layers: Layers) -> None:
    put(layers, 1)
    with pytest.raises(OSError, match="removed since it was built"):
        container(tmp_path, layers, 1, 2)
    assert not list((tmp_path / "run").rglob(NOTE))
    assert keys(prune(layers, 0).layers) == [1]


HOLD = """
import fcntl
from greenroom.worker.images.holding import Holding
from greenroom.worker.scratch import Scratch
run = layers.directory.parent / "run" / "sv-1"
(run / "containers").mkdir(parents=True)
lock = os.open(run / "lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
scratch = Scratch(run / "containers", "ta-1", run)
scratch.acquire()
Holding(layers, [key(1)], scratch.directory).acquire()
"""


def test_a_container_whose_worker_died_holds_its_layers_while_its_server_lives(layers: Layers) -> None:
    put(layers, 1)
    server = Other(layers.directory, HOLD + "holding = layers._used.pop(key(1)); os.close(holding[0])")
    assert noted_layers(layers.directory.parent / "run") == {key(1)}
    assert layers.in_use(key(1))
    assert prune(layers, 0).kept == 1
    server.kill()
    assert not layers.in_use(key(1))
    assert keys(prune(layers, 0).layers) == [1]


def test_a_container_that_outlives_worker_and_server_holds_its_layers(layers: Layers) -> None:
    put(layers, 1)
    with Other(layers.directory, "") as supervisor:
        Other(layers.directory, HOLD + f"scratch.note_supervisor({supervisor.process.pid})").kill()
        assert layers.in_use(key(1))
        assert prune(layers, 0).kept == 1
    assert keys(prune(layers, 0).layers) == [1]


def test_notes_that_can_not_be_read_keep_nothing(tmp_path: Path, layers: Layers) -> None:
    put(layers, 1)
    (tmp_path / "run" / "sv-1" / "containers" / "ta-1").mkdir(parents=True)
    (tmp_path / "run" / "sv-1" / "containers" / "ta-1" / NOTE).write_text(key(1))  # its run has no lock: half removed
    assert keys(prune(layers, 0).layers) == [1]


def test_it_says_so_in_lines_of_json(tmp_path: Path, layers: Layers) -> None:
    put(layers, 1)
    shutil.copytree(layers.directory, tmp_path / "home" / "layers")
    command = [sys.executable, "-P", "-m", "greenroom.worker.images", str(tmp_path / "home"), "prune", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["layers"] == [key(1)]
