"""How a request ends where something is not as it should be: its application hears of it, and nothing of it is left running."""

import socket
import types
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import greenroom
from greenroom.model.settings import Settings
from tests.conftest import wait_for


@pytest.fixture(scope="module")
def settings():
    """Plain processes: what starts a container is nothing to a request."""
    return Settings(sandbox="process", exit_grace=3.0, cancel_grace=2.0)


def application():
    """What it does is its path."""
    import asyncio
    import os

    async def run(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("none")
        what = scope["path"].rpartition("/")[2]
        if scope["type"] == "websocket":
            await receive()
            if what == "raises":
                raise ValueError("of mine")
            if what == "returns":
                return
            if what == "exit":
                os._exit(3)
            await send({"type": "websocket.accept"})
            try:
                if what == "closes":
                    await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
                    event = await receive()
                    print("heard", event["type"], event["code"], flush=True)
                if what == "malformed":
                    await send({"type": "websocket.close", "code": 4001, "reason": "x" * 200})
                    print("heard", (await receive())["type"], flush=True)
                while what == "ticks":
                    await send({"type": "websocket.send", "text": "x"})
                    await asyncio.sleep(0.01)
            except OSError:
                print("left", flush=True)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        finally:
            print("ended", flush=True)

    return run


@pytest.fixture
def url(cluster, output):
    """Of the application, in one container."""
    app = greenroom.App("t")
    factory = types.FunctionType(application.__code__, application.__globals__, "application")
    several = greenroom.concurrent(max_inputs=10)(greenroom.asgi_app()(factory))
    function = app.function(serialized=True, max_containers=1)(several)
    with app.run():
        yield function.web_url


def ask(url, path):
    """All that is said."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as client, client.makefile("rb") as file:
        client.sendall(f"GET {parts.path}{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        try:
            return file.read()
        except ConnectionResetError:
            return b""


def opened(url, path):
    return connect(f"{url.replace('http', 'ws', 1)}{path}")


def test_a_response_that_can_not_be_one_ends_its_input(url, output):
    assert len(ask(url, "/longer")) < 1000
    wait_for(lambda: "ended" in output.lines(), what="its application has been told")


def test_a_websocket_that_only_speaks_hears_that_its_client_left(url, output):
    with opened(url, "/ticks") as client:
        assert client.recv() == "x"
    wait_for(lambda: "left" in output.lines(), what="its application has been told")


def test_what_a_websocket_hears_after_it_closed_is_the_end(url, output):
    with opened(url, "/closes") as client, pytest.raises(ConnectionClosed):
        client.recv()
    wait_for(lambda: "heard websocket.disconnect 4001" in output.lines(), what="its application has been told")


def test_a_close_that_can_not_be_one_ends_its_websocket(url, output):
    with opened(url, "/malformed") as client, pytest.raises(ConnectionClosed):
        client.recv()
    wait_for(lambda: "heard websocket.disconnect" in output.lines(), what="its application has been told")


@pytest.mark.parametrize(("path", "status", "said"), [
    ("/raises", 500, b"Internal Server Error"),
    ("/returns", 500, b"Internal Server Error"),
    ("/exit", 502, b"exit status 3"),
])  # fmt: skip
def test_a_websocket_that_fails_before_it_begins_is_answered_as_a_request_is(url, path, status, said):
    with pytest.raises(InvalidStatus) as refused, opened(url, path):
        pass
    assert refused.value.response.status_code == status
    assert said in refused.value.response.body


def test_a_wsgi_application_past_its_timeout_lets_go_of_what_it_makes(cluster, output):
    app = greenroom.App("t")

    @app.function(serialized=True, timeout=1)
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
            wait_for(lambda: "closed" in output.lines(), what="it is closed")
