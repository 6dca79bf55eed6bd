"""What is in the layer that mmdebstrap makes: Debian and its Python, and nothing of where and when it was made."""

import json
import os
import re
import socket
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from tests.conftest import CANARY
from tests.contract.test_packages import wheels  # noqa: F401


@pytest.fixture(scope="module")
def root(debian_home: Path) -> Path:
    """Of the layer."""
    for record in debian_home.glob("layers/*/layer.json"):
        if json.loads(record.read_bytes())["text"] == "Image.debian_slim()":
            return record.parent / "fs"
    raise AssertionError


def test_apt_has_debians_own_sources_and_no_settings_of_this_machine(root):
    lines = (root / "etc/apt/sources.list").read_text().split("\n")
    found = [re.fullmatch(r"deb http://\w+\.debian\.org/(.*) main", line) for line in lines if line]
    assert [line and line[1] for line in found] == [
        "debian bookworm", "debian bookworm-updates", "debian-security bookworm-security"
    ]  # fmt: skip
    assert os.listdir(root / "etc/apt/sources.list.d") == []
    assert sorted(os.listdir(root / "etc/apt/apt.conf.d")) == ["01autoremove", "70debconf", "90small"]
    for name in ("auth.conf", "auth.conf.d", "apt.conf"):
        assert not (root / "etc/apt" / name).exists()


def test_nothing_says_where_and_when_it_was_made(root):
    assert (root / "etc/machine-id").read_bytes() == b""
    for name in (
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
        "var/lib/dbus/machine-id",
        "var/log/dpkg.log",
        "var/log/apt",
    ):
        assert not os.path.lexists(root / name), name
    assert {line.split(":")[2] for line in (root / "etc/shadow").read_text().splitlines()} == {""}
    made = [CANARY.encode(), b"greenroom", os.fsencode(root.parent.parent.parent.name)]
    if len(socket.gethostname()) > 5:
        made.append(socket.gethostname().encode())
    servers = [
        line.split()[1] for line in Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver")
    ]
    made += [server.encode() for server in servers if not server.startswith("127.")]
    pattern = re.compile(rb"build-[0-9a-f]{16}|" + b"|".join(map(re.escape, made)))
    found = [
        (str(path.relative_to(root)), hit[0])
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and (hit := pattern.search(path.read_bytes()))
    ]
    assert found == []


def test_nothing_is_kept_that_it_can_do_without(root):
    for name in ("var/cache/apt/archives", "var/lib/apt/lists", "tmp", "var/tmp", "run/lock"):
        assert not [path for path in (root / name).rglob("*") if path.is_file() and path.name != "lock"], name


def test_devices_and_links_lead_nowhere(root):
    """None is a device, whoever reads the layer; and a link out of it would be this machine's file."""
    for path in root.rglob("*"):
        assert path.is_symlink() or path.is_file() or path.is_dir(), path


def test_pip_is_there_as_a_command(debian_home, tmp_path, wheels):
    """What keeps pip from Debian's own packages elsewhere isn't in the way."""
    install = (
        "pip install --no-index --find-links /srv/wheels grone==1.0 && pip uninstall --yes grone && python -m pip list"
    )
    again = "pip3 install --quiet --no-index --find-links /srv/wheels grtwo"
    image = greenroom.Image.debian_slim().add_local_dir(wheels, "/srv/wheels", copy=True).run_commands(install, again)
    app = greenroom.App("t", image=image)

    @app.function(serialized=True)
    def look():
        import grone
        import grtwo

        return grone.VERSION, grtwo.VERSION

    with Cluster(settings=Settings(sandbox="oci", runtime="crun"), home=debian_home), app.run():
        assert look.remote() == ("2.0", "1.0")


def test_an_endpoint_without_fastapi_in_its_image_says_how_to_have_it(debian_home):
    app = greenroom.App("t", image=greenroom.Image.debian_slim())

    @app.function(serialized=True)
    @greenroom.fastapi_endpoint()
    def shop():
        return 1

    with Cluster(home=debian_home, settings=Settings(sandbox="oci")), app.run():
        with pytest.raises(HTTPError) as found:
            urlopen(shop.web_url, timeout=60)
        said = found.value.read().decode()
        found.value.close()
    assert found.value.code == 502
    assert "needs FastAPI in its image" in said
    assert ".pip_install('fastapi')" in said
