"""When a worker is lost, the next one has what it had: what it was told in its last moment, and its directory."""

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
        os.kill(server.worker_process.pid, signal.SIGKILL)
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


def test_one_that_the_server_can_not_listen_to_leaves_all_to_the_next(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    def end(x):
        if x == "end":
            os._exit(3)
        return os.getpid()

    def fail_once(server):
        settle = server.lifecycle.settle

        def settle_once(*arguments):
            server.lifecycle.settle = settle
            raise RuntimeError("this once")

        server.lifecycle.settle = settle_once
        server.loop.set_exception_handler(lambda _, context: said.append(str(context["exception"])))

    said = []
    with app.run():
        first = end.remote("")
        cluster.on_server(fail_once)
        with pytest.raises(greenroom.ContainerCrashed):
            end.remote("end")
        assert end.remote("") != first
        assert (cluster.run / "containers").is_dir()
    assert said == ["this once"]
