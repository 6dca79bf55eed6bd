"""The digest of a directory: what changes it, what doesn't, and directories that are hard to read."""

import errno
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.worker.images.tree import measure, room, walk
from tests.conftest import Need

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("layers of real containers need root for now")


def attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        Need.missing(f"a file system that keeps {name}")


def lay(root: Path) -> Path:
    root.mkdir()
    (root / "dir" / "empty").mkdir(parents=True)
    (root / "dir" / "file").write_bytes(b"content")
    (root / "dir" / "tool").write_bytes(b"#!")
    (root / "large").write_bytes(bytes(1 << 20))
    (root / "link").symlink_to("dir/file")
    os.link(root / "dir" / "file", root / "same")
    os.mkfifo(root / "pipe")
    for path in (root, root / "dir", root / "dir" / "empty", root / "dir" / "tool"):
        path.chmod(0o755)
    return root


def test_two_of_the_same_are_equal_whenever_they_were_made(tmp_path: Path) -> None:
    one, two = lay(tmp_path / "one"), lay(tmp_path / "two")
    for path in (two, two / "dir", two / "link", two / "dir" / "tool"):
        os.utime(path, (1, 1), follow_symlinks=False)
    assert measure(one) == measure(two) == measure(two)
    assert (measure(one).size, measure(one).entries) == (7 + 2 + (1 << 20), 8)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "another file": lambda root: (root / "new").touch(),
    "content": lambda root: (root / "dir" / "tool").write_bytes(b"!#"),
    "content of a large file": lambda root: (root / "large").write_bytes(bytes((1 << 20) - 1) + b"x"),
    "length of a large file": lambda root: (root / "large").write_bytes(bytes((1 << 20) + 1)),
    "a name": lambda root: (root / "dir" / "tool").rename(root / "dir" / "tools"),
    "a place": lambda root: (root / "dir" / "tool").rename(root / "tool"),
    "a directory's place": lambda root: (root / "dir" / "empty").rename(root / "empty"),
    "permissions": lambda root: (root / "dir" / "tool").chmod(0o754),
    "setuid": lambda root: (root / "dir" / "tool").chmod(0o4755),
    "setgid": lambda root: (root / "dir" / "tool").chmod(0o2755),
    "sticky": lambda root: (root / "dir").chmod(0o1755),
    "the root's own permissions": lambda root: root.chmod(0o700),
    "what a link says": lambda root: replace(root / "link", lambda path: path.symlink_to("dir/tool")),
    "a copy in place of a link": lambda root: replace(root / "same", lambda path: path.write_bytes(b"content")),
    "a link in place of a copy": lambda root: replace(root / "pipe", lambda path: os.link(root / "dir" / "tool", path)),
    "a file in place of a pipe": lambda root: replace(root / "pipe", lambda path: path.touch(0o644)),
    "a socket in place of a pipe": lambda root: replace(root / "pipe", bind),
    "a user's attribute": lambda root: attribute(root / "dir" / "tool", "user.x", b"1"),
    "an empty attribute": lambda root: attribute(root / "dir", "user.x", b""),
}  # fmt: skip
CHANGES_OF_ROOT: dict[str, Callable[[Path], object]] = {
    "owner": lambda root: os.chown(root / "dir" / "empty", 1, 0),
    "group": lambda root: os.chown(root / "dir" / "empty", 0, 1),
    "a link's owner": lambda root: os.chown(root / "link", 1, 0, follow_symlinks=False),
    "a capability": lambda root: attribute(root / "dir" / "tool", "security.capability", CAPABILITY),
    "an opaque directory": lambda root: attribute(root / "dir", "trusted.overlay.opaque", b"y"),
    "a link's attribute": lambda root: attribute(root / "link", "trusted.x", b"y"),
    "a whiteout": lambda root: os.mknod(root / "gone", stat.S_IFCHR, os.makedev(0, 0)),
    "a character device": lambda root: os.mknod(root / "null", stat.S_IFCHR, os.makedev(1, 3)),
    "another character device": lambda root: os.mknod(root / "null", stat.S_IFCHR, os.makedev(1, 5)),
    "a block device": lambda root: os.mknod(root / "null", stat.S_IFBLK, os.makedev(1, 3)),
}


def bind(path: Path) -> None:
    """A socket's name; by a short one, since those end at 108 bytes."""
    with socket.socket(socket.AF_UNIX) as bound:
        directory = os.open(path.parent, os.O_RDONLY)
        bound.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
    path.chmod(0o644)


def digests_of(changes: dict[str, Callable[[Path], object]], tmp_path: Path) -> None:
    seen = {measure(lay(tmp_path / "as it was")).digest: "as it was"}
    for number, (what, change) in enumerate(changes.items()):
        root = lay(tmp_path / str(number))
        change(root)
        digest = measure(root).digest
        assert digest not in seen, f"{what} is not told from {seen[digest]}"
        seen[digest] = what


def test_every_change_that_a_container_could_tell_is_another_digest(tmp_path: Path) -> None:
    digests_of(CHANGES, tmp_path)


def test_every_change_that_only_root_can_make_is_another_digest(tmp_path: Path, as_root: None) -> None:
    digests_of(CHANGES_OF_ROOT, tmp_path)


def test_what_only_the_host_can_tell_changes_nothing(tmp_path: Path, as_root: None) -> None:
    one, two = lay(tmp_path / "one"), lay(tmp_path / "two")
    for root in (one, two):
        os.mknod(root / "gone", stat.S_IFCHR, os.makedev(0, 0))
    os.link(two / "gone", two / "gone too")  # one inode for several, as the kernel does to save some
    os.mknod(one / "gone too", stat.S_IFCHR, os.makedev(0, 0))
    os.chown(two / "gone", 1, 1)
    os.link(two / "large", tmp_path / "elsewhere")
    attribute(two / "dir", "trusted.overlay.origin", b"file handle")
    attribute(two, "trusted.overlay.impure", b"y")
    assert measure(one) == measure(two)


NAMES = st.sampled_from([b"a", b"a-", b"a.b", b"b", b"\xff", "ä".encode(), b"\n", b"aa"])
TREES = st.recursive(
    st.binary(max_size=3) | st.just("link"),
    lambda below: st.tuples(st.sampled_from([0o700, 0o755]), st.dictionaries(NAMES, below, max_size=3)),
    max_leaves=6,
)


def build(tree: object, path: bytes) -> None:
    if isinstance(tree, bytes):
        with open(path, "xb") as file:
            file.write(tree)
    elif isinstance(tree, tuple):
        os.mkdir(path)
        for name, below in tree[1].items():
            build(below, path + b"/" + name)
        os.chmod(path, tree[0])
    else:
        os.symlink("a", path)


@given(st.dictionaries(NAMES, TREES, max_size=3), st.dictionaries(NAMES, TREES, max_size=3))
def test_equal_digests_are_equal_trees(one: dict[bytes, object], two: dict[bytes, object]) -> None:
    with tempfile.TemporaryDirectory(prefix="gr-") as directory:
        found = []
        for name, tree in (("one", one), ("two", two), ("one again", dict(reversed(one.items())))):
            root = Path(directory, name)
            build((0o755, tree), os.fsencode(root))
            found.append(measure(root))
        assert found[0] == found[2]
        assert (found[0].digest == found[1].digest) == (one == two)


def test_a_walk_goes_in_the_order_of_bytes_and_parents_first(tmp_path: Path) -> None:
    for name in (b"b", b"a/x", b"a-", b"\xff\xfe/y", b"Z"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT, 0o644))
    paths = [entry.path for entry in walk(tmp_path)]
    assert paths == [b".", b"Z", b"a", b"a/x", b"a-", b"b", b"\xff\xfe", b"\xff\xfe/y"]


def test_links_lead_nowhere(tmp_path: Path) -> None:
    root = lay(tmp_path / "root")
    (root / "loop").symlink_to("loop")
    (root / "up").symlink_to("..")
    (root / "away").symlink_to("/etc/passwd")
    assert measure(root).entries == 11
    (tmp_path / "to it").symlink_to(root)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        measure(tmp_path / "to it")


def test_more_large_files_than_may_be_open_at_once(tmp_path: Path) -> None:
    for number in range(150):
        with open(tmp_path / str(number), "wb") as file:
            file.truncate(1 << 18)
    (tmp_path / "small").write_bytes(b"x")
    assert measure(tmp_path).size == 150 * (1 << 18) + 1


def test_holes_are_passed_over_and_count_as_the_zeros_that_they_are(tmp_path: Path) -> None:
    size = (3 << 20) + 5
    for name, end in (("holes", 0), ("zeros", size)):
        (tmp_path / name).mkdir()
        with open(tmp_path / name / "file", "wb") as file:
            file.write(bytes(end))
            file.truncate(size)
            file.seek(1 << 20)
            file.write(b"x")
    holes, zeros = (measure(tmp_path / name) for name in ("holes", "zeros"))
    assert holes == zeros
    assert room(tmp_path / "holes") <= room(tmp_path / "zeros")
    digests = {holes.digest}
    for place, byte in ((1 << 20, b"y"), ((1 << 20) + 1, b"x"), (size - 1, b"x"), (size, b"\0")):
        with open(tmp_path / "holes" / "file", "r+b") as file:
            file.seek(place)
            file.write(byte)
        digests.add(measure(tmp_path / "holes").digest)
    assert len(digests) == 5


def test_a_hole_that_nobody_could_read_to_its_end(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 42)
        file.seek(1 << 41)
        file.write(b"x")
    found = measure(tmp_path)
    assert found.size == 1 << 42
    os.truncate(tmp_path / "large", (1 << 42) - 1)
    assert measure(tmp_path).digest != found.digest


def test_files_that_nobody_may_read(tmp_path: Path, as_root: None) -> None:
    root = lay(tmp_path / "root")
    for name in ("dir/file", "large", "dir/empty", "dir"):
        (root / name).chmod(0)
    assert measure(root).entries == 8


def test_directories_deeper_than_any_path(tmp_path: Path) -> None:
    depth, name = 3000, "d" * 40
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir(name, 0o755, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("file", os.O_CREAT, 0o644, dir_fd=here))
        found = measure(tmp_path)
        os.rename("file", "elif", src_dir_fd=here, dst_dir_fd=here)
        assert found.entries == depth + 1 and found.digest != measure(tmp_path).digest
        os.unlink("elif", dir_fd=here)
        for _ in range(depth):  # no one else could remove it
            above = os.open("..", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = above
            os.rmdir(name, dir_fd=here)
    finally:
        os.close(here)


def test_a_directory_that_moves_meanwhile_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "root" / "dir" / "below").mkdir(parents=True)
    (tmp_path / "root" / "dir" / "below" / "file").touch()
    steps = walk(tmp_path / "root")
    while next(steps).name != b"file":
        pass
    (tmp_path / "root" / "dir" / "below").rename(tmp_path / "below")
    with pytest.raises(OSError, match="moved while it was read"):
        list(steps)


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        measure(tmp_path / "none")
