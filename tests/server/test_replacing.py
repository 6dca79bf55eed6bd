"""One version of an app in the place of another, under requests of all kinds."""

import http.client
import os
import socket
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import greenroom
from greenroom.model import web_tokens
from greenroom.model.settings import Settings
from greenroom.server.http import exchange
from greenroom.server.machine import this_machine
from greenroom.testing import Cluster
from tests.conftest import wait_for


def answering():
    """Answers with its version; ``/wait`` as soon as a file is there; a WebSocket stays until its client leaves."""

    async def application(scope, receive, send):
        import asyncio
        import os

        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            return
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        if scope["path"].endswith("/wait"):
            print("waits", flush=True)
            while not os.path.exists(os.environ["GO"]):
                await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": os.environ["VERSION"].encode()})

    return application


@pytest.fixture
def cluster():
    with Cluster(settings=Settings(sandbox="process", exit_grace=5.0, cancel_grace=1.0)) as made:
        yield made


class Version:
    """One of them; ``with`` it for as long as it is there."""

    def __init__(self, number, go, factory=answering, port=0, **options):
        self.app = greenroom.App("t")
        factory = types.FunctionType(factory.__code__, factory.__globals__, "answering")
        environment = {"VERSION": str(number), "GO": str(go), "PORT": str(port)}
        auth = options.pop("requires_proxy_auth", False)
        web = greenroom.web_server(port) if port else greenroom.asgi_app(requires_proxy_auth=auth)
        several = greenroom.concurrent(max_inputs=options.pop("max_inputs", 10))(web(factory))
        self.function = self.app.function(serialized=True, env=environment, **options)(several)
        self.ended = False

    def start(self, before=None):
        self.app.start(replaces=before.app.app_id if before is not None else "")
        self.url = urlsplit(self.function.web_url)
        return self

    def end(self, drain=0.0):
        self.ended = True
        self.app.stop(drain=drain)

    def get(self, path="/", headers=None):
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)
        try:
            connection.request("GET", self.url.path + path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def running(self, cluster):
        """Whether a container of it has an input."""
        return any(r["state"] == "RUNNING" for r in cluster.containers() if r["app_id"] == self.app.app_id)


@pytest.fixture
def versions(tmp_path):
    made = []

    def make(number, **options):
        made.append(Version(number, tmp_path / "go", **options))
        return made[-1]

    yield make
    for version in made:
        if not version.ended and version.app.app_id:
            version.end()


def test_what_has_begun_finishes_where_it_is_and_the_rest_goes_to_the_new_one(cluster, versions, tmp_path):
    one = versions(1).start()
    assert one.get() == (200, b"1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.get, "/wait")
        wait_for(lambda: one.running(cluster), what="it has begun")
        two = versions(2).start(before=one)
        assert two.url == one.url
        assert two.get() == (200, b"2")
        ending = threading.Thread(target=one.end, args=(30.0,))
        ending.start()
        assert two.get() == (200, b"2")
        (tmp_path / "go").touch()
        assert waiting.result() == (200, b"1")
        ending.join()


def test_what_no_container_has_begun_with_moves(cluster, versions, tmp_path):
    one = versions(1, max_inputs=1, max_containers=1).start()
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(one.get, "/wait")
        wait_for(lambda: one.running(cluster), what="it has begun")
        others = [pool.submit(one.get) for _ in range(5)]
        wait_for(lambda: cluster.on_server(lambda server: sum(
            len(p.queue) for f in server.functions.values() for p in f.pools.values())) == 5, what="they wait")  # fmt: skip
        two = versions(2).start(before=one)
        assert [other.result() for other in others] == [(200, b"2")] * 5
        (tmp_path / "go").touch()
        assert first.result() == (200, b"1")
        one.end(30.0)
        assert two.get() == (200, b"2")


def asked(cluster, count):
    """So many requests are being answered."""
    wait_for(
        lambda: cluster.on_server(lambda server: len(server.web._ingress._exchanges)) == count, what="they are asked"
    )


def test_what_waits_for_its_body_goes_to_the_new_one(cluster, versions, monkeypatch):
    monkeypatch.setattr(exchange, "SOON", 60.0)
    one = versions(1).start()
    connection = http.client.HTTPConnection(one.url.hostname, one.url.port, timeout=60)
    connection.putrequest("POST", f"{one.url.path}/")
    connection.putheader("Content-Length", "3")
    connection.endheaders()
    asked(cluster, 1)
    versions(2).start(before=one)
    one.end()
    connection.send(b"abc")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"2")
    connection.close()


def test_what_waits_at_the_gate_goes_to_the_new_one(cluster, versions):
    one = versions(1, requires_proxy_auth=True).start()
    token, secret = web_tokens.create(cluster.home, "ours")
    kept = cluster.home / web_tokens.FILE
    text = kept.read_text()
    kept.unlink()
    os.mkfifo(kept)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.get, "/", {"Modal-Key": token.id, "Modal-Secret": secret})
        with kept.open("w") as reader_waits:
            versions(2, requires_proxy_auth=True).start(before=one)
            one.end()
            reader_waits.write(text)
        assert waiting.result() == (200, b"2")


def test_a_class_is_asked_for_the_same_parameters_by_the_new_one(cluster, tmp_path):
    go = str(tmp_path / "go")

    def version(number):
        app = greenroom.App("t")

        @app.cls(serialized=True, max_containers=1)
        class Model:
            size: int = greenroom.parameter(default=1)

            @greenroom.wsgi_app()
            def api(self):
                import os
                import time

                def application(environ, start_response):
                    while environ["PATH_INFO"] == "/wait" and not os.path.exists(go):
                        time.sleep(0.01)
                    start_response("200 OK", [])
                    return [f"{number} {self.size}".encode()]

                return application

        return app, Model

    def get(path):
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        try:
            connection.request("GET", url.path + path)
            return connection.getresponse().read()
        finally:
            connection.close()

    one, model = version(1)
    one.start()
    url = urlsplit(model().api.web_url)
    two, _ = version(2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(get, "/wait?size=3")
        wait_for(lambda: [c["state"] for c in cluster.containers()] == ["RUNNING"], what="it has begun")
        second = pool.submit(get, "/?size=3")
        asked(cluster, 2)
        two.start(replaces=one.app_id)
        assert second.result() == b"2 3"
        (tmp_path / "go").touch()
        assert first.result() == b"1 3"
    one.stop()
    two.stop()


def test_past_the_drain_a_request_without_response_is_answered_by_the_new_one(cluster, versions, tmp_path):
    one = versions(1).start()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.get, "/wait")
        wait_for(lambda: one.running(cluster), what="it has begun")
        two = versions(2).start(before=one)
        one.end(0.2)
        wait_for(lambda: two.running(cluster), what="it has begun anew")
        (tmp_path / "go").touch()
        assert waiting.result() == (200, b"2")


def test_past_the_drain_a_websocket_is_told_to_come_again(cluster, versions):
    one = versions(1).start()
    url = f"ws://{one.url.netloc}{one.url.path}"
    with connect(url) as client:
        versions(2).start(before=one)
        one.end(0.2)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert closed.value.rcvd.code == 1012


def test_a_version_that_can_not_start_leaves_the_one_before(cluster, versions):
    one = versions(1).start()
    assert one.get() == (200, b"1")
    broken = greenroom.App("t")

    def answering():
        raise RuntimeError("no model")

    broken.function(serialized=True)(greenroom.asgi_app()(answering))
    with pytest.raises(greenroom.ExecutionError, match="no model"):
        broken.start(replaces=one.app.app_id)
    assert one.get() == (200, b"1")


def endless():
    """Starts for ever, and says that it does."""
    import os
    import time

    while True:
        open(os.environ["GO"], "w").close()
        time.sleep(0.01)


def test_one_that_is_stopped_as_it_starts_changes_nothing(cluster, versions, tmp_path):
    one = versions(1).start()
    assert one.get() == (200, b"1")
    two = versions(2, factory=endless)
    two.ended = True  # by others
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(two.start, before=one)
        wait_for((tmp_path / "go").exists)
        (starts,) = cluster.on_server(lambda server: [app for app in server.apps.values() if app.replaces])
        cluster.on_server(lambda server: server.stop_app(starts, "the test stops it"))
        with pytest.raises(greenroom.ExecutionError, match="t was stopped"):
            starting.result(timeout=20)
    assert one.get() == (200, b"1")


def test_a_cold_one_is_replaced_at_once(cluster, versions):
    one = versions(1).start()
    two = versions(2).start(before=one)
    assert cluster.containers() == []
    one.end()
    assert two.get() == (200, b"2")


def test_endpoints_that_the_new_one_lacks_are_gone(cluster, versions):
    one = versions(1).start()
    other = greenroom.App("t")
    other.function(serialized=True)(lambda: 1)
    other.start(replaces=one.app.app_id)
    try:
        assert one.get()[0] == 404
    finally:
        other.stop()


def test_an_endpoint_of_another_app_is_not_replaced(cluster, versions):
    one = versions(1).start()
    other = greenroom.App("u")
    other.function(serialized=True)(lambda: 1)
    other.start()
    thief = greenroom.App("u")
    factory = types.FunctionType(answering.__code__, answering.__globals__, "answering")
    thief.function(serialized=True)(greenroom.asgi_app(label=one.url.path[1:])(factory))
    with pytest.raises(greenroom.InvalidError, match="would both answer at"):
        thief.start(replaces=other.app_id)
    assert one.get() == (200, b"1")
    other.stop()


def listening():
    """Starts a server that answers with its version, on a port of the machine."""
    import os
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + os.environ["VERSION"].encode())

        def log_message(self, *args): ...

    server = HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def test_a_server_on_a_port_leaves_it_to_the_next_one(cluster, versions):
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    one = versions(1, factory=listening, port=port).start()
    assert one.get() == (200, b"1")
    two = versions(2, factory=listening, port=port).start(before=one)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(two.get)
        wait_for(lambda: len(cluster.containers()) == 2, what="one of it waits for the port")
        one.end(30.0)
        assert waiting.result() == (200, b"2")


def shop(version, default, entered):
    """A class that is asked for by name; it enters by what ``entered`` does."""
    app = greenroom.App("t")

    class Shop:
        name: str = greenroom.parameter(**default)

        @greenroom.enter()
        def load(self):
            entered()

        @greenroom.asgi_app()
        def api(self):
            async def application(scope, receive, send):
                if scope["type"] != "http":
                    raise RuntimeError("no lifespan")
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": f"{version} {self.name}".encode()})

            return application

    return app, app.cls(serialized=True)(Shop)


def ask_for(cls, name):
    with urlopen(f"{cls(name=name).api.web_url}/?name={name}") as response:
        return response.read()


def test_what_moves_keeps_its_parameters(cluster, tmp_path):
    def wait():
        import time

        while not (tmp_path / "go").exists():
            time.sleep(0.01)

    (one, shop_one), (two, _) = shop(1, {"default": "nothing"}, wait), shop(2, {"default": "nothing"}, lambda: None)
    one.start()
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask_for, shop_one, "tea")
            wait_for(lambda: [r["state"] for r in cluster.containers()] == ["ENTERING"], what="it enters")
            two.start(replaces=one.app_id)
            assert waiting.result() == b"2 tea"
    finally:
        (tmp_path / "go").touch()
        two.stop()
        one.stop()


def test_a_class_that_can_not_start_with_the_parameters_that_are_asked_for(cluster):
    def fail():
        raise RuntimeError("no model")

    (one, shop_one), (two, _) = shop(1, {}, lambda: None), shop(2, {}, fail)
    one.start()
    try:
        assert ask_for(shop_one, "tea") == b"1 tea"
        with pytest.raises(greenroom.ExecutionError, match="no model"):
            two.start(replaces=one.app_id)
        assert ask_for(shop_one, "tea") == b"1 tea"
    finally:
        two.stop()
        one.stop()


def named(version, enter, *, by_constructor=False):
    """A class with parameters that is not on the web; its containers enter by what ``enter`` does."""
    app = greenroom.App("t")

    class Called:
        @greenroom.enter()
        def load(self):
            enter()

        @greenroom.method()
        def get(self):
            return version, self.name

    if by_constructor:

        class Named(Called):
            def __init__(self, name, size=1):
                self.name = name

    else:

        class Named(Called):
            name: str = greenroom.parameter()

    return app, app.cls(serialized=True)(Named)


@pytest.mark.parametrize("by_constructor", [False, True])
def test_a_class_that_is_not_on_the_web_is_warm_with_the_parameters_it_is_called_with(cluster, by_constructor):
    one, named_one = named(1, lambda: None, by_constructor=by_constructor)
    two, named_two = named(2, lambda: None, by_constructor=by_constructor)
    one.start()
    try:
        assert [named_one(name=name).get.remote() for name in ("tea", "milk")] == [(1, "tea"), (1, "milk")]
        two.start(replaces=one.app_id)
        warm = {r["id"] for r in cluster.containers() if r["app_id"] == two.app_id and r["state"] == "IDLE"}
        assert len(warm) == 2
        assert [named_two(name=name).get.remote() for name in ("tea", "milk")] == [(2, "tea"), (2, "milk")]
        assert {r["id"] for r in cluster.containers() if r["app_id"] == two.app_id} == warm
    finally:
        two.stop()
        one.stop()


def test_nor_does_one_take_over_that_can_not_start_with_them(cluster):
    def fail():
        raise RuntimeError("no model")

    (one, named_one), (two, _) = named(1, lambda: None), named(2, fail)
    one.start()
    try:
        assert named_one(name="tea").get.remote() == (1, "tea")
        with pytest.raises(greenroom.ExecutionError, match="no model"):
            two.start(replaces=one.app_id)
        assert named_one(name="tea").get.remote() == (1, "tea")
    finally:
        two.stop()
        one.stop()


def test_without_room_for_both_requests_wait_until_the_old_one_has_made_room(cluster, versions, tmp_path):
    most = int(this_machine().memory * 0.6)
    one = versions(1, memory=most).start()
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(one.get, "/wait")
        wait_for(lambda: one.running(cluster), what="it has begun")
        two = versions(2, memory=most).start(before=one)
        waiting = pool.submit(two.get)
        wait_for(lambda: len(cluster.containers()) == 2, what="one of it waits for room")
        assert not waiting.done()
        ending = threading.Thread(target=one.end, args=(30.0,))
        ending.start()
        (tmp_path / "go").touch()
        assert busy.result() == (200, b"1")
        assert waiting.result() == (200, b"2")
        ending.join()
