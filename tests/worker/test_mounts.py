"""Mounts by system call, in a mount namespace that ends with the process that made it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
from greenroom.worker import mounts

source, target, asked = sys.argv[1], sys.argv[2], int(sys.argv[3])
mounts.leave_mount_namespace()
mounts.mount("tmpfs", source, mounts.NOEXEC | mounts.NOSUID)
os.mkdir(f"{source}/shown")
mounts.mount("tmpfs", f"{source}/shown", int(sys.argv[4]))
mounts.bind(f"{source}/shown", target, asked)
print(json.dumps(os.statvfs(target).f_flag & 15))
"""
RDONLY, NOSUID, NODEV, NOEXEC = os.ST_RDONLY, os.ST_NOSUID, os.ST_NODEV, os.ST_NOEXEC


@pytest.mark.parametrize(
    ("has", "asked", "flags"),
    [
        (0, 0, 0),
        (0, RDONLY | NOSUID | NODEV, RDONLY | NOSUID | NODEV),
        (NOEXEC, NOSUID, NOEXEC | NOSUID),
        (NOEXEC | NODEV | NOSUID, RDONLY, RDONLY | NOEXEC | NODEV | NOSUID),
        (RDONLY, NOSUID | NODEV, RDONLY | NOSUID | NODEV),
    ],
)
def test_a_bind_allows_no_more_than_its_source(tmp_path: Path, has: int, asked: int, flags: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts need root")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    command = [sys.executable, "-c", SCRIPT, source, target, str(asked), str(has)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == flags
    assert not os.path.ismount(target), "nobody else sees it"
