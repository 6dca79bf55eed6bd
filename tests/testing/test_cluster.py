"""The cluster by itself."""

import subprocess
import sys
from pathlib import Path

import pytest

import greenroom
from greenroom.testing import Cluster


def test_what_fails_on_the_server_is_raised_here():
    with Cluster() as cluster:
        with pytest.raises(ZeroDivisionError):
            cluster.on_server(lambda server: 1 // 0)
        assert cluster.on_server(lambda server: server.id) == "sv-test"


def test_it_is_refused_outside_of_its_time():
    cluster = Cluster()
    with pytest.raises(greenroom.InvalidError, match="isn't up"):
        cluster.containers()
    with cluster:
        pass
    with pytest.raises(greenroom.InvalidError, match="has ended"):
        cluster.containers()
    assert not cluster.home.exists()


ONCE = """
import greenroom
from greenroom.testing import Cluster

app = greenroom.App("once")

@app.function()
def f(x):
    return x + 1

if __name__ == "__main__":
    for _ in range(2):
        with Cluster() as cluster, app.run():
            assert f.remote(1) == 2
            code = (cluster.home / "code").resolve()
            print(code, *(f"{entry.name}:{entry.stat().st_ino}" for entry in sorted(code.iterdir())))
        assert not cluster.home.exists() and code.exists()
"""


def test_a_programs_files_are_unpacked_once_for_all_clusters_of_a_process(tmp_path):
    (tmp_path / "once.py").write_text(ONCE)
    done = subprocess.run([sys.executable, tmp_path / "once.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    code, *entries = first.split()
    assert len(entries) == 2, "the archive, and what it was unpacked to"
    assert not Path(code).exists(), "it went with the process"
