"""Files that are bound when a container starts: they come beside what is there, and change nobody else's."""

import os

import pytest

import greenroom
from tests.contract.test_images import real


@pytest.fixture
def made(tmp_path):
    """Directories of this machine's, whose files say which one they are in."""
    for name in ("one/same", "one/in/a", "two/same", "two/in/b", "two/in/deep/c"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name.partition("/")[0])
    return tmp_path


def contents(image, *paths):
    """What a container of that image reads there."""
    app = greenroom.App("t", image=image)

    @app.function(serialized=True)
    def read():
        found = []
        for path in paths:
            if os.path.isdir(path):
                found.append(sorted(os.listdir(path)))
            else:
                with open(path) as file:
                    found.append(file.read())
        return found

    with app.run():
        return read.remote()


def test_a_whole_working_directory(cluster, made):
    assert contents(greenroom.Image.host().add_local_dir(made / "one", "/root"), "same", "in/a") == ["one", "one"]


def test_what_a_step_has_written_there_stays(cluster, made):
    def write():
        os.makedirs("in/deep")
        for path in ("same", "written", "in/deep/own"):
            with open(path, "w") as file:
                file.write("layer")

    image = greenroom.Image.host().run_function(write).add_local_dir(made / "two", "/root")
    found = contents(image, "same", "written", "in/deep/own", "in/deep/c", "in")
    assert found == ["two", "layer", "layer", "two", ["b", "deep"]]


def test_what_a_step_has_copied_is_hidden_file_by_file(cluster, made):
    image = (
        greenroom.Image.host()
        .add_local_dir(made / "one", "/root/d", copy=True)
        .add_local_dir(made / "two", "/root/d")
        .add_local_file(made / "two" / "in" / "b", "/root/d/in/a")
    )
    assert contents(image, "d/same", "d/in/a", "d/in/b", "d/in") == ["two", "two", "two", ["a", "b", "deep"]]


def test_one_inside_of_another_changes_neither(cluster, made):
    alone = greenroom.Image.host().add_local_dir(made / "one", "/root/d")
    image = alone.add_local_file(made / "two" / "same", "/root/d/in/more").add_local_dir(made / "two", "/root/d/new")
    assert contents(image, "d/same", "d/in", "d/in/more", "d/new") == ["one", ["a", "more"], "two", ["in", "same"]]
    assert contents(alone, "d", "d/in") == [["in", "same"], ["a"]]


def test_links_and_files_of_a_step_give_way(cluster, made):
    outside = made / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)

    def write():
        os.symlink(outside, "link")
        os.symlink(outside / "absent", "file")
        os.mkdir("directory")
        with open("plain", "w") as file:
            file.write("layer")

    image = (
        greenroom.Image.host()
        .run_function(write)
        .add_local_dir(made / "one", "/root/link")
        .add_local_file(made / "two" / "same", "/root/link/in/new")
        .add_local_file(made / "two" / "same", "/root/file")
        .add_local_file(made / "two" / "same", "/root/directory")
        .add_local_dir(made / "one", "/root/plain")
    )
    found = contents(image, "link/same", "link/in", "file", "directory", "plain")
    assert found == ["one", ["a", "new"], "two", "two", ["in", "same"]]
    assert not list(outside.iterdir())


@pytest.mark.parametrize("copy", [True, False])
def test_where_nothing_of_an_image_can_be(cluster, made, copy):
    path = "/usr/share/x" if real(cluster) else "/etc/x"
    image = greenroom.Image.host().add_local_dir(made / "one", path, copy=copy)
    with pytest.raises(greenroom.ImageBuildError) as caught:
        contents(image, path)
    assert "\n" not in str(caught.value)
    assert f"{path} " + ("is this machine's own" if real(cluster) else "needs a real container") in str(caught.value)
    if copy:
        assert str(caught.value).startswith("Image.add_local_dir(")
        assert "test_bound_files.py:" in str(caught.value)


def test_a_plain_process_says_at_once_that_it_has_no_such_working_directory(cluster):
    image = greenroom.Image.host().workdir("/srv/app")
    if real(cluster):
        assert contents(image, ".") == [[]]
        return
    with pytest.raises(
        greenroom.ImageBuildError, match=r"^Image\.workdir\('/srv/app'\) \(.*\): /srv/app needs a real container"
    ):
        contents(image, ".")
