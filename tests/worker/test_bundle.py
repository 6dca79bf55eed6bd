"""Unpacking what a program brought: what comes out, and what is refused."""

import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from greenroom.model.errors import ExecutionError
from greenroom.server.bundles import Bundles
from greenroom.worker.bundle import ABANDONED, UNUSED, remove_abandoned, remove_unused, unpack
from greenroom.worker.removal import remove_tree
from tests.worker.peer import tar_of

DIGEST = "d" * 64


def put(code: Path, data: bytes) -> Path:
    (code / f"{DIGEST}.tar").write_bytes(data)
    return code


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def test_files_come_out_read_only_and_compiled(tmp_path: Path) -> None:
    files = {
        "a.py": b"import b.c\n",
        "b/__init__.py": b"",
        "b/c.py": b"x = 1\n",
        "data.bin": bytes(256),
        "broken.py": b"(",
    }
    target = unpack(put(tmp_path, tar_of(files)), DIGEST)
    assert target == tmp_path / DIGEST
    assert {name: (target / name).read_bytes() for name in files} == files
    assert not [path for path in [target, *target.rglob("*")] if path.stat().st_mode & 0o222]
    assert len(list(target.rglob("*.pyc"))) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [DIGEST, f"{DIGEST}.tar"]
    remove_tree(target)
    assert not target.exists()


def test_compiled_files_are_used_without_a_look_at_the_source(tmp_path: Path) -> None:
    target = unpack(put(tmp_path, tar_of({"a.py": b"def f(): raise KeyError\n"})), DIGEST)
    script = "import a; print(a.__cached__, a.f.__code__.co_filename)"
    out = subprocess.run([sys.executable, "-v", "-c", script], cwd=target, capture_output=True, text=True, check=True)
    assert out.stdout.split()[1] == str(target / "a.py")
    assert "matches" in out.stderr and f"code object from '{target}/__pycache__/a." in out.stderr


def test_programs_stay_executable_and_nothing_gains_rights(tmp_path: Path) -> None:
    data = archive_of((member("run.sh", mode=0o4777), b"#!/bin/sh\n"), (member("f", mode=0o7), b""))
    target = unpack(put(tmp_path, data), DIGEST)
    assert [(target / name).stat().st_mode & 0o7777 for name in ("run.sh", "f")] == [0o555, 0o444]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive_of((member("../out"), b"x")), "'../out' in it would lie outside"),
        (archive_of((member("a/../../out"), b"x")), "would lie outside"),
        (archive_of((member("/out"), b"x")), "'/out' in it would lie outside"),
        (archive_of((member("l", tarfile.SYMTYPE, "/etc"), b"")), "'l' in it is neither file nor directory"),
        (archive_of((member("f"), b""), (member("l", tarfile.LNKTYPE, "f"), b"")), "neither file nor directory"),
        (archive_of((member("null", tarfile.CHRTYPE), b"")), "neither file nor directory"),
        (archive_of((member("fifo", tarfile.FIFOTYPE), b"")), "neither file nor directory"),
        (archive_of((member("a"), b"1"), (member("a"), b"2")), "File exists"),
        (archive_of((member("a"), b"1"), (member("a/b"), b"2")), "File exists"),
        (archive_of((member("n" * 300), b"")), "File name too long"),
        (b"", "empty file"),
        (b"no tar at all" * 100, ""),
        (tar_of({"f": bytes(4096)})[:2048], "unexpected end of data"),
    ],
)
def test_a_hostile_or_damaged_bundle_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    code = tmp_path / "code"
    code.mkdir()
    put(code, data)
    with pytest.raises(ExecutionError, match="can't unpack the program's files") as refused:
        unpack(code, DIGEST)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert [path.name for path in code.iterdir()] == [f"{DIGEST}.tar"]
    assert [path.name for path in tmp_path.iterdir()] == ["code"]


@pytest.mark.parametrize("digest", ["", "..", "../" + "d" * 64, "D" * 64])
def test_a_digest_that_is_none_is_refused(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ExecutionError, match="no digest of a bundle"):
        unpack(tmp_path, digest)


def test_a_missing_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match="No such file"):
        unpack(tmp_path, DIGEST)


def test_several_at_once_get_the_same_directory(tmp_path: Path) -> None:
    put(tmp_path, tar_of({f"m{number}.py": b"x = 1\n" * 50 for number in range(40)}))
    start = threading.Barrier(6)
    results: list[Path] = []

    def one() -> None:
        start.wait()
        results.append(unpack(tmp_path, DIGEST))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / DIGEST] * 6
    assert sorted(path.name for path in tmp_path.iterdir()) == [DIGEST, f"{DIGEST}.tar"]


def test_only_what_is_long_abandoned_is_removed(tmp_path: Path) -> None:
    for name in (".unpack-old", ".unpack-new", DIGEST):
        (tmp_path / name / "d").mkdir(parents=True)
    (tmp_path / ".new-old").touch()
    long_ago = time.time() - ABANDONED - 60
    for name in (".unpack-old", ".new-old", DIGEST):
        os.utime(tmp_path / name, (long_ago, long_ago))
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".unpack-new", DIGEST]


def test_what_no_program_has_used_for_long_is_removed(tmp_path: Path) -> None:
    target = unpack(put(tmp_path, tar_of({"a.py": b""})), DIGEST)
    tar = tmp_path / f"{DIGEST}.tar"
    remove_unused(tmp_path)
    assert target.is_dir()
    long_ago = time.time() - UNUSED - 10
    os.utime(tar, (long_ago, long_ago))
    assert Bundles(tmp_path).has(DIGEST), "used once more"
    remove_unused(tmp_path)
    assert target.is_dir()
    os.utime(tar, (long_ago, long_ago))
    remove_unused(tmp_path)
    assert not list(tmp_path.iterdir())
    assert not Bundles(tmp_path).has(DIGEST)
