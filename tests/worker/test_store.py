"""Layers on disk: whole or not there, whoever is killed or at work beside. Others are real processes."""

import json
import os
import shutil
from pathlib import Path

import pytest

from greenroom.worker.images.store import ImageRecord, Layers
from greenroom.worker.images.tree import measure
from tests.worker.shelf import Other, begun, key, put, record


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path / "layers")


def hidden(layers: Layers) -> list[str]:
    return [path.name for path in layers.directory.iterdir() if path.name.startswith((".new-", ".old-"))]


def image(number: int, *steps: int, made: float = 1.0) -> ImageRecord:
    described = [{"text": f"step {step}", "where": "app.py:1", "layer": key(step)} for step in steps]
    return ImageRecord(key(number), f"app.f{number}", "oci", "Image.host()", described, [], made)


def test_a_layer_is_what_its_maker_wrote(layers: Layers) -> None:
    assert (layers.all(), layers.find(key(1)), layers.use(key(1))) == ([], None, False)
    kept = put(layers, 1, text="four")
    assert kept.tree == measure(layers.files(key(1)))
    assert (kept.tree.size, kept.tree.entries) == (4, 1)
    assert layers.find(key(1)) == kept
    assert sorted(os.listdir(layers.directory / key(1))) == ["fs", "layer.json"]  # nothing of overlayfs's own
    assert not hidden(layers)


def test_a_layer_that_is_not_to_be_leaves_nothing(layers: Layers) -> None:
    draft = begun(layers)
    draft.drop()
    draft.drop()
    assert not hidden(layers)
    assert layers.all() == []


def test_no_descriptor_stays_open(layers: Layers) -> None:
    put(layers, 1)
    before = os.listdir("/proc/self/fd")
    put(layers, 1)
    put(layers, 2)
    begun(layers).drop()
    for _ in range(2):
        assert layers.use(key(1))
    for _ in range(2):
        layers.leave(key(1))
    assert not layers.use(key(3))
    assert layers.in_use(key(1)) is False
    lock = layers.lock(key(4))
    assert lock is not None
    os.close(lock)
    layers.sweep()
    assert os.listdir("/proc/self/fd") == before


def test_whoever_comes_second_uses_what_is_there(layers: Layers) -> None:
    put(layers, 1, text="first")
    put(layers, 1, text="second")
    assert (layers.files(key(1)) / "file").read_text() == "first"
    assert not hidden(layers)


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        "null",
        "{}",
        '{"key": 1}',
        json.dumps({**record(1)._asdict(), "more": 1}),
        json.dumps({**record(1)._asdict(), "tree": [1]}),
        json.dumps({**record(1)._asdict(), "below": None}),
        json.dumps({**record(1)._asdict(), "created": "now"}),
        json.dumps(record(2)._asdict()),
        None,
    ],
    ids=lambda text: str(text)[:20],
)
def test_a_damaged_record_is_no_layer_and_is_made_again(layers: Layers, damage: str | None) -> None:
    put(layers, 1, text="old")
    path = layers.directory / key(1) / "layer.json"
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage)
    assert (layers.find(key(1)), layers.all(), layers.use(key(1))) == (None, [], False)
    assert layers.damaged() == [key(1)]
    put(layers, 1, text="new")
    assert layers.use(key(1))
    assert (layers.files(key(1)) / "file").read_text() == "new"
    assert not hidden(layers)
    assert layers.damaged() == []


def test_a_record_without_files_is_no_layer(layers: Layers) -> None:
    put(layers, 1)
    shutil.rmtree(layers.files(key(1)))
    assert not layers.use(key(1))
    layers.sweep()
    assert not (layers.directory / key(1)).exists()


def test_a_sweep_removes_what_has_no_record_and_nothing_else(layers: Layers) -> None:
    put(layers, 1)
    put(layers, 2)
    (layers.directory / key(2) / "layer.json").write_text("{")
    (layers.directory / key(3) / "fs").mkdir(parents=True)
    (layers.directory / "notes").mkdir()
    (layers.directory / key(4)).write_text("a file")
    layers.sweep()
    assert sorted(path.name for path in layers.directory.iterdir()) == sorted([key(1), "notes"])


def test_what_a_killed_maker_left_is_swept_and_what_a_live_one_makes_is_not(layers: Layers) -> None:
    with Other(layers.directory, "draft = begun(layers)"):
        killed = Other(layers.directory, "draft = begun(layers)")
        assert len(hidden(layers)) == 2
        layers.sweep()
        assert len(hidden(layers)) == 2
        killed.kill()
        layers.sweep()
        (left,) = hidden(layers)
        # However old it is: its maker lives.
        os.utime(layers.directory / left, (0, 0))
        layers.sweep()
        assert hidden(layers) == [left]
    layers.sweep()
    assert not hidden(layers)


def test_what_a_killed_remover_left_is_swept(layers: Layers) -> None:
    put(layers, 1)
    Other(layers.directory, "layers.set_aside(key(1))").kill()
    assert len(hidden(layers)) == 1
    assert not layers.use(key(1))
    layers.sweep()
    assert not hidden(layers)


def test_sweeps_beside_makers_cost_no_layer(layers: Layers) -> None:
    """One process makes layers as fast as it can, another sweeps as fast as it can."""
    layers.directory.mkdir()
    sweeping = Other(layers.directory, "import threading\ndef sweep():\n    while True: layers.sweep()\n"
                     "threading.Thread(target=sweep, daemon=True).start()")  # fmt: skip
    try:
        for number in range(150):
            put(layers, number)
            lock = layers.lock(key(number + 1))
            assert lock is not None
            os.close(lock)
    finally:
        sweeping.kill()
    assert [layer.key for layer in layers.all()] == [key(number) for number in range(150)]


def test_one_makes_a_layer_and_the_other_waits_for_its_end(layers: Layers) -> None:
    with Other(layers.directory, "lock = layers.lock(key(1))"):
        assert layers.lock(key(1)) is None
        other = layers.lock(key(2))
        assert other is not None
        os.close(other)
        layers.sweep()
        assert layers.lock(key(1)) is None  # the lock of a layer that isn't there yet stays, while somebody has it
    lock = layers.lock(key(1))
    assert lock is not None
    os.close(lock)


def test_the_lock_of_one_who_was_killed_is_free(layers: Layers) -> None:
    Other(layers.directory, "lock = layers.lock(key(1)); begun(layers)").kill()
    lock = layers.lock(key(1))
    assert lock is not None
    os.close(lock)


def test_locks_of_layers_that_were_not_made_are_swept_once_they_are_old(layers: Layers) -> None:
    """A sweep takes the lock for a moment: whoever was about to take it would say that another makes the layer."""
    (layers.directory / ".locks").mkdir(parents=True)
    locks = {name: layers.directory / ".locks" / name for name in (key(1), key(2))}
    for path in locks.values():
        path.touch()
        os.utime(path, (0, 0))
    lock = layers.lock(key(1))
    assert lock is not None
    os.close(lock)
    layers.sweep()
    assert os.listdir(layers.directory / ".locks") == [key(1)], "which was in use just now"
    os.utime(locks[key(1)], (0, 0))
    layers.sweep()
    assert os.listdir(layers.directory / ".locks") == []


def test_a_layer_in_use_stays(layers: Layers) -> None:
    put(layers, 1)
    with Other(layers.directory, "assert layers.use(key(1))"):
        assert layers.in_use(key(1))
        assert layers.set_aside(key(1)) is None
        assert layers.use(key(1))  # any number may
        layers.leave(key(1))
    assert not layers.in_use(key(1))
    assert layers.set_aside(key(1)) is not None
    assert layers.set_aside(key(1)) is None
    assert not layers.use(key(1))


def test_uses_are_counted(layers: Layers) -> None:
    put(layers, 1)
    other = Layers(layers.directory)
    for _ in range(3):
        assert layers.use(key(1))
    for _ in range(2):
        layers.leave(key(1))
        assert other.set_aside(key(1)) is None
    layers.leave(key(1))
    assert other.set_aside(key(1)) is not None


def test_a_use_is_noted_when_it_begins_and_when_it_ends(layers: Layers) -> None:
    put(layers, 1)
    path = layers.directory / key(1) / "layer.json"
    for act in (lambda: layers.use(key(1)), lambda: layers.leave(key(1))):
        os.utime(path, (1, 1))
        act()
        assert layers.used_at(key(1)) > 1


def test_a_layer_that_was_used_meanwhile_stays(layers: Layers) -> None:
    put(layers, 1)
    assert layers.set_aside(key(1), unused_since=layers.used_at(key(1)) - 1) is None
    assert layers.set_aside(key(1), unused_since=layers.used_at(key(1))) is not None


def test_a_store_that_is_removed_under_its_users(layers: Layers) -> None:
    put(layers, 1)
    assert layers.use(key(1))
    draft = begun(layers)
    shutil.rmtree(layers.directory)
    assert layers.all() == []
    assert not Layers(layers.directory).use(key(1))
    layers.leave(key(1))
    with pytest.raises(OSError):
        draft.keep(layers, record(2))
    draft.drop()
    layers.sweep()
    put(layers, 2)
    assert layers.use(key(2))


def test_images_whose_layers_are_all_there_the_latest_first(layers: Layers) -> None:
    for number in (1, 2, 3):
        put(layers, number)
    layers.note_image(image(11, 1, 2, made=5.0))
    layers.note_image(image(12, 1, 3, made=7.0))
    layers.note_image(image(13, made=6.0))
    assert [found.name for found in layers.images()] == ["app.f12", "app.f13", "app.f11"]
    assert layers.set_aside(key(3)) is not None
    assert [found.name for found in layers.images()] == ["app.f13", "app.f11"]
    put(layers, 3)
    assert [found.name for found in layers.images()] == ["app.f13", "app.f11"]  # nobody has asked for it since


@pytest.mark.parametrize("damage", ["", "{", "[]", "3", '{"key": "x"}', "steps", "made"])
def test_a_damaged_record_of_an_image_hides_no_other(layers: Layers, damage: str) -> None:
    put(layers, 1)
    layers.note_image(image(11, 1))
    layers.note_image(image(12, 1))
    if damage in ("steps", "made"):
        damage = json.dumps({**image(11, 1)._asdict(), damage: [{"text": "x"}]})
    (layers.directory / ".images" / f"{key(11)}.json").write_text(damage)
    assert [found.key for found in layers.images()] == [key(12)]


def test_an_image_that_can_not_be_noted_is_there_all_the_same(layers: Layers) -> None:
    layers.directory.mkdir()
    (layers.directory / ".images").write_text("no directory")
    layers.note_image(image(11))
    assert layers.images() == []
