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

image = greenroom.Image.host().add_local_file(__file__, "/root/bound")
app = greenroom.App("once", image=image)

@app.function()
def f(x):
    return x + 1

if __name__ == "__main__":
    for _ in range(2):
        with Cluster() as cluster, app.run():
            assert f.remote(1) == 2
            found = {entry.name: entry for entry in (cluster.home / "code").iterdir()}
            compiled = min(found, key=len)
            print(compiled, found[compiled].stat().st_ino, found[compiled].resolve())
            assert not any(entry.is_symlink() for name, entry in found.items() if name.endswith(".files"))
        assert not cluster.home.exists()
"""


def test_a_programs_files_are_compiled_once_for_all_clusters_of_a_process(tmp_path):
    """What images bind is each cluster's own: root's plain processes can write it."""
    (tmp_path / "once.py").write_text(ONCE)
    done = subprocess.run([sys.executable, tmp_path / "once.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (name, number, first), again = (line.split() for line in done.stdout.splitlines())
    assert again[:2] == [name, number], "the same directory"
    assert not Path(first).exists() and not Path(again[2]).exists(), "it went with the process"
