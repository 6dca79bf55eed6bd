"""What of a program travels."""

import io
import os
import socket
import sys
import tarfile

import pytest

from greenroom.model.errors import InvalidError
from greenroom.sdk.bundle import ORIGINS, collect_files, pack


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that is imported; of its files those that the test adds."""
    directory = tmp_path / "travels"
    directory.mkdir()
    (directory / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("travels")
    yield directory
    del sys.modules["travels"]


def travelling(directory):
    files = collect_files("")
    names = tarfile.open(fileobj=io.BytesIO(pack(files).data)).getnames()
    assert sorted(names) == sorted([ORIGINS, *files])
    return {name.removeprefix("travels/") for name in names if name.startswith("travels/")}


def test_a_package_goes_whole(package):
    (package / "sub").mkdir()
    for name in ("data.txt", "sub/more.bin", ".hidden", "old.pyc"):
        (package / name).write_text("x")
    (package / "linked.txt").symlink_to(package / "data.txt")
    assert travelling(package) == {"__init__.py", "data.txt", "sub/more.bin", "linked.txt"}


def test_what_is_no_file_stays(package):
    os.mkfifo(package / "fifo")
    (package / "dangling").symlink_to(package / "nothing")
    (package / "loop").symlink_to(package / "loop")
    with socket.socket(socket.AF_UNIX) as sock:
        before = os.getcwd()
        os.chdir(package)  # a socket's path has to be short
        sock.bind("socket")
        os.chdir(before)
        (package / "device").symlink_to("/dev/zero")
        assert travelling(package) == {"__init__.py"}


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidError, match="gone.py belongs to the program and can't be read: No such file"):
        pack({"gone.py": str(tmp_path / "gone.py")})


@pytest.mark.parametrize("link", ["directory", "file"])
def test_what_is_installed_stays_whatever_link_leads_there(tmp_path, monkeypatch, link):
    installed = tmp_path / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "stays.py").write_text("")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "travels_too.py").write_text("")
    if link == "directory":
        (tmp_path / "linked").symlink_to(installed)
    else:
        (tmp_path / "linked").mkdir()
        (tmp_path / "linked" / "stays.py").symlink_to(installed / "stays.py")
    for directory in ("linked", "own"):
        monkeypatch.syspath_prepend(tmp_path / directory)
    for name in ("stays", "travels_too"):
        monkeypatch.setitem(sys.modules, name, None)  # so that it is gone after the test
        del sys.modules[name]
        __import__(name)
    files = collect_files("")
    assert "travels_too.py" in files and "stays.py" not in files
