"""What of several directories is shown where."""

from pathlib import Path

import pytest

from greenroom.worker.merging import directory_in, each_of, merge


@pytest.fixture
def made(tmp_path):
    """A directory of the given files, which have their directory's name in them; a name that ends in ``/`` is an empty one."""

    def make(name, *files):
        for file in files:
            path = tmp_path / name / file
            (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not file.endswith("/"):
                path.write_text(name)
        return str(tmp_path / name)

    return make


def shown(tmp_path, wanted, has=()):
    return {path: str(Path(source).relative_to(tmp_path)) for source, path in merge(wanted, lambda path: path in has)}


def test_what_is_alone_is_shown_whole(tmp_path, made):
    a, b = made("a", "x", "in/y"), made("b", "z")
    assert shown(tmp_path, [(a, "/root/a"), (b, "./b")]) == {"root/a": "a", "b": "b"}


def test_what_the_image_has_there_stays(tmp_path, made):
    a = made("a", "x", "in/y", "new/z")
    assert shown(tmp_path, [(a, "root")], has={"root", "root/in"}) == {
        "root/in/y": "a/in/y", "root/new": "a/new", "root/x": "a/x",
    }  # fmt: skip


def test_two_in_one_place_are_both_seen_and_the_later_one_over_the_earlier(tmp_path, made):
    a, b = made("a", "x", "in/y", "in/z"), made("b", "x", "in/z", "in/deep/w")
    assert shown(tmp_path, [(a, "d"), (b, "d")]) == {
        "d/in/deep": "b/in/deep", "d/in/y": "a/in/y", "d/in/z": "b/in/z", "d/x": "b/x",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["d/in/f", "d/in/new/f", "d/in/y/f"])
def test_what_comes_to_lie_inside_of_another_opens_it(tmp_path, made, path):
    a, b = made("a", "x", "in/y"), made("b", "f")
    expected = {"d/x": "a/x", path: "b/f", **({"d/in/y": "a/in/y"} if "y" not in path else {})}
    assert shown(tmp_path, [(a, "d"), (f"{b}/f", path)]) == expected


def test_a_file_and_a_directory_hide_each_other(tmp_path, made):
    a, b = made("a", "x"), made("b", "f")
    assert shown(tmp_path, [(a, "d"), (f"{b}/f", "d")]) == {"d": "b/f"}
    assert shown(tmp_path, [(f"{b}/f", "d"), (a, "d")], has={"d"}) == {"d/x": "a/x"}


def test_the_root_itself(tmp_path, made):
    a = made("a", "etc/x", "new/y", "z")
    for root in ("/", "."):
        assert shown(tmp_path, [(a, root)], has={"etc"}) == {"etc/x": "a/etc/x", "new": "a/new", "z": "a/z"}


def test_empty_directories(tmp_path, made):
    a, b = made("a", "none/"), made("b", "none/x")
    assert shown(tmp_path, [(a, "d")]) == {"d": "a"}
    assert shown(tmp_path, [(a, "d")], has={"d"}) == {"d/none": "a/none"}
    assert shown(tmp_path, [(a, "d"), (a, "d")], has={"d", "d/none"}) == {}
    assert shown(tmp_path, [(a, "d"), (b, "d")]) == {"d/none/x": "b/none/x"}
    assert shown(tmp_path, [(b, "d"), (a, "d")]) == {"d/none": "b/none"}


def test_each_by_itself(tmp_path, made):
    a = made("a", "x", "in/y")
    assert shown(tmp_path, each_of(a, "/root")) == {"root/in": "a/in", "root/x": "a/x"}


def test_no_link_leads_to_a_directory(tmp_path, made):
    root = Path(made("a", "in/y"))
    (root / "link").symlink_to("in")
    assert directory_in(root, "in") is not None
    for path in ("link", "link/y", "in/y", "none"):
        assert directory_in(root, path) is None
