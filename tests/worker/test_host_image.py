"""What containers see of the host."""

import os
import pwd
import sys
from pathlib import Path

import pytest

from greenroom.worker.environment import contained_environment
from greenroom.worker.host_image import HostImage, look


@pytest.mark.parametrize(
    "directory", ["/", "/home", "/home/alice", "/root", os.path.expanduser("~"), "/etc", "/tmp", "/var"]
)
def test_homes_and_what_holds_them_are_not_shown(tmp_path, monkeypatch, directory):
    monkeypatch.setattr(sys, "path", [*sys.path, directory])
    assert os.path.normpath(directory) not in look(tmp_path).shown


def test_every_users_home_is_one(tmp_path, monkeypatch):
    alice = pwd.struct_passwd(("alice", "x", 1000, 1000, "", str(tmp_path / "people" / "alice"), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [alice])
    (tmp_path / "people" / "alice" / "project").mkdir(parents=True)
    for directory, shown in (("people", False), ("people/alice", False), ("people/alice/project", True)):
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / directory)])
        assert (str(tmp_path / directory) in look(tmp_path / "state").shown) is shown


def test_the_interpreter_and_its_packages_are_shown_once(tmp_path):
    image = look(tmp_path)
    for path in (sys.executable, os.path.realpath(sys.executable), os.__file__, __import__("click").__file__):
        assert image.sees(path) or path in image.links
    for path in image.shown:
        others = [other for other in image.shown if other != path and path.startswith(other + "/")]
        assert not others or os.path.ismount(path), f"{path} is in {others} already"


def test_a_state_directory_below_what_is_shown_is_hidden(tmp_path, monkeypatch):
    (tmp_path / "packages" / "state").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "packages" / "state")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "packages")])
    assert look(tmp_path / "packages" / "state").hidden == [str(tmp_path / "packages" / "state")]
    assert look(tmp_path / "link").hidden == [str(tmp_path / "packages" / "state")]


def test_variables_name_nothing_that_is_not_seen():
    image = HostImage(["/usr", "/certs.pem"], {}, [], "/usr/bin")
    host = {"PYTHONPATH": "/usr/lib/x:/home/me", "SSL_CERT_FILE": "/certs.pem", "CURL_CA_BUNDLE": "/home/me/ca.pem",
            "HOME": "/home/me", "LC_ALL": "C", "SECRET": "1", "https_proxy": "http://proxy"}  # fmt: skip
    made = contained_environment(host, {"ASKED": "1"}, image, "ta-1")
    assert made == {
        "PYTHONPATH": "/usr/lib/x", "SSL_CERT_FILE": "/certs.pem", "LC_ALL": "C", "https_proxy": "http://proxy",
        "PATH": "/usr/bin", "HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh", "PYTHONUNBUFFERED": "1",
        "ASKED": "1", "GREENROOM_CONTAINER_ID": "ta-1",
    }  # fmt: skip


def test_its_lowest_layer_is_the_containers_own(tmp_path):
    image = HostImage(["/usr"], {"/bin": "usr/bin"}, [], "/usr/bin")
    image.lay(tmp_path / "root", os.getuid())
    root = tmp_path / "root"
    assert (root / "usr").is_dir() and not list((root / "usr").iterdir())
    assert os.readlink(root / "bin") == "usr/bin"
    assert (root / "etc" / "passwd").read_text().startswith("root:x:0:0:root:/root:")
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert not Path(root, "etc", "shadow").exists()
