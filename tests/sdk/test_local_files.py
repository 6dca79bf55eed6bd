"""What of a directory goes into an image, and the one form that it has as a tar file."""

import hashlib
import io
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenroom
from greenroom.sdk.file_patterns import FilePatternMatcher
from greenroom.sdk.local_files import Entry, LocalFiles, find_directory, find_file, header
from greenroom.wire.payload import Descriptor, in_memory


def whole(files, **size):
    """Its tar file."""
    return b"".join(in_memory(part) for part, _ in files.parts(1 << 30, **size))


def nothing(path):
    return False


def found(directory, *patterns, prefix=""):
    ignore = FilePatternMatcher(*patterns) if patterns else nothing
    return find_directory("here", str(directory), ignore, prefix)


def contents(files):
    """By name: a file's bytes and whether it can be run, or None of a directory. What a container's unpacking sees."""
    data = whole(files)
    assert hashlib.sha256(data).hexdigest() == files.digest
    seen = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            assert (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 0, "")
            if member.isdir():
                seen[member.name] = None
            else:
                assert member.isreg()
                assert member.mode in (0o644, 0o755)
                seen[member.name] = (archive.extractfile(member).read(), member.mode == 0o755)
    assert list(seen) == sorted(seen), "in one order, whatever the file system's"
    return seen


def make(directory, files):
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# ---- one form ----


def test_the_same_files_have_one_digest_wherever_and_whenever(tmp_path):
    names = [f"{number % 7}/{number}" for number in range(40)]
    make(tmp_path / "one", dict.fromkeys(names, "x"))
    make(tmp_path / "two", dict.fromkeys(reversed(names), "x"))
    for name in names[:5]:
        os.utime(tmp_path / "two" / name, (1, 1))
        (tmp_path / "two" / name).chmod(0o600)
    assert found(tmp_path / "one").digest == found(tmp_path / "two").digest
    assert found(tmp_path / "one").digest != found(tmp_path / "one", prefix="below").digest


@pytest.mark.parametrize(
    "change",
    [
        lambda at: (at / "d/a").write_text("other"),
        lambda at: (at / "d/a").chmod(0o744),
        lambda at: (at / "d/a").rename(at / "d/b"),
        lambda at: (at / "d/new").touch(),
        lambda at: (at / "d/a").unlink(),
        lambda at: (at / "empty/full").touch(),
        lambda at: (at / "another").mkdir(),
        lambda at: (at / "empty").rmdir(),
    ],
)
def test_what_counts(tmp_path, change):
    make(tmp_path, {"d/a": "text", "c": ""})
    (tmp_path / "empty").mkdir()
    before = found(tmp_path).digest
    change(tmp_path)
    assert found(tmp_path).digest != before


@given(st.dictionaries(st.text("ab/", min_size=1, max_size=3), st.binary(max_size=2), max_size=4), st.booleans())
def test_different_files_have_different_digests(texts, executable):
    """No content can be taken for a name, or for where another file ends."""
    with tempfile.TemporaryDirectory() as directory:
        entries = {}
        for number, (name, data) in enumerate(texts.items()):
            path = os.path.join(directory, str(number))
            with open(path, "wb") as file:
                file.write(data)
            entries[name.strip("/") or "a"] = Entry(path, executable)
        files = LocalFiles(entries)
        seen = {name: (Path(entry.path).read_bytes(), executable) for name, entry in entries.items()}
        assert contents(files) == seen


def test_a_large_bundle_travels_in_a_descriptor(tmp_path):
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    ((payload, more),) = found(tmp_path).parts(1024)
    assert not more
    assert isinstance(payload, Descriptor)
    assert hashlib.sha256(in_memory(payload)).hexdigest() == found(tmp_path).digest


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, (1 << 20) + 1])
def test_sizes_around_those_of_blocks(tmp_path, size):
    (tmp_path / "a").write_bytes(b"x" * size)
    (tmp_path / "b").write_bytes(b"end")
    assert contents(found(tmp_path)) == {"a": (b"x" * size, False), "b": (b"end", False)}


@pytest.mark.parametrize("size", [8 * 1024**3 - 1, 8 * 1024**3, 9 * 1024**3 + 5])
def test_a_size_that_no_plain_header_holds(tmp_path, size):
    """Its content is a hole: nothing of it is written or read."""
    archive = tmp_path / "large.tar"
    with archive.open("wb") as file:
        file.write(header("large", Entry("somewhere", executable=False), size))
        file.truncate(file.tell() + size + -size % 512)
        file.seek(0, os.SEEK_END)
        file.write(header("after", Entry("somewhere", executable=True), 0) + bytes(1024))
    with tarfile.open(archive, "r:") as opened:
        assert [(member.name, member.size, member.mode) for member in opened] == [
            ("large", size, 0o644),
            ("after", 0, 0o755),
        ]


# ---- what is in a directory ----


def test_a_directory_as_it_is(tmp_path):
    make(tmp_path, {"a": "A", "d/b": "B", "d/e/f/g": "G", ".hidden/h": "H"})
    (tmp_path / "d" / "run").write_text("#!")
    (tmp_path / "d" / "run").chmod(0o750)
    for name in ("empty", "d/empty/nested"):
        (tmp_path / name).mkdir(parents=True)
    expected = {
        "a": (b"A", False),
        "d/b": (b"B", False),
        "d/e/f/g": (b"G", False),
        ".hidden/h": (b"H", False),
        "d/run": (b"#!", True),
        "empty": None,
        "d/empty/nested": None,
    }
    assert contents(found(tmp_path)) == expected
    assert contents(found(tmp_path, prefix="p/q")) == {f"p/q/{name}": entry for name, entry in expected.items()}


def test_an_empty_directory_is_nothing_that_could_be_named(tmp_path):
    assert contents(found(tmp_path)) == {}


@pytest.mark.parametrize(
    "name",
    [
        "with spaces  and\ttabs",
        "line\nbreak",
        "ünïcödé-文件-🎉",
        os.fsdecode(b"latin-\xe4\xff"),
        "back\\slash",
        "-dash",
        "~",
        "n" * 255,
        "ö" * 127,
        "%s{}",
        "a" * 100 + "/" + "b" * 100 + "/" + "c" * 200,
    ],
    ids=lambda name: ascii(name)[:30],
)
def test_names(tmp_path, name):
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    path.write_text("x")
    assert contents(found(tmp_path / "in")) == {name: (b"x", False)}
    assert contents(find_file("here", str(path), os.path.basename(name))) == {os.path.basename(name): (b"x", False)}
    assert found(tmp_path / "in").digest == found(tmp_path / "in").digest


def test_what_is_ignored(tmp_path):
    make(tmp_path, {"a.py": "", "a.log": "", "d/b.log": "", "d/b.py": "", "only/c.log": "", "gone/x/y": ""})
    (tmp_path / "gone" / "empty").mkdir()
    seen = contents(found(tmp_path, "**/*.log", "gone"))
    assert seen == {"a.py": (b"", False), "d/b.py": (b"", False), "only": None}
    assert set(contents(found(tmp_path, "**", "!**/*.py"))) == {"a.py", "d/b.py"}
    assert set(contents(found(tmp_path, "gone", "!gone/x"))) >= {"gone/x/y"}


def test_ignore_is_asked_of_paths_within_the_directory(tmp_path):
    make(tmp_path, {"a": "", "d/b": ""})
    asked = []
    find_directory("here", str(tmp_path), lambda path: bool(asked.append(path)))
    assert sorted(asked) == [Path("a"), Path("d"), Path("d/b")]


def test_links_are_followed(tmp_path):
    make(tmp_path, {"outside/d/b": "B", "outside/a": "A", "in/own": "O"})
    (tmp_path / "outside/a").chmod(0o755)
    (tmp_path / "in/file").symlink_to("../outside/a")
    (tmp_path / "in/directory").symlink_to(tmp_path / "outside/d")
    (tmp_path / "in/again").symlink_to("own")
    (tmp_path / "in/nowhere").symlink_to("missing")
    (tmp_path / "in/itself").symlink_to("itself")
    expected = {"file": (b"A", True), "directory/b": (b"B", False), "own": (b"O", False), "again": (b"O", False)}
    assert contents(found(tmp_path / "in")) == expected
    (tmp_path / "link").symlink_to("in")
    assert contents(found(tmp_path / "link")) == expected


def test_a_directory_may_be_linked_to_twice(tmp_path):
    make(tmp_path, {"shared/a": "A"})
    for name in ("one", "two"):
        (tmp_path / name).symlink_to("shared")
    assert set(contents(found(tmp_path))) == {"shared/a", "one/a", "two/a"}


@pytest.mark.parametrize("target", ["..", ".", "../.."])
def test_a_link_that_leads_back_up(tmp_path, target):
    make(tmp_path, {"in/d/a": "A"})
    (tmp_path / "in/d/loop").symlink_to(target)
    with pytest.raises(
        greenroom.InvalidError, match=r"here: .*/loop.* is a link that leads back .*; ignore=\['.*loop.*'\]"
    ):
        found(tmp_path / "in")
    assert set(contents(found(tmp_path / "in", "**/loop"))) == {"d/a"}


def test_two_links_that_lead_to_each_other(tmp_path):
    """Each path through them is longer than the last, and there are more of them at each turn."""
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"to{number}").symlink_to(f"../{other}")
    with pytest.raises(greenroom.InvalidError, match="leads back to a directory above it"):
        found(tmp_path)


def test_what_has_no_content_to_travel(tmp_path):
    make(tmp_path, {"a": "A"})
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "device").symlink_to("/dev/null")
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "fifo")
    here = os.open(tmp_path, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/socket")
        assert contents(found(tmp_path)) == {"a": (b"A", False), "d": None}
    os.close(here)


def test_many_files(tmp_path):
    for number in range(40):
        (tmp_path / f"{number:02}").mkdir()
        for other in range(50):
            (tmp_path / f"{number:02}" / f"{other:02}").write_text(f"{number} {other}")
    seen = contents(found(tmp_path))
    assert len(seen) == 2000
    assert seen["39/49"] == (b"39 49", False)


DEEP = """
import sys
from greenroom.sdk.local_files import find_directory

sys.setrecursionlimit(100)
print(*find_directory("here", sys.argv[1], lambda path: False).entries)
"""


def test_directories_deeper_than_the_interpreter_may_call_itself(tmp_path):
    deep = "/".join("d" * 200)
    (tmp_path / deep).mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", DEEP, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout == deep + "\n", done.stderr


# ---- what can't be read ----


def test_what_is_not_there_or_something_else(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(greenroom.InvalidError, match=f"here: there is no directory {tmp_path}/none"):
        found(tmp_path / "none")
    with pytest.raises(greenroom.InvalidError, match=f"here: {tmp_path}/file is a file: write add_local_file"):
        found(tmp_path / "file")
    with pytest.raises(greenroom.InvalidError, match=f"here: {tmp_path} is a directory: write add_local_dir"):
        find_file("here", str(tmp_path), "x")
    for name in ("none", "fifo"):
        with pytest.raises(greenroom.InvalidError, match=f"here: there is no file {tmp_path}/{name}"):
            find_file("here", str(tmp_path / name), "x")


def test_a_path_that_is_relative_is_told_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(greenroom.InvalidError, match=f"there is no file {tmp_path}/x"):
        find_file("here", "x", "x")


def test_a_file_that_goes_or_changes_before_it_is_sent(tmp_path):
    make(tmp_path, {"a": "A", "b": "B"})
    files = found(tmp_path)
    (tmp_path / "a").write_text("other")
    with pytest.raises(
        greenroom.InvalidError, match=f"{tmp_path} is to go into an image, and changed while it was read"
    ):
        list(files.parts(1024))
    (tmp_path / "a").unlink()
    with pytest.raises(
        greenroom.InvalidError, match=f"{tmp_path}/a is to go into an image, and can't be read: No such"
    ):
        list(files.parts(1024))


def test_a_file_with_less_in_it_than_it_said():
    """The kernel's own say 4,096 bytes, and have fewer."""
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    if not os.path.exists(path):
        pytest.skip("this kernel has none")
    with pytest.raises(greenroom.InvalidError, match=f"{path} is to go into an image, and became shorter while"):
        find_file("here", path, "x")


UNREADABLE = """
import os, sys
from pathlib import Path
import greenroom
from greenroom.sdk.file_patterns import FilePatternMatcher
from greenroom.sdk.local_files import find_directory
import tarfile, hashlib
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for patterns in ((), ("file",), ("directory",), ("file", "directory")):
    try:
        print(len(find_directory("here", sys.argv[1], FilePatternMatcher(*patterns)).digest))
    except greenroom.InvalidError as error:
        print(error)
"""


def test_what_the_user_may_not_read():
    with tempfile.TemporaryDirectory() as text:
        at = Path(text)
        make(at, {"file": "x", "directory/x": "x"})
        (at / "file").chmod(0)
        (at / "directory").chmod(0)
        at.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(at, 65534, 65534)
        done = subprocess.run([sys.executable, "-c", UNREADABLE, text], capture_output=True, text=True, check=False)
        (at / "directory").chmod(0o755)
    directory = f"here: can't read the directory {text}/directory: Permission denied"
    file = f"{text}/file is to go into an image, and can't be read: Permission denied"
    assert done.stdout.splitlines() == [directory, directory, file, "64"], done.stderr


def test_what_is_large_travels_in_parts(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 3_000_000)
    files = found(tmp_path)
    parts = list(files.parts(1024, 2_000_000))
    assert [more for _, more in parts] == [True] * (len(parts) - 1) + [False]
    assert len(parts) > 3
    assert all(len(part) < 4_000_000 for part, _ in parts)
    data = b"".join(in_memory(part) for part, _ in parts)
    assert data == whole(files)
    assert hashlib.sha256(data).hexdigest() == files.digest
