"""Pulled images that aim at this machine: nothing is written outside of the layer, no device is one, and what can't be kept
is refused in a line."""

import json
import os
import shutil
import stat
import struct
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from greenroom.worker.images.tree import walk as names_of
from tests.conftest import Need
from tests.contract.registries import Member, file, folder, hard, layer, link, walk
from tests.contract.test_hostile_steps import verified
from tests.contract.test_packages import offline, wheels  # noqa: F401

USED = {"Env": ["PATH=/usr/bin"]}
UP = "../" * 12
CAPABLE = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0).decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    Need.runtime("crun")
    with Cluster(settings=Settings(sandbox="oci", runtime="crun")) as made:
        yield made


@pytest.fixture
def canary() -> Iterator[str]:
    """A directory of this machine's that layers aim at; it is the same after the test."""
    path = Path(tempfile.mkdtemp(prefix="gr-canary-"))
    (path / "there").write_text("this machine's")
    (path / "open").mkdir(mode=0o777)
    path.chmod(0o777)
    before, outside = list(walk(path)), sorted(os.listdir("/etc"))
    yield str(path)
    assert list(walk(path)) == before
    assert sorted(os.listdir("/etc")) == outside
    shutil.rmtree(path)


def run(image, look):
    app = greenroom.App("t", image=image)
    f = app.function(serialized=True)(look)
    with app.run():
        return f.remote()


def files_of(cluster, reference: str) -> Path:
    for record in (cluster.home / "layers").glob("*/layer.json"):
        if json.loads(record.read_text())["text"] == f"Image.from_registry({reference!r})":
            return record.parent / "fs"
    raise AssertionError(reference)


def test_names_links_and_devices_lead_nowhere(cluster, registry, python_layer, canary):
    top = canary.lstrip("/")
    members = [
        file(f"{UP}{top}/dots"), file(f"{canary}/absolute"), file(f"a/b/../../{UP}{top}/between"), file(f"/{UP}{top}/both"),
        link("absolute", canary), file("absolute/through"), link("relative", UP + top), file("relative/through"),
        link("first", "second"), link("second", f"{UP}third"), link("third", canary), file("first/through"),
        folder("was"), link("was", canary), file("was/through"), folder("first/open/below"), link(f"{UP}{top}/link", "/etc"),
        link("deep", "absolute/open"), file("deep/through"),
        hard("machine", f"{UP}etc/passwd"), link("around", "/etc"), hard("group", "around/group"),
        Member("disk", kind=tarfile.BLKTYPE, device=(8, 0), mode=0o666), Member("memory", kind=tarfile.CHRTYPE, device=(1, 1), mode=0o666),
        Member("null", kind=tarfile.CHRTYPE, device=(1, 3), mode=0o666), Member("white", kind=tarfile.CHRTYPE, mode=0o666),
        Member("fifo", kind=tarfile.FIFOTYPE, mode=0o600), file(f".wh.../{UP}{top}/there"), file("absolute/.wh.there"),
        file("usr/bin/.wh.touch"), file("usr/.wh.nosuch"), file("x/.wh.."),
        file("setuid", mode=0o4755), file("setgid", mode=0o2755, owner=(3, 4)), folder("sticky", 0o3777),
        file("capable", mode=0o755, owner=(5, 6), attributes={"security.capability": CAPABLE}),
        folder("etc", 0o755, attributes={"trusted.overlay.opaque": "y", "user.overlay.opaque": "y"}),
        file("noted", attributes={"user.note": "1", "trusted.overlay.redirect": "/etc", "trusted.overlay.metacopy": ""}),
        folder(".greenroom"), file(".greenroom/python.json", '["/evil", "3.12"]'), file(".greenroom/__main__.py", "raise SystemExit"),
        folder(".greenroom/greenroom"), link(".greenroom/greenroom/agent", canary),
        file("d/" * 1500 + "bottom"), folder("/", 0o711),
    ]  # fmt: skip
    reference = registry.make("hostile:1", python_layer, layer(members), config=USED)

    def look():
        import stat
        import struct

        with open("/machine") as one, open("/etc/passwd") as two:
            same = one.read() == two.read()
        kinds = {
            name: stat.S_IFMT(os.lstat(f"/{name}").st_mode) for name in ("disk", "memory", "null", "white", "fifo")
        }
        modes = [oct(os.stat(f"/{name}").st_mode & 0o7777) for name in ("setuid", "setgid", "sticky", "capable")]
        owners = [(os.stat(f"/{name}").st_uid, os.stat(f"/{name}").st_gid) for name in ("setuid", "setgid", "capable")]
        capability = struct.unpack("<5I", os.getxattr("/capable", "security.capability")[:20])[1:]
        return (
            same, kinds, modes, owners, capability, os.getxattr("/noted", "user.note"), sorted(os.listdir("/.greenroom")),
            os.path.exists("/usr/bin/touch"), os.path.exists("/etc/passwd"), os.path.exists("/" + "d/" * 1500 + "bottom"),
        )  # fmt: skip

    same, kinds, modes, owners, capability, note, ours, touch, passwd, bottom = run(
        greenroom.Image.from_registry(reference), look
    )
    assert same
    assert kinds.pop("fifo") == stat.S_IFIFO
    assert set(kinds.values()) == {stat.S_IFREG}
    assert modes == ["0o4755", "0o2755", "0o3777", "0o755"]
    assert owners == [(0, 0), (3, 4), (5, 6)]
    assert (capability, note) == ((1 << 10, 0, 0, 0), b"1")
    assert ours == [".last", "__main__.py", "__pycache__", "greenroom", "python.json"]
    assert (touch, passwd, bottom) == (False, True, True)
    files = files_of(cluster, reference)
    for entry in names_of(files):
        assert not stat.S_ISBLK(entry.status.st_mode) and not stat.S_ISCHR(entry.status.st_mode), entry.path
        assert not [name for name, _ in entry.attributes() if name.startswith(b"trusted.")], entry.path
    assert not os.path.samefile(files / "machine", "/etc/passwd")
    verified(cluster)


@pytest.mark.parametrize("what", ["links to this machine's directory", "links to the root", "files"])
def test_what_stands_where_a_container_is_mounted(cluster, registry, python_layer, canary, what):
    names = ("proc", "dev", "tmp", "run", "root", "sys", "var", ".greenroom")
    target = "/" if what == "links to the root" else canary
    members = [file(name) if what == "files" else link(name, target) for name in names]
    if what == "links to the root":
        members += [link("etc", "/"), link("usr/local", "/")]
    reference = registry.make(f"mounts:{len(what)}", python_layer, layer(members), config=USED)

    def look():
        with open("/root/new", "w") as new, open("/tmp/new", "w"):
            new.write("x")
        return os.getcwd(), os.path.exists("/proc/self/exe"), os.path.exists("/dev/null"), os.path.islink("/.greenroom")

    image = greenroom.Image.from_registry(reference).run_commands(
        "echo x > /tmp/x; echo x > /dev/null; echo x > /root/x"
    )
    assert run(image, look) == ("/root", True, True, False)
    verified(cluster)


def test_what_is_downloaded_for_one_base_is_no_others_to_spoil(cluster, registry, python_layer, wheels):
    """The installer runs the image's Python, and has a cache."""
    spoils = '#!/bin/sh\necho spoilt > "${UV_CACHE_DIR-/nowhere}/../spoilt"\nexec /usr/bin/python3 "$@"\n'
    members = [folder("usr/local"), folder("usr/local/bin"), file("usr/local/bin/python3", spoils, mode=0o755)]
    used = {"Env": ["PATH=/usr/local/bin:/usr/bin"]}
    hostile = greenroom.Image.from_registry(registry.make("spoils:1", python_layer, layer(members), config=used))
    plain = greenroom.Image.from_registry(registry.make("plain:1", python_layer, config=USED))

    def look():
        import grone

        return grone.VERSION

    for image in (plain, hostile, greenroom.Image.host()):
        assert run(image.pip_install("grone", **offline(wheels)), look) == "2.0"
    places = ("layers/*/packages", "cache/packages")
    spoilt = [path.parent.parent.name for place in places for path in cluster.home.glob(f"{place}/spoilt")]
    assert spoilt == [files_of(cluster, f"{registry.host}/spoils:1").parent.name]
    assert (cluster.home / "cache" / "packages" / "uv").is_dir()
    verified(cluster)


SEVERED = "can't be unpacked: a layer of it takes its root directory away"
TOO_MUCH = [
    ([link("/", "CANARY")], "can't be unpacked: /: malicious tar entry -- refusing to change type of root directory"),
    ([link(".", "CANARY")], "can't be unpacked: .: malicious tar entry -- refusing to change type of root directory"),
    ([file("x/.wh...")], SEVERED),
    ([file(".wh.")], "can't be unpacked: .wh.: restore parent directory"),
    ([file(".wh...")], "can't be unpacked: .wh...: whiteout remove"),
    ([link("out", "CANARY"), hard("there", "out/there")], "can't be unpacked: there: link: no such file or directory"),
    ([hard("there", "CANARY/there")], "can't be unpacked: there: link: no such file or directory"),
    ([file("foreign", owner=(70_000, 0))], "can't be unpacked: foreign belongs to an id above 65535"),
    ([file("d/" * 3000 + "x")], "file name too long"),
]


@pytest.mark.parametrize(("members", "why"), TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_what_no_layer_can_be_is_refused_in_a_line(cluster, registry, canary, members, why):
    aimed = [member._replace(link=member.link.replace("CANARY", canary)) for member in members]
    reference = registry.make("refused:1", layer([folder("etc"), *aimed]))
    assert why in refused(greenroom.Image.from_registry(reference, force_build=True))
    assert not list((cluster.home / "layers").glob(".new-*"))


CONFIGURATIONS = [
    ({"whole": b"[]"}, "its configuration is damaged"),
    ({"whole": b"{"}, "its configuration is damaged"),
    ({"whole": b"null"}, "its configuration is damaged"),
    ({"whole": b"[" * 100_000}, "its configuration is damaged"),
    ({"config": [1]}, "its configuration is damaged"),
    ({"config": "x"}, "its configuration is damaged"),
    ({"config": {"Env": "PATH=/usr/bin"}}, "its configuration is damaged"),
    ({"config": {"Env": [1]}}, "its configuration is damaged"),
    ({"config": {"Entrypoint": "sh"}}, "its configuration is damaged"),
    ({"config": {"Shell": {"a": 1}}}, "Shell is no list of text"),
    ({"config": {"Env": ["A=1\0B=2"]}}, "its configuration is damaged: Env is no list of text"),
    ({"config": {"Cmd": ["a\0b"]}}, "its configuration is damaged: Cmd is no list of text"),
    ({"config": {"WorkingDir": "/x\0y"}}, "its configuration is damaged: WorkingDir is no text"),
    (
        {"config": {"Env": [f"A{n}={'x' * 1000}" for n in range(1100)]}},
        "its configuration is damaged: config.json is larger than 1 MiB",
    ),
    (
        {"config": {"Env": ["novalue", "=x", "PATH=/usr/bin"], "WorkingDir": None, "Entrypoint": None}},
        "there is no Python on its PATH",
    ),
]


@pytest.mark.parametrize(("how", "why"), CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
def test_a_configuration_that_is_none_is_refused_in_a_line(cluster, registry, how, why):
    reference = registry.make("configured:1", layer([folder("etc")]), **how)
    assert why in refused(greenroom.Image.from_registry(reference, force_build=True))


@pytest.mark.parametrize("workdir", ["/proc/self/root/x", "/usr/bin/ls", "/etc/passwd/x"])
def test_a_working_directory_that_is_none_is_said_in_a_line(cluster, registry, python_layer, workdir):
    image = greenroom.Image.from_registry(registry.make("plain:1", python_layer, config=USED)).workdir(workdir)
    with pytest.raises(greenroom.Error) as failed:
        run(image, lambda: None)
    assert "\n" not in str(failed.value)
    assert workdir in str(failed.value)


def refused(image) -> str:
    app = greenroom.App("t", image=image)
    app.function(serialized=True)(lambda: None)
    with pytest.raises(greenroom.ImageBuildError) as failed, app.run():
        pass
    reason = str(failed.value)
    assert reason.startswith("Image.from_registry(") and "\n" not in reason and len(reason) < 1000
    return reason
