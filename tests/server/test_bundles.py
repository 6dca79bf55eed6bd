"""Bundles on a server's disk: whole or not there."""

import hashlib
import os
import subprocess
import sys

import pytest

from greenroom.model.errors import ExecutionError, InvalidError
from greenroom.server.bundles import Bundles
from greenroom.wire.payload import as_payload, blocks, digest_of


def sha(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def code(tmp_path):
    return tmp_path / "code"


@pytest.mark.parametrize("size", [0, 1, 1024**2, 3 * 1024**2 + 5])
@pytest.mark.parametrize("inline", [10 * 1024**2, 0])
def test_what_was_put_is_there(code, size, inline):
    data = os.urandom(size)
    payload = as_payload(data, inline)
    assert b"".join(blocks(payload)) == data
    assert digest_of(payload) == (sha(data) if data else "")
    bundles = Bundles(code)
    assert not bundles.has(sha(data))
    for _ in range(2):  # blocks() and the digest above have moved no position either
        bundles.put(sha(data), payload)
    assert bundles.has(sha(data))
    assert os.listdir(code) == [f"{sha(data)}.tar"]
    assert (code / f"{sha(data)}.tar").read_bytes() == data


@pytest.mark.parametrize("inline", [10 * 1024**2, 0])
def test_what_arrived_damaged_is_not_kept(code, inline):
    with pytest.raises(InvalidError, match="arrived damaged"):
        Bundles(code).put(sha(b"one"), as_payload(b"x" * 2_000_000, inline))
    assert os.listdir(code) == []


@pytest.mark.parametrize("wrong", ["", "a" * 63, "../" + "a" * 61, "A" * 64, "a" * 64 + "\n"])
def test_what_is_no_digest(code, wrong):
    for act in (Bundles(code).has, lambda digest: Bundles(code).put(digest, b"")):
        with pytest.raises(InvalidError, match="is no digest of a bundle"):
            act(wrong)


def test_nothing_is_left_of_what_does_not_fit(code):
    """The kernel ends the writing of a file half-way, as a full disk does."""
    program = f"""
import resource, signal
from pathlib import Path
from greenroom.model.errors import ExecutionError
from greenroom.server.bundles import Bundles
from greenroom.wire.payload import as_payload

payload = as_payload(b"x" * 5_000_000, 1024)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
try:
    Bundles(Path({str(code)!r})).put({sha(b"x" * 5_000_000)!r}, payload)
except ExecutionError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "can't keep the program's files in" in done.stdout
    assert "File too large" in done.stdout
    assert os.listdir(code) == []


def test_a_directory_that_can_not_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExecutionError, match="can't keep the program's files"):
        Bundles(tmp_path / "file" / "code").put(sha(b"x"), b"x")


def test_a_large_one_passes_through_little_memory(code):
    """Half a GB, in a process that may have a quarter of that beside it."""
    program = f"""
import hashlib, resource
from pathlib import Path
from greenroom.server.bundles import Bundles
from greenroom.wire.payload import PayloadWriter

writer, found, block = PayloadWriter(1024, 1 << 40), hashlib.sha256(), bytes(1 << 20)
for _ in range(512):
    writer.write(block)
    found.update(block)
payload = writer.payload()
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (128 << 20), now + (128 << 20)))
Bundles(Path({str(code)!r})).put(found.hexdigest(), payload)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    (kept,) = code.iterdir()
    assert kept.stat().st_size == 512 << 20


def test_parts_make_a_whole_and_nothing_else_is_left(tmp_path):
    bundles, parts = Bundles(tmp_path / "code"), [b"one", b"two", b"three"]
    arriving = bundles.arriving(sha(b"".join(parts)))
    for part in parts[:-1]:
        arriving.take(part, more=True)
        assert not bundles.has(sha(b"".join(parts)))
    arriving.take(parts[-1], more=False)
    assert bundles.has(sha(b"".join(parts)))
    assert [path.name for path in (tmp_path / "code").iterdir()] == [f"{sha(b''.join(parts))}.tar"]


def test_parts_that_are_damaged_or_never_end_leave_nothing(tmp_path):
    bundles = Bundles(tmp_path / "code")
    arriving = bundles.arriving(sha(b"onetwo"))
    arriving.take(b"one", more=True)
    with pytest.raises(InvalidError, match="damaged"):
        arriving.take(b"other", more=False)
    unfinished = bundles.arriving(sha(b"onetwo"))
    unfinished.take(b"one", more=True)
    unfinished.discard()
    assert list((tmp_path / "code").iterdir()) == []


def test_somebody_elses_whole_ends_the_parts(tmp_path):
    bundles = Bundles(tmp_path / "code")
    arriving = bundles.arriving(sha(b"onetwo"))
    arriving.take(b"one", more=True)
    bundles.put(sha(b"onetwo"), b"onetwo")
    arriving.take(b"two", more=False)
    assert [path.name for path in (tmp_path / "code").iterdir()] == [f"{sha(b'onetwo')}.tar"]
