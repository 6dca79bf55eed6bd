"""An exported image against what a container sees of its layers: overlayfs itself is asked, and an applier of our own.

The applier is written from the specification's words and shares nothing with the exporter but tarfile.
"""

import decimal
import errno
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.model.errors import ImageBuildError, InvalidError
from greenroom.worker.id_range import FIRST
from greenroom.worker.images.oci_export import ImageConfig, export
from greenroom.worker.images.oci_layer import header
from tests.conftest import Need
from tests.worker.overlays import CAPABILITY, Operation, Overlays, Snapshot, snapshot

OWN = min(os.geteuid(), os.getegid())
"""The first id of a layer that whoever runs the tests has made."""


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlays]:
    try:
        made = Overlays(tmp_path_factory.mktemp("overlays"))
    except PermissionError as error:
        pytest.skip(str(error))
    yield made
    made.close()


def write(layers: list[Path], target: Path, *, archive: bool = False, first_id: int = FIRST, **settings) -> str:
    config = ImageConfig([f"step {number}" for number in range(len(layers))], **settings)
    return export(layers, target, config, first_id=first_id, archive=archive)


def checked(layout: Path) -> dict:
    """The image that a layout holds, everything that is named there found to be as it says; its configuration, with layers."""
    assert sorted(os.listdir(layout)) == ["blobs", "index.json", "oci-layout"]
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    used = set()

    def blob(descriptor: dict, kind: str) -> bytes:
        assert descriptor["mediaType"] == f"application/vnd.oci.image.{kind}"
        algorithm, digest = descriptor["digest"].split(":")
        content = (layout / "blobs" / algorithm / digest).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (descriptor["size"], digest)
        used.add(digest)
        return content

    index = json.loads((layout / "index.json").read_text())
    assert index["schemaVersion"] == 2 and index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    (listed,) = index["manifests"]
    manifest = json.loads(blob(listed, "manifest.v1+json"))
    assert manifest["schemaVersion"] == 2 and manifest["mediaType"] == listed["mediaType"]
    config = json.loads(blob(manifest["config"], "config.v1+json"))
    layers = [gzip.decompress(blob(layer, "layer.v1.tar+gzip")) for layer in manifest["layers"]]
    assert config["rootfs"]["type"] == "layers"
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    assert used == set(os.listdir(layout / "blobs" / "sha256"))
    assert {key: config[key] for key in ("os", "architecture")} == listed["platform"]
    return {**config, "listed": listed, "layers": layers}


def members(layer: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(layer), mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        return [(member, archive.extractfile(member).read() if member.isreg() else b"") for member in archive]


def remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def apply(layer: bytes, root: str) -> None:
    """Source: image-spec, layer.md, "Applying Changesets", "Whiteouts"."""
    times = []
    found = members(layer)
    for member, _ in found:  # they concern the layers below alone, wherever they stand
        parent, name = os.path.split(member.name)
        if not name.startswith(".wh.") or not is_directory(root, parent):
            continue
        if name == ".wh..wh..opq":
            for below in os.listdir(os.path.join(root, parent)):
                remove(os.path.join(root, parent, below))
        else:
            remove(os.path.join(root, parent, name.removeprefix(".wh.")))
    for member, content in found:
        path = os.path.join(root, member.name)
        if os.path.basename(path).startswith(".wh."):
            continue
        if not (member.isdir() and os.path.isdir(path) and not os.path.islink(path)):
            remove(path)
        if member.islnk():
            os.link(os.path.join(root, member.linkname), path, follow_symlinks=False)
            continue
        if member.isdir():
            os.makedirs(path, exist_ok=True)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.isfifo():
            os.mkfifo(path)
        else:
            assert member.isreg()
            Path(path).write_bytes(content)
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False):
            os.removexattr(path, name, follow_symlinks=False)
        if not member.issym():
            os.chmod(path, member.mode)
        for name, value in member.pax_headers.items():
            if name.startswith("SCHILY.xattr."):
                attribute = value.encode("utf-8", "surrogateescape")
                os.setxattr(path, name.removeprefix("SCHILY.xattr."), attribute, follow_symlinks=False)
        time = int(decimal.Decimal(member.pax_headers.get("mtime", str(int(member.mtime)))) * 10**9)
        times.append((path, time))
    for path, time in times:  # a directory's last: each entry in it was one more change
        os.utime(path, ns=(time, time), follow_symlinks=False)


def is_directory(root: str, path: str) -> bool:
    """Really one, on no way through a link."""
    parts = path.split("/") if path else []
    ways = (os.path.join(root, *parts[: depth + 1]) for depth in range(len(parts)))
    return all(os.path.isdir(way) and not os.path.islink(way) for way in ways)


def applied(layers: list[bytes], directory: Path) -> Snapshot:
    """What a runtime would show of them."""
    with tempfile.TemporaryDirectory(dir=directory) as root:
        os.chmod(root, 0o755)
        for layer in layers:
            apply(layer, root)
        return snapshot(root)


ODD = os.fsdecode(b"not \xff utf-8")
LONG = "/".join(["long" * 20] * 3)
FIRST_LAYER: list[Operation] = [
    ["mkdir", "etc"], ["write", "etc/passwd", "root"], ["write", "etc/gone", "1"], ["write", "etc/moved", "2"],
    ["mkdir", "bin"], ["write", "bin/su", "su"], ["chmod", "bin/su", 0o4755], ["write", "bin/ping", "ping"],
    ["capability", "bin/ping"], ["link", "bin/ping6", "bin/ping"], ["symlink", "bin/sh", "su"], ["link", "bin/ash", "bin/sh"],
    ["mkdir", "tmp"], ["chmod", "tmp", 0o1777], ["mkdir", "empty"], ["fifo", "tmp/pipe"], ["socket", "tmp/socket"],
    ["mkdir", "opaque"], ["write", "opaque/hidden", "x"], ["mkdir", "opaque/below"], ["write", "opaque/below/hidden", "x"],
    ["mkdir", "becomes file"], ["write", "becomes file/x", "x"], ["write", "becomes dir", "x"],
    ["mkdir", "becomes link"], ["write", "becomes link/x", "x"], ["symlink", "link becomes dir", "etc"],
    ["write", "becomes socket", "x"], ["write", "owned", "x"], ["chown", "owned", 1000, 65535], ["chown", "bin/sh", 33, 33],
    ["write", ODD, "odd"], ["symlink", "to odd", ODD], ["write", "größe 大小", "x"], ["write", "line\nbreak", "x"],
    ["attribute", "owned", "user.text", "täxt"], ["attribute", "owned", "user.bytes", os.fsdecode(b"\0\xff\n=")],
    ["attribute", "empty", "user.empty", ""], ["attribute", "empty", "user.old", "x"],
    ["access", "owned", 1000, "system.posix_acl_access"], ["access", "empty", 5, "system.posix_acl_default"],
    ["write", "old", "x"], ["time", "old", -1_500_000_000], ["time", "empty", 1_234_567_890_123_456_789],
    ["write", "nobody", "x"], ["chmod", "nobody", 0], ["write", "sgid", "x"], ["chmod", "sgid", 0o2775], ["write", "none", ""],
    *([["mkdir", LONG[:end]] for end in (80, 161, 242)]), ["write", f"{LONG}/{'n' * 255}", "x"], ["write", "large", "x" * 3_000_000],
    ["symlink", "far", LONG],
]  # fmt: skip
SECOND_LAYER: list[Operation] = [
    ["remove", "etc/gone"], ["rename", "etc/moved", "etc/there"], ["write", "etc/passwd", "root and others"],
    ["remove", "opaque"], ["mkdir", "opaque"], ["write", "opaque/new", "y"], ["mkdir", "opaque/below"],
    ["remove", "becomes file"], ["write", "becomes file", "now"], ["remove", "becomes dir"], ["mkdir", "becomes dir"],
    ["write", "becomes dir/x", "x"], ["remove", "becomes link"], ["symlink", "becomes link", "etc"],
    ["remove", "link becomes dir"], ["mkdir", "link becomes dir"], ["write", "link becomes dir/passwd", "another"],
    ["remove", "becomes socket"], ["socket", "becomes socket"], ["chmod", "bin/su", 0o755], ["chown", "bin/ping6", 7, 7],
    ["no attribute", "empty", "user.old"], ["attribute", "empty", "user.new", "x"], ["remove", ODD], ["chmod", "tmp", 0o700],
    ["write", "tmp/one", "1"], ["link", "tmp/two", "tmp/one"], ["link", "a link to what is below", "owned"],
]  # fmt: skip
THIRD_LAYER: list[Operation] = [
    ["write", ODD, "again"], ["write", "etc/gone", "back"], ["remove", "opaque/new"], ["remove", "becomes dir"],
    ["write", "becomes dir", "a file once more"], ["remove", "etc/there"], ["remove", "tmp/one"], ["chmod", ".", 0o711],
    ["remove", "empty"], ["mkdir", "empty"], ["remove", "empty"], ["remove", "becomes link"],
]  # fmt: skip


@pytest.mark.parametrize("archive", [False, True])
def test_what_is_exported_is_what_a_container_sees(overlays: Overlays, tmp_path: Path, archive: bool) -> None:
    layers, seen = overlays.make([FIRST_LAYER, SECOND_LAYER, THIRD_LAYER])
    write(layers, tmp_path / "image", archive=archive)
    layout = tmp_path / "image"
    if archive:
        layout = tmp_path / "layout"
        with tarfile.open(tmp_path / "image", "r:") as tar:
            tar.extractall(layout)
    image = checked(layout)
    assert applied(image["layers"], tmp_path) == seen
    assert seen["./bin/ping"][5] == {"security.capability": CAPABILITY.hex()} and len(seen) == 35
    ping = next(member for member, _ in members(image["layers"][0]) if member.name == "bin/ping")
    assert ping.pax_headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == CAPABILITY
    names = [[member.name for member, _ in members(layer)] for layer in image["layers"]]
    assert {"etc/.wh.gone", "opaque/.wh..wh..opq", ".wh.becomes socket"} <= set(names[1])
    assert not any("trusted" in name for layer in image["layers"] for m, _ in members(layer) for name in m.pax_headers)


def test_gnu_tar_reads_a_layer_too(overlays: Overlays, tmp_path: Path) -> None:
    layers, seen = overlays.make([[operation for operation in FIRST_LAYER if operation[0] != "socket"]])
    write(layers, tmp_path / "image")
    (layer,) = checked(tmp_path / "image")["layers"]
    (tmp_path / "root").mkdir()
    command = ["tar", "-xp", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", str(tmp_path / "root")]
    done = subprocess.run(command, input=layer, capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert snapshot(str(tmp_path / "root")) == seen


PATHS = st.sampled_from(["a", "b", "c", "a/a", "a/b", "b/a", "b/c", "a/a/b", "a/a/c", "b/a/a", ODD, f"a/{ODD}", "a/äö"])
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), PATHS, st.sampled_from(["", "1", "22"])),
    st.tuples(st.sampled_from(["mkdir", "mkdir", "remove", "remove", "fifo", "capability", "socket"]), PATHS),
    st.tuples(st.sampled_from(["rename", "link"]), PATHS, PATHS),
    st.tuples(st.just("symlink"), PATHS, st.sampled_from(["a", "../b", "/", ODD])),
    st.tuples(st.just("chmod"), PATHS, st.sampled_from([0, 0o755, 0o4711, 0o2755, 0o1777])),
    st.tuples(st.just("chown"), PATHS, st.sampled_from([0, 1, 65535]), st.sampled_from([0, 1000])),
    st.tuples(st.just("attribute"), PATHS, st.sampled_from(["user.a", "user.b"]), st.sampled_from(["", "v", "\udcff\n"])),
    st.tuples(st.just("time"), PATHS, st.integers(-(10**18), 4 * 10**18)),
).map(list)  # fmt: skip
BEGINNING: list[Operation] = [
    ["mkdir", "a"], ["mkdir", "b"], ["mkdir", "a/a"], ["write", "a/b", "x"], ["write", "a/a/b", "x"], ["mkdir", "b/a"],
]  # fmt: skip
LAYERS = st.lists(st.lists(OPERATIONS, max_size=8), min_size=3, max_size=3)


@settings(max_examples=int(os.environ.get("GREENROOM_TEST_EXAMPLES", "40")))
@given(LAYERS)
def test_whatever_was_done_it_is_what_a_container_sees(overlays: Overlays, layers: list[list[Operation]]) -> None:
    made, seen = overlays.make([BEGINNING + layers[0], *layers[1:]], strict=False)
    with tempfile.TemporaryDirectory(prefix="gr-") as directory:
        write(made, Path(directory, "image"))
        assert applied(checked(Path(directory, "image"))["layers"], Path(directory)) == seen


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """One that needs no rights."""
    root = tmp_path / "layer"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "hostname").write_text("here\n")
    for number in range(3):
        (root / f"large{number}").write_bytes(random.Random(number).randbytes(1_500_000 + number))
    return root


def test_the_configuration_is_what_was_asked_for(layer: Path, tmp_path: Path) -> None:
    digest = write(
        [layer, layer], tmp_path / "image", first_id=OWN,
        environment={"PATH": "/usr/bin", "A": "ä=b"}, working_directory="/root", entrypoint=["python"], cmd=["-c", "1"],
        architecture="arm64", created="2026-01-02T03:04:05Z", reference="mine/app:1.0",
    )  # fmt: skip
    image = checked(tmp_path / "image")
    assert image["listed"] == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "size": image["listed"]["size"],
        "platform": {"architecture": "arm64", "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": "mine/app:1.0"},
    }
    assert image["config"] == {
        "Env": ["PATH=/usr/bin", "A=ä=b"], "Entrypoint": ["python"], "Cmd": ["-c", "1"], "WorkingDir": "/root",
    }  # fmt: skip
    assert image["created"] == "2026-01-02T03:04:05Z"
    assert image["history"] == [{"created": "2026-01-02T03:04:05Z", "created_by": f"step {i}"} for i in range(2)]
    assert image["layers"][0] == image["layers"][1], "two of the same are one blob"


def test_what_was_not_asked_for_is_left_out(layer: Path, tmp_path: Path) -> None:
    write([layer], tmp_path / "image", first_id=OWN)
    image = checked(tmp_path / "image")
    assert image["config"] == {} and image["architecture"] in {"amd64", "arm64", os.uname().machine}


def test_the_same_layers_give_the_same_bytes(layer: Path, tmp_path: Path) -> None:
    digests = {
        write([layer, layer], tmp_path / f"{kind}{number}", archive=kind == "archive", first_id=OWN)
        for kind in ("archive", "directory") for number in range(2)
    }  # fmt: skip
    assert len(digests) == 1
    assert (tmp_path / "archive0").read_bytes() == (tmp_path / "archive1").read_bytes()
    with tarfile.open(tmp_path / "archive0", "r:") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive if member.isreg()}
    directory = tmp_path / "directory0"
    assert files == {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_a_layer_is_one_gzip_member_without_a_time(layer: Path, tmp_path: Path) -> None:
    write([layer], tmp_path / "image", first_id=OWN)
    blobs = sorted((tmp_path / "image" / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    assert blobs[-1].read_bytes()[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    whole = zlib.decompressobj(31)
    whole.decompress(blobs[-1].read_bytes())
    assert whole.eof and whole.unused_data == b""


def test_progress_is_told_of_every_byte(layer: Path, tmp_path: Path) -> None:
    told: list[int] = []
    export(
        [layer], tmp_path / "image", ImageConfig(["x"]), first_id=OWN, archive=True, progress=told.append
    )  # fmt: skip
    assert sum(told) == 5 + 3 * 1_500_000 + 3


def test_memory_does_not_grow_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "layer").mkdir()
    with open(tmp_path / "layer" / "file", "wb") as file:
        file.truncate(128 << 20)
    tracemalloc.start()
    write([tmp_path / "layer"], tmp_path / "image", first_id=OWN)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 32 << 20


def test_directories_deeper_than_any_path(tmp_path: Path) -> None:
    depth, name = 200, "d" * 60
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir(name, 0o755, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        with tempfile.TemporaryDirectory(prefix="gr-") as directory:
            write([tmp_path], Path(directory, "image"), first_id=OWN)
            (layer,) = checked(Path(directory, "image"))["layers"]
        assert [m.name for m, _ in members(layer)][1:] == ["/".join([name] * (i + 1)) for i in range(depth)]
        for _ in range(depth):
            above = os.open("..", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = above
            os.rmdir(name, dir_fd=here)
    finally:
        os.close(here)


@pytest.mark.parametrize("size", [0, 8**11 - 1, 8**11, 1 << 40])
@pytest.mark.parametrize("mtime", [0, 1, -1, -1_500_000_000, 1_700_000_000_123_456_789, 10**9, 8**11 * 10**9])
@pytest.mark.parametrize(
    ("path", "link"), [(b"a", b""), (b"x" * 100, b"y" * 100), (b"x" * 101, b"y" * 101), (b"\xff", "ä".encode())]
)
def test_a_header_says_what_it_was_given(path: bytes, link: bytes, mtime: int, size: int) -> None:
    """Sizes past 8 GiB among them; tarfile reads it back."""
    member = tarfile.TarInfo()
    member.size, member.mode, member.uid, member.gid = size, 0o4755, 65535, 1
    records = {b"SCHILY.xattr.user." + bytes([97 + n]): b"\0\xff\n=" + bytes(n) for n in range(60, 120, 7)}
    written = header(path, member, link, mtime, records)
    assert len(written) % 512 == 0
    assert (b"21 hdrcharset=BINARY\n" in written) == (path == b"\xff"), "as POSIX wants it of names that are not UTF-8"
    archive = tarfile.open(fileobj=io.BytesIO(written), mode="r:", encoding="utf-8", errors="surrogateescape")
    with archive:
        read = archive.next()
    assert read is not None
    assert (os.fsencode(read.name), os.fsencode(read.linkname), read.size) == (path, link, size)
    assert (read.mode, read.uid, read.gid) == (0o4755, 65535, 1)
    assert int(decimal.Decimal(read.pax_headers.get("mtime", str(int(read.mtime)))) * 10**9) == mtime
    kept = {
        k.encode("utf-8", "surrogateescape"): v.encode("utf-8", "surrogateescape") for k, v in read.pax_headers.items()
    }
    assert {k: v for k, v in kept.items() if k.startswith(b"SCHILY")} == records


def attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        Need.missing(f"a file system that keeps {name}")


def foreign_root(path: Path) -> None:
    attribute(path, "security.capability", struct.pack("<6I", 0x03000001, 1 << 10, 0, 0, 0, 5))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "it belongs to id 5,": (lambda path: os.chown(path, 5, FIRST), "owner"),
    "it belongs to id 65536,": (lambda path: os.chown(path, FIRST, 65536), "group"),
    f"are {FIRST} to {FIRST + 65535}": (lambda path: os.chown(path, FIRST + 65536, FIRST), "past the last"),
    "belongs to id 5, and": (foreign_root, "another container's capability"),
    "device node": (lambda path: (path.unlink(), os.mknod(path, stat.S_IFCHR, os.makedev(1, 3)),
                                  os.chown(path, FIRST, FIRST)), "null"),
    "user.a=b": (lambda path: attribute(path, "user.a=b", b""), "an attribute"),
    "a layer below": (lambda path: attribute(path, "trusted.overlay.metacopy", b""), "metacopy"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("message", "change"), [(m, c) for m, (c, _) in REFUSED.items()], ids=[n for _, n in REFUSED.values()]
)
@pytest.mark.parametrize("archive", [False, True])
def test_what_no_image_can_hold_is_refused_with_its_path(
    tmp_path: Path, archive: bool, message: str, change: Callable[[Path], object]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("layers of real containers need root for now")
    path = tmp_path / "layer" / "dir" / "file"
    path.parent.mkdir(parents=True)
    path.touch()
    for each in (path.parent.parent, path.parent, path):
        os.chown(each, FIRST, FIRST)
    change(path)
    with pytest.raises(ImageBuildError) as caught:
        write([tmp_path / "layer"], tmp_path / "image", archive=archive)
    assert str(caught.value).startswith(f"can't export {path}: ") and message in str(caught.value)
    assert os.listdir(tmp_path) == ["layer"]


def test_a_name_that_means_a_whiteout_is_refused(layer: Path, tmp_path: Path) -> None:
    (layer / "etc" / ".wh.x").touch()
    with pytest.raises(ImageBuildError, match=r"etc/\.wh\.x: no layer can hold"):
        write([layer], tmp_path / "image", first_id=OWN)
    assert os.listdir(tmp_path) == ["layer"]


@pytest.mark.parametrize("archive", [False, True])
def test_a_target_that_exists_is_left_alone(layer: Path, tmp_path: Path, archive: bool) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("directory", "file", "dangling"):
        with pytest.raises(InvalidError) as caught:
            write([layer], tmp_path / name, archive=archive)
        assert str(caught.value) == f"{tmp_path / name} exists already: remove it, or name another"
    assert sorted(os.listdir(tmp_path)) == ["dangling", "directory", "file", "layer"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("archive", [False, True])
def test_a_target_that_cannot_be_written_is_one_line(layer: Path, tmp_path: Path, archive: bool) -> None:
    for target, reason in ((tmp_path / "none" / "image", "No such file or directory"),
                           (layer / "etc" / "hostname" / "image", "Not a directory")):  # fmt: skip
        with pytest.raises(InvalidError) as caught:
            write([layer], target, archive=archive)
        assert str(caught.value) == f"can't write an image to {target}: {reason}"
    assert os.listdir(tmp_path) == ["layer"]


def test_a_layer_that_is_not_there_is_one_line(layer: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageBuildError, match=f"No such file or directory: {tmp_path}/none$"):
        write([layer, tmp_path / "none"], tmp_path / "image", first_id=OWN)
    assert os.listdir(tmp_path) == ["layer"]


def test_what_names_no_image_is_refused(layer: Path, tmp_path: Path) -> None:
    for name in ("", "a b", "-a", "a//b", "a/", "ä"):
        with pytest.raises(InvalidError, match="can't be called"):
            write([layer], tmp_path / "image", reference=name)
    for layers, history in (([], []), ([layer], []), ([layer], ["1", "2"])):
        with pytest.raises(InvalidError, match="a line of history for each"):
            export(layers, tmp_path / "image", ImageConfig(history), first_id=0, archive=False)
    assert os.listdir(tmp_path) == ["layer"]


@pytest.mark.parametrize("archive", [False, True])
def test_a_full_disk_is_one_line_and_leaves_nothing(layer: Path, tmp_path: Path, archive: bool) -> None:
    (tmp_path / "disk").mkdir()
    program = """
        import os, sys
        from pathlib import Path
        from greenroom.worker.images.oci_export import ImageConfig, export
        try:
            export([Path(sys.argv[1])], Path(sys.argv[2], "image"), ImageConfig(["x"]), first_id=0, archive=ARCHIVE)
        except Exception as error:
            print(type(error).__name__, error, os.listdir(sys.argv[2]), sep="|")
        """.replace("ARCHIVE", repr(archive)).replace("\n        ", "\n")
    script = 'mount -t tmpfs -o size=1m none "$2" && exec "$0" -c "$3" "$1" "$2"'
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        sys.executable,
        layer,
        tmp_path / "disk",
        program,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode:
        pytest.skip(f"can't mount a small disk here: {done.stderr.strip()}")
    reason = f"can't write an image to {tmp_path}/disk/image: No space left on device"
    assert done.stdout == f"ImageBuildError|{reason}|[]\n"


@pytest.fixture
def tool(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed: the applier here stands in for it")
    return str(request.param)


@pytest.mark.parametrize("tool", ["skopeo"], indirect=True)
@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_skopeo_reads_it(overlays: Overlays, tmp_path: Path, tool: str, transport: str) -> None:
    layers, _ = overlays.make([FIRST_LAYER, SECOND_LAYER])
    digest = write(layers, tmp_path / "image", archive=transport == "oci-archive", environment={"A": "b"})
    command = [tool, "inspect", f"{transport}:{tmp_path / 'image'}:latest"]
    seen = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=100).stdout)
    assert (seen["Digest"], len(seen["Layers"]), seen["Env"]) == (digest, 2, ["A=b"])


@pytest.mark.parametrize("tool", ["umoci"], indirect=True)
def test_umoci_unpacks_what_a_container_sees(overlays: Overlays, tmp_path: Path, tool: str) -> None:
    layers, seen = overlays.make([FIRST_LAYER, SECOND_LAYER, THIRD_LAYER])
    write(layers, tmp_path / "image")
    command = [tool, "unpack", "--image", f"{tmp_path / 'image'}:latest", str(tmp_path / "bundle")]
    subprocess.run(command, capture_output=True, check=True, timeout=100)
    assert snapshot(str(tmp_path / "bundle" / "rootfs")) == seen


@pytest.mark.parametrize("tool", ["buildah"], indirect=True)
@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_podmans_library_stores_what_a_container_sees(
    overlays: Overlays, tmp_path: Path, tool: str, transport: str
) -> None:
    """Buildah's is the same one, and CI has it. What it does its own way are times before 1970, and the root's mode."""
    if os.geteuid() != 0:
        pytest.skip("it mounts")
    layers, seen = overlays.make([FIRST_LAYER, SECOND_LAYER, THIRD_LAYER])
    write(layers, tmp_path / "image", archive=transport == "oci-archive", environment={"A": "b"})

    def ask(*words: str) -> str:
        places = ["--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run"), "--storage-driver", "overlay"]
        done = subprocess.run([tool, *places, *words], capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    image = ask("pull", "--quiet", f"{transport}:{tmp_path / 'image'}")
    told = json.loads(ask("inspect", "--type", "image", image))
    assert told["OCIv1"]["config"]["Env"] == ["A=b"]
    container = ask("from", "--pull-never", image)
    try:
        stored = snapshot(ask("mount", container))
        assert set(stored) == set(seen)
        assert {path for path in seen if stored[path] != seen[path]} <= {".", "./old"}
    finally:
        ask("umount", container)
        ask("rm", container)
