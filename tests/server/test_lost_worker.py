"""What a worker was told in its last moment, the next one is told again."""

import os
import signal

import pytest

import greenroom

HELD = """\
import os
open(os.path.join({marks!r}, "starting"), "a").write(".")
open(os.path.join({marks!r}, "never")).close()
"""


@pytest.mark.parametrize("reason", ["no longer needed", "its start took too long"])
def test_a_container_that_was_to_be_killed_is(cluster, tmp_path, reason):
    """Its interpreter waits for ever, so that nothing but a kill ends it."""
    os.mkfifo(tmp_path / "never")
    (tmp_path / "sitecustomize.py").write_text(HELD.format(marks=str(tmp_path)))
    app = greenroom.App("t")

    @app.function(serialized=True, env={"PYTHONPATH": str(tmp_path)})
    def f():
        return None

    def lose(server):
        (container,) = server.lifecycle.containers.live()
        os.kill(server._worker_pid, signal.SIGKILL)
        if reason == "no longer needed":
            server.lifecycle.stop(container, reason)
        else:
            server.lifecycle.fault(container, reason)

    with app.run():
        call = f.spawn()
        cluster.wait_until(lambda: (tmp_path / "starting").exists())
        (first,) = cluster.containers()
        call.cancel()
        cluster.on_server(lose)
        cluster.wait_until(lambda: first["id"] not in [c["id"] for c in cluster.containers()])
