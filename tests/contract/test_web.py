"""Web endpoints, as black boxes: what a client sees of small applications, over real HTTP."""

import http.client
import json
import socket
import time
import types
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import greenroom
from tests.conftest import wait_for
from tests.contract.conftest import settings_of


@pytest.fixture(scope="module", params=["process", "crun"])
def settings(request, _shared):
    """As for the whole suite, but for runc: what starts a container is nothing to what this is about."""
    return settings_of(request.param, _shared)


def request(url, method="GET", body=None, headers=None, timeout=30):
    """``(status, headers, body)``."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def served(cluster, factory, **options):
    """An app with one ASGI application; ``with`` it, and its URL."""
    app = greenroom.App("t")
    return app, app.function(serialized=True, **options)(greenroom.asgi_app()(fresh(factory)))


def fresh(factory):
    """A copy without marks: a function has one web decorator."""
    return types.FunctionType(factory.__code__, factory.__globals__, factory.__name__)


def echo():
    """Answers with what it was asked."""

    async def application(scope, receive, send):
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event["body"], event["more_body"]
        said = {
            **{name: scope[name] for name in ("method", "path", "root_path", "scheme", "http_version")},
            "query": scope["query_string"].decode(),
            "raw_path": scope["raw_path"].decode(),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "client": list(scope["client"]),
            "size": len(body),
        }
        await send(
            {
                "type": "http.response.start",
                "status": 201,
                "headers": [(b"content-type", b"application/json"), (b"x-one", b"1"), (b"x-one", b"2")],
            }
        )
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})

    return application


def test_a_request_arrives_as_it_was_and_its_response_too(cluster):
    app, function = served(cluster, echo)
    with app.run():
        url = function.web_url
        assert url.endswith("/t-echo-dev")
        assert function.get_web_url() == url
        headers = {"X-Mine": "\xe9", "Content-Type": "text/x"}
        status, found, body = request(f"{url}/a%20b/c?x=1&y=%2F", "POST", b"12345", headers)
        said = json.loads(body)
    assert status == 201
    assert found.get_all("x-one") == ["1", "2"]
    assert said["method"] == "POST"
    assert said["path"] == "/t-echo-dev/a b/c"
    assert said["raw_path"] == "/t-echo-dev/a%20b/c"
    assert said["root_path"] == "/t-echo-dev"
    assert (said["scheme"], said["http_version"], said["query"]) == ("http", "1.1", "x=1&y=%2F")
    assert ["x-mine", "\xe9"] in said["headers"]
    assert said["client"][0] == "127.0.0.1"
    assert said["size"] == 5


@pytest.mark.parametrize("size", [0, 1, 65_537, 20_000_000])
def test_bodies_of_all_sizes(cluster, size):
    app, function = served(cluster, echo)
    with app.run():
        _, _, body = request(function.web_url, "POST", b"x" * size)
        assert json.loads(body)["size"] == size
        _, _, body = request(function.web_url, "POST", (b"x" * 1000 for _ in range(size // 1000)))
        assert json.loads(body)["size"] == size // 1000 * 1000


def stream():
    """As many pieces as the path says, each as soon as the client has the one before."""

    async def application(scope, receive, send):
        count = int(scope["path"].rpartition("/")[2])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(count):
            await send({"type": "http.response.body", "body": b"%07d\n" % number * 8192, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    return application


def test_a_streamed_response_is_whole(cluster):
    app, function = served(cluster, stream)
    with app.run():
        status, headers, body = request(f"{function.web_url}/300")
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    assert body == b"".join(b"%07d\n" % number * 8192 for number in range(300)) + b"end"


def test_a_client_that_does_not_read_holds_up_its_container_alone(cluster):
    app = greenroom.App("t")
    several = greenroom.concurrent(max_inputs=10)(greenroom.asgi_app()(fresh(stream)))
    function = app.function(serialized=True, max_containers=1)(several)
    with app.run():
        parts = urlsplit(function.web_url)
        with socket.create_connection((parts.hostname, parts.port)) as slow:
            slow.sendall(f"GET {parts.path}/100000 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert slow.recv(100).startswith(b"HTTP/1.1 200 OK")
            for _ in range(5):
                assert request(f"{function.web_url}/3")[2].endswith(b"end")


def failing():
    """Fails before, or within, its response."""

    async def application(scope, receive, send):
        if scope["path"].endswith("/within"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        elif scope["path"].endswith("/nothing"):
            return
        elif scope["path"].endswith("/exit"):
            import os

            os._exit(3)
        raise ValueError("of mine")

    return application


def test_what_an_application_raises_is_a_500_and_is_printed(cluster, output):
    app, function = served(cluster, failing)
    with app.run():
        assert request(f"{function.web_url}/before")[0::2] == (500, b"Internal Server Error")
        assert request(f"{function.web_url}/nothing")[0] == 500
        with pytest.raises(http.client.IncompleteRead):
            request(f"{function.web_url}/within")
    lines = output.lines()
    assert any("ValueError: of mine" in line for line in lines)
    assert "ASGI callable returned without starting response." in lines


def test_a_crash_before_the_response_is_a_502_with_its_reason(cluster, output):
    app, function = served(cluster, failing)
    with app.run():
        status, _, body = request(f"{function.web_url}/exit", "POST", b"x")
        assert (status, b"exit status 3" in body) == (502, True)
        number = body.decode().splitlines()[-1]
        wait_for(lambda: any(number in notice for notice in output.notices), what="it is said")
        assert request(f"{function.web_url}/exit")[0] == 502
        assert request(f"{function.web_url}/%1b%0a/before")[0] == 500
        assert request(f"{function.web_url}/%1b%0a/exit", "POST")[0] == 502
    said = "\n".join([*output.notices, *output.lines()])
    assert said.count("/%1b%0a/") == 2, "what a client has written does nothing to a terminal"
    assert "\x1b" not in said
    again = [notice for notice in output.notices if "tried once more" in notice]
    assert len(again) == 1, "the GET alone"


def test_a_head_that_crashed_is_tried_once_more_and_no_get_with_a_body(cluster, output):
    app, function = served(cluster, failing)
    with app.run():
        assert request(f"{function.web_url}/exit", "GET", b"x")[0] == 502
        wait_for(lambda: any("failed" in notice for notice in output.notices), what="it is said")
        assert not [notice for notice in output.notices if "tried once more" in notice]
        assert request(f"{function.web_url}/exit", "HEAD")[0] == 502
    assert len([notice for notice in output.notices if "tried once more" in notice]) == 1


def test_what_means_nothing_here_is_said(cluster, output):
    app = greenroom.App("t")

    @app.function(serialized=True)
    @greenroom.fastapi_endpoint(custom_domains=["shop.example"])
    def shop():
        return 1

    with app.run():
        assert request(shop.web_url)[2] == b"1"
    assert "ignored, for it means nothing on one's own machines: custom_domains=" in output.notices


def test_a_container_knows_where_endpoints_answer(cluster):
    app, function = served(cluster, failing)

    @app.function(serialized=True)
    def where():
        return function.web_url, where.web_url

    with app.run():
        assert where.remote() == (function.web_url, None)


def slow():
    """Waits as long as the path says, and says when it was cancelled."""

    async def application(scope, receive, send):
        import asyncio

        begin = scope["path"].endswith("/begun")
        if begin:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        print("waits", flush=True)
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise

    return application


def test_past_the_timeout_a_504_or_a_cut(cluster, output):
    app, function = served(cluster, slow, timeout=1)
    with app.run():
        status, _, body = request(function.web_url)
        assert (status, b"timeout of 1 s" in body) == (504, True)
        with pytest.raises(http.client.IncompleteRead):
            request(f"{function.web_url}/begun")
    assert output.lines().count("cancelled") == 2


def test_a_client_that_leaves_cancels_its_input(cluster, output):
    app, function = served(cluster, slow)
    with app.run():
        parts = urlsplit(function.web_url)
        with socket.create_connection((parts.hostname, parts.port)) as client:
            client.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_for(lambda: "waits" in output.lines(), what="it has begun")
        wait_for(lambda: "cancelled" in output.lines(), what="it is cancelled")
    assert not [notice for notice in output.notices if "failed" in notice]


def test_a_client_that_leaves_ends_what_a_wsgi_application_makes(cluster, output):
    app = greenroom.App("t")

    @app.function(serialized=True)
    @greenroom.wsgi_app()
    def web():
        def application(environ, start_response):
            start_response("200 OK", [])
            try:
                while True:
                    yield b"x" * 65536
            finally:
                print("closed", flush=True)

        return application

    with app.run():
        parts = urlsplit(web.web_url)
        with socket.create_connection((parts.hostname, parts.port)) as client:
            client.sendall(f"GET {parts.path}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        wait_for(lambda: "closed" in output.lines(), what="it is closed")
        with socket.create_connection((parts.hostname, parts.port)) as client:  # and the next one is answered
            client.sendall(f"GET {parts.path}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_start_that_fails_is_a_502_with_the_reason(cluster):
    def broken():
        raise RuntimeError("no model")

    app, function = served(cluster, broken)
    with app.run():
        status, _, body = request(function.web_url)
    assert status == 502
    assert b"RuntimeError: no model" in body


def living():
    """Has a lifespan, whose state its requests see."""

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            print("starts", flush=True)
            scope["state"]["count"] = [0]
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("ends", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        scope["state"]["count"][0] += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % scope["state"]["count"][0]})

    return application


def test_the_lifespan_is_honoured(cluster, output):
    app, function = served(cluster, living)
    with app.run():
        assert [request(function.web_url)[2] for _ in range(3)] == [b"1", b"2", b"3"]
        assert "ends" not in output.lines()
    assert output.lines() == ["starts", "ends"]


def test_a_class_has_hooks_around_its_endpoints(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def load(self):
            self.model = {"bo": 1}

        @greenroom.asgi_app(label="my-label")
        def api(self):
            async def application(scope, receive, send):
                if scope["type"] != "http":
                    raise RuntimeError("no lifespan")
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": str(self.model).encode()})

            return application

        @greenroom.wsgi_app()
        def old(self):
            def application(environ, start_response):
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [environ["PATH_INFO"].encode(), b" ", str(self.model).encode(), environ["wsgi.input"].read()]

            return application

        @greenroom.method()
        def plain(self):
            return self.model

        @greenroom.exit()
        def leave(self):
            print("exit hook", flush=True)

    with app.run():
        model = Model()
        assert request(model.api.web_url)[2] == b"{'bo': 1}"
        assert model.api.web_url.endswith("/my-label")
        assert request(f"{model.old.web_url}/p%20q", "POST", b"!")[2] == b"/p q {'bo': 1}!"
        assert model.plain.remote() == {"bo": 1}
        assert model.plain.web_url is None
        with pytest.raises(greenroom.InvalidError, match="is a web endpoint: request its URL"):
            model.api.remote()
    assert output.lines() == ["exit hook"]


def chat():
    """A WebSocket that shouts back, and a way to be refused."""

    async def application(scope, receive, send):
        assert scope["type"] == "websocket"
        assert (await receive())["type"] == "websocket.connect"
        if scope["path"].endswith("/refused"):
            await send({"type": "websocket.close", "code": 4000})
            return
        await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[0]})
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                print("left", event["code"], flush=True)
                return
            if event.get("text") == "bye":
                await send({"type": "websocket.close", "code": 4001, "reason": "as you wish"})
                return
            if event.get("text") is not None:
                await send({"type": "websocket.send", "text": event["text"].upper()})
            else:
                await send({"type": "websocket.send", "bytes": event["bytes"][::-1]})

    return application


def test_a_websocket(cluster, output):
    app, function = served(cluster, chat)
    with app.run():
        url = function.web_url.replace("http", "ws", 1)
        with connect(url, subprotocols=["one", "two"], max_size=None) as client:
            assert client.subprotocol == "one"
            client.send("h\xe9llo")
            assert client.recv() == "H\xc9LLO"
            client.send(b"\x00\x01\xff")
            assert client.recv() == b"\xff\x01\x00"
            client.send("x" * 2_000_000)
            assert client.recv() == "X" * 2_000_000
        wait_for(lambda: "left 1000" in output.lines(), what="its end has been heard")
        with connect(url) as client:
            client.send("bye")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv()
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")
        with pytest.raises(Exception, match="403"):
            connect(f"{url}/refused")


def test_requests_wait_for_a_cold_start(cluster):
    def starts_slowly():
        import time

        time.sleep(0.5)

        async def application(scope, receive, send):
            if scope["type"] != "http":
                raise RuntimeError("no lifespan")
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        return application

    from concurrent.futures import ThreadPoolExecutor

    app, function = served(cluster, starts_slowly)
    with app.run(), ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: request(function.web_url)[0], range(8))) == {204}


def test_what_is_served_is_told(cluster):
    app, function = served(cluster, echo)
    with app.run():
        base = function.web_url.rpartition("/")[0]
        status, headers, body = request(f"{base}/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b'<a href="/t-echo-dev/">t.echo</a>' in body
        status, _, body = request(f"{base}/nope")
        assert status == 404
        assert body == b"no endpoint is called 'nope' here; there are:\n  /t-echo-dev/\n"
    began = time.monotonic()
    assert request(f"{base}/t-echo-dev")[0] == 404
    assert time.monotonic() - began < 30


def test_a_fastapi_endpoint(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    @greenroom.fastapi_endpoint(method="POST", docs=True)
    def add(one: int, two: int = 2):
        return {"sum": one + two}

    with app.run():
        url = add.web_url
        assert json.loads(request(f"{url}?one=1", "POST")[2]) == {"sum": 3}
        assert request(f"{url}/?one=x", "POST")[0] == 422
        assert request(f"{url}/?one=1")[0] == 405
        assert request(f"{url}/docs")[0] == 200
        _, headers, _ = request(f"{url}?one=1", "POST", headers={"Origin": "http://elsewhere.example"})
        assert headers["access-control-allow-origin"] in ("*", "http://elsewhere.example")


def test_a_class_takes_its_parameters_from_the_query_string(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        name: str = greenroom.parameter()
        size: int = greenroom.parameter(default=1)
        loud: bool = greenroom.parameter(default=False)

        @greenroom.enter()
        def load(self):
            self.loaded = f"{self.name} {self.size} {self.loud}"

        @greenroom.wsgi_app()
        def api(self):
            def application(environ, start_response):
                start_response("200 OK", [])
                return [f"{self.loaded} {environ['QUERY_STRING']}".encode()]

            return application

    with app.run():
        url = Model(name="x").api.web_url
        assert request(f"{url}?name=a%20b&size=3&other=1")[2] == b"a b 3 False name=a%20b&size=3&other=1"
        assert request(f"{url}?name=c&loud=TRUE")[2].startswith(b"c 1 True")
        status, _, body = request(f"{url}?size=3")
        assert (status, body) == (422, b"t.Model.api: the query string lacks name=\n")
        assert request(f"{url}?name=a&size=x")[2] == b"t.Model.api: size='x' is no int\n"
        assert len(cluster.containers()) == 2


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def test_a_server_on_a_port_of_its_own(cluster, output):
    """One in a process that the function starts, with a WebSocket of its own."""
    program = """
import asyncio
from websockets.asyncio.server import serve
from websockets.http11 import Response
from websockets.datastructures import Headers

def request(connection, request):
    if request.headers.get("upgrade") == "websocket":
        return None
    body = f"{request.path} {request.headers.get('x-forwarded-prefix')}".encode()
    return Response(200, "OK", Headers([("Content-Length", str(len(body))), ("X-Own", "1")]), body)

async def shout(socket):
    async for message in socket:
        await socket.send(message.upper() if isinstance(message, str) else message[::-1])

async def main():
    async with serve(shout, "127.0.0.1", PORT, process_request=request, max_size=None) as server:
        await server.serve_forever()

asyncio.run(main())
"""
    port = free_port()
    program = program.replace("PORT", str(port))
    app = greenroom.App("t")

    @app.function(serialized=True)
    @greenroom.concurrent(max_inputs=20)
    @greenroom.web_server(port, startup_timeout=20)
    def server():
        import subprocess
        import sys

        subprocess.Popen([sys.executable, "-c", program])

    with app.run():
        status, headers, body = request(f"{server.web_url}/a%20b?x=1")
        assert (status, headers["x-own"], body) == (200, "1", b"/a%20b?x=1 /t-server-dev")
        with connect(server.web_url.replace("http", "ws", 1), max_size=None) as client:
            client.send("hello")
            assert client.recv() == "HELLO"
            client.send(bytes(range(256)) * 10_000)
            assert client.recv() == (bytes(range(256)) * 10_000)[::-1]


def test_a_plain_server_with_uploads_and_downloads(cluster):
    port = free_port()
    app = greenroom.App("t")

    @app.function(serialized=True)
    @greenroom.web_server(port)
    def server():
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args): ...

            def do_POST(self):
                left, seen = int(self.headers["content-length"]), 0
                while left:
                    block = self.rfile.read(min(left, 65536))
                    seen, left = seen + len(block), left - len(block)
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for _ in range(3):
                    part = str(seen).encode()
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                self.wfile.write(b"0\r\n\r\n")

            def do_HEAD(self):
                self.send_response(204)
                self.end_headers()

            def do_PUT(self):
                told = [f"{name}: {value}" for name, value in self.headers.items() if name.startswith("x-forwarded-")]
                self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + "\n".join(told).encode())
                self.close_connection = True

            def do_GET(self):
                self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 1_000_000)
                self.close_connection = True

        made = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=made.serve_forever, daemon=True).start()

    with app.run():
        assert request(server.web_url, "POST", b"y" * 3_000_000)[2] == b"3000000" * 3
        assert request(server.web_url, "HEAD")[0] == 204
        assert request(server.web_url)[2] == b"x" * 1_000_000
        lies = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/elsewhere"}
        told = b"x-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\nx-forwarded-prefix: /t-server-dev"
        assert request(server.web_url, "PUT", headers=lies)[2] == told


def test_a_port_that_is_taken_is_said(cluster):
    app = greenroom.App("t")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        function = app.function(serialized=True)(greenroom.web_server(port)(fresh(lambda: None)))
        with app.run():
            status, _, body = request(function.web_url)
    assert status == 502
    assert b"port %d is taken: containers share this machine's network" % port in body


def test_nothing_that_listens_is_said(cluster):
    port = free_port()
    app = greenroom.App("t")
    function = app.function(serialized=True)(greenroom.web_server(port, startup_timeout=0.3)(fresh(lambda: None)))
    with app.run():
        status, _, body = request(function.web_url)
    assert status == 502
    assert b"nothing listens on port %d of 127.0.0.1 after 0.3 s" % port in body
