"""Deployed versions as they are kept."""

import pytest

from greenroom.model.errors import NotFoundError
from greenroom.server.store import schedules
from greenroom.server.store import versions as v
from greenroom.wire.payload import in_memory
from tests.server.store.conftest import Store

S = v.VersionState


def image(image_id: str, *payloads: bytes) -> v.ImageRow:
    return v.ImageRow(image_id, "app.f", {"steps": []}, list(payloads))


def deploy(store: Store, app: str, app_id: str, *images: v.ImageRow, state: S = S.CURRENT) -> int:
    functions = [
        v.FunctionRow(f"{app_id}-z", {"name": "z"}, b""),
        v.FunctionRow(f"{app_id}-a", {"n": [1]}, b"d" * 9000),
    ]
    return store.write(v.add_version, app, app_id, 7.5, functions, images, state)


def test_a_version_is_kept_whole(store: Store) -> None:
    images = [image("im-1", b"x", b"", b"y" * 2_000_000), image("im-2")]
    assert deploy(store, "shop", "ap-1", *images) == 1
    assert store.read(v.current, "shop") == v.VersionRow("shop", 1, "ap-1", 7.5, S.CURRENT)
    assert store.read(v.functions_of, "ap-1") == [
        v.FunctionRow("ap-1-z", {"name": "z"}, b""),
        v.FunctionRow("ap-1-a", {"n": [1]}, b"d" * 9000),
    ]
    first, second = store.read(v.images_of, "ap-1")
    assert [in_memory(p) for p in first.payloads] == images[0].payloads and first[:3] == images[0][:3]
    assert second == images[1]
    assert store.read(v.current, "other") is None


def test_how_a_version_was_to_take_over_is_kept(store: Store) -> None:
    store.write(v.add_version, "shop", "ap-1", 7.5, [], [], S.CURRENT, "recreate")
    assert [row.strategy for row in store.read(v.all_current)] == ["recreate"]


def test_one_version_of_an_app_serves(store: Store) -> None:
    assert [deploy(store, "shop", f"ap-{n}") for n in (1, 2)] == [1, 2]
    assert deploy(store, "bar", "ap-3") == 1
    assert deploy(store, "shop", "ap-4", state=S.PENDING) == 3
    assert deploy(store, "shop", "ap-2") == 2, "said again"
    assert [row.app_id for row in store.read(v.all_current)] == ["ap-3", "ap-2"]
    store.write(v.set_state, "ap-4", S.FAILED)
    store.write(v.set_state, "ap-1", S.CURRENT)
    states = [(row.number, row.state) for row in store.read(v.history, "shop")]
    assert states == [(3, S.FAILED), (2, S.REPLACED), (1, S.CURRENT)]
    store.write(v.set_state, "ap-1", S.STOPPED)
    assert [row.app for row in store.read(v.all_current)] == ["bar"]
    with pytest.raises(NotFoundError, match="no version ap-9"):
        store.write(v.set_state, "ap-9", S.STOPPED)


def test_one_that_is_not_to_serve_after_all_gives_way_to_the_one_before(store: Store) -> None:
    for number in (1, 2, 3):
        deploy(store, "shop", f"ap-{number}")
    store.write(v.take_back, "ap-3", "ap-2")
    states = [(row.number, row.state) for row in store.read(v.history, "shop")]
    assert states == [(3, S.FAILED), (2, S.CURRENT), (1, S.REPLACED)]
    deploy(store, "shop", "ap-4", state=S.PENDING)
    store.write(v.set_state, "ap-2", S.STOPPED)
    store.write(v.take_back, "ap-4", "ap-2")
    assert store.read(v.all_current) == [], "the one before was stopped meanwhile"
    deploy(store, "other", "ap-5", state=S.PENDING)
    store.write(v.take_back, "ap-5", "")
    assert store.read(v.all_current) == []


def test_old_versions_go_with_what_only_they_had(store: Store) -> None:
    shared = image("im-shared", b"s" * 5000)
    for number in range(1, 6):
        deploy(store, "shop", f"ap-{number}", shared, image(f"im-{number}", b"o" * 5000))
    store.write(v.set_state, "ap-1", S.CURRENT)
    assert store.write(v.forget_beyond, "shop", 2) == 2
    assert [row.number for row in store.read(v.history, "shop")] == [5, 4, 1]
    assert [row.id for row in store.read(v.images_of, "ap-1")] == ["im-1", "im-shared"]
    assert store.sql("SELECT count(*) FROM images") == [(4,)]
    assert store.sql("SELECT count(*) FROM functions") == [(6,)]
    assert store.sql("SELECT count(*) FROM parts") == [(4 + 3,)]
    assert deploy(store, "shop", "ap-6") == 6


def test_an_app_that_goes_on_without_its_program_is_no_version(store: Store) -> None:
    functions = [v.FunctionRow("ap-1/f", {"name": "f"}, b"d" * 9000)]
    shared = image("im-shared", b"s" * 5000)
    deploy(store, "shop", "ap-9", shared)
    for app_id, at in (("ap-2", 5.0), ("ap-1", 4.0), ("ap-1", 6.0)):
        store.write(v.add_detached, "shop", app_id, at, functions, [shared, image(f"im-{app_id}", b"o" * 5000)])
    assert [(row.app, row.app_id, row.deployed_at, row.state) for row in store.read(v.all_detached)] == [
        ("shop", "ap-1", 4.0, S.DETACHED),
        ("shop", "ap-2", 5.0, S.DETACHED),
    ]
    assert store.read(v.functions_of, "ap-1") == functions
    assert [row.id for row in store.read(v.images_of, "ap-1")] == ["im-ap-1", "im-shared"]
    assert [row.app_id for row in store.read(v.history, "shop")] == ["ap-9"]
    assert store.read(v.history, "ap-1") == []
    assert [row.app_id for row in store.read(v.all_current)] == ["ap-9"]
    assert deploy(store, "shop", "ap-10") == 2
    for _ in range(2):
        store.write(v.forget_detached, "ap-1")
    assert [row.app_id for row in store.read(v.all_detached)] == ["ap-2"]
    assert store.sql("SELECT id FROM images ORDER BY id") == [("im-ap-2",), ("im-shared",)]
    store.write(v.forget_detached, "ap-2")
    assert store.sql("SELECT (SELECT count(*) FROM detached), (SELECT count(*) FROM functions)") == [(0, 4)]


def test_an_image_that_is_there_has_what_it_is_kept_with_now(store: Store) -> None:
    deploy(store, "shop", "ap-1", v.ImageRow("im-1", "app.f", {"sealed": "old"}, [b"x", b"y" * 9000]))
    deploy(store, "shop", "ap-2", v.ImageRow("im-1", "app.g", {"sealed": "new"}, [b"x", b"y" * 9000]))
    (kept,) = store.read(v.images_of, "ap-1")
    assert (kept.name, kept.spec, [in_memory(p) for p in kept.payloads]) == (
        "app.f", {"sealed": "new"}, [b"x", b"y" * 9000]
    )  # fmt: skip


def test_schedules(store: Store) -> None:
    store.write(schedules.note_fired, "fu-1", 10.0)
    store.write(schedules.note_fired, "fu-1", 8.0)
    store.write(schedules.note_fired, "fu-2", 3.0)
    assert store.read(schedules.last_fired) == {"fu-1": 10.0, "fu-2": 3.0}
    store.write(schedules.forget_schedule, "fu-1")
    assert store.read(schedules.last_fired) == {"fu-2": 3.0}
