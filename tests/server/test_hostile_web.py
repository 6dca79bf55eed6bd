"""What a hostile container may say of requests from the web: it costs that container, and nobody else."""

import http.client
import select
import socket
import types
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

import greenroom
from greenroom.server.http.exchange import BACKLOG


def hostile():
    """Says over its own connection what its path names; else it answers with its process's id."""
    import os
    import signal

    async def run(scope, receive, send):
        import gc

        from greenroom.agent.serve import Agent
        from greenroom.wire.messages import Results
        from greenroom.wire.payload import as_payload
        from greenroom.wire.web_heads import pack_response
        from greenroom.wire.web_messages import WebOut, WebTaken

        if scope["type"] == "lifespan":
            raise RuntimeError("none")
        agent = next(thing for thing in gc.get_objects() if isinstance(thing, Agent))
        seq = max(agent.web._exchanges)
        what = scope["path"].rpartition("/")[2]

        def out(kind, head, data=b""):
            agent.data.send(WebOut(seq, kind, head, []), [data])

        def whole(payload):
            agent.data.send(Results([[seq, "ok", ""]], []), [as_payload(payload, 1 << 20)])

        if what == "enormous":
            whole(pack_response(200, b"", bytes(1 << 26)))
        elif what == "whole-status":
            whole(pack_response(99, b"", b""))
        elif what == "whole-smuggled":
            whole(pack_response(200, b"x: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n", b""))
        elif what == "whole-bare":
            whole(pack_response(200, b"content-length: 0\nx: a\r\n", b""))
        elif what == "whole-name":
            whole(pack_response(200, b"content-length : 0\r\nx: a\r\n", b""))
        elif what == "whole-longer":
            whole(pack_response(200, b"content-length: 1\r\n", b"12HTTP/1.1 200 OK\r\n\r\n"))
        elif what == "whole-cut":
            whole(pack_response(200, b"x: a\r\n", b"")[:-3])
        elif what == "whole-short":
            whole(b"1")
        elif what == "greedy":
            for _ in range(100):
                agent.data.send(WebTaken(seq, 1 << 24), None)
            os.kill(os.getpid(), signal.SIGSTOP)
        elif what == "negative":
            agent.data.send(WebTaken(seq, -1), None)
        elif what == "dance":
            out("dance", {})
        elif what == "early":
            agent.data.send(WebOut(seq + 1, "end", {"status": 200}, []), [b""])
        elif what == "status":
            out("end", {"status": 99})
        elif what == "list":
            out("end", {"status": 200, "headers": [1, [2], None]})
        elif what == "smuggled":
            out("end", {"status": 200, "headers": [["x", "a\r\n\r\nHTTP/1.1 200 OK"]]})
        elif what == "accepts":
            out("accept", {"headers": [["x", "a\r\ny: b"]]})
        elif what == "subprotocol":
            out("accept", {"subprotocol": "a\r\ny: b"})
        elif what == "denies":
            out("end", {"status": 403, "headers": [["x", "a\r\ny: b"]]})
        elif what == "code":
            out("accept", {})
            out("close", {"code": "x", "reason": [1]})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
            return
        await receive()
        await receive()

    return run


@pytest.fixture(scope="module")
def urls(cluster):
    """Of the hostile one, and of another like it."""
    app = greenroom.App("t")

    def served(label):
        factory = types.FunctionType(hostile.__code__, hostile.__globals__, "hostile")
        factory.__qualname__ = factory.__name__ = label
        several = greenroom.concurrent(max_inputs=10)(greenroom.asgi_app(label=label)(factory))
        return app.function(serialized=True, max_containers=1, timeout=20)(several)

    attack, good = served("attack"), served("good")
    with app.run():
        yield urlsplit(attack.web_url), urlsplit(good.web_url)


def get(url, path):
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    try:
        connection.request("POST", url.path + path)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


WHOLE = ["status", "smuggled", "bare", "name", "longer", "cut", "short"]


@pytest.mark.parametrize(
    "lie",
    ["enormous", "negative", "dance", "early", "status", "list", "smuggled", *(f"whole-{each}" for each in WHOLE)],
)
def test_a_lie_about_a_response_costs_the_liar_alone(urls, lie):
    attack, good = urls
    before = get(good, "/")[2]
    try:
        status, headers, _ = get(attack, f"/{lie}")
    except (http.client.HTTPException, ConnectionError):
        pass  # cut
    else:
        assert status == 502
        assert "x" not in dict(headers)
    assert get(good, "/")[2] == before


def test_who_says_that_it_takes_what_it_does_not_read_gets_no_more_of_it(urls):
    attack, good = urls
    with socket.create_connection((attack.hostname, attack.port), timeout=30) as client:
        client.sendall(f"POST {attack.path}/greedy HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 34}\r\n\r\n".encode())
        client.setblocking(False)
        sent = 0
        while select.select([], [client], [], 1.0)[1]:
            sent += client.send(bytes(1 << 20))
            assert sent < 4 * BACKLOG
        assert get(good, "/")[0] == 200


@pytest.mark.parametrize("lie", ["accepts", "subprotocol", "denies", "code", "dance"])
def test_a_lie_about_a_websocket_costs_the_liar_alone(urls, lie):
    attack, good = urls
    before = get(good, "/")[2]
    try:
        with connect(attack._replace(scheme="ws").geturl() + f"/{lie}") as client:
            assert "y" not in client.response.headers
            client.recv()
    except InvalidStatus as refused:
        assert "y" not in refused.response.headers
    except (WebSocketException, OSError):
        pass  # cut
    assert get(good, "/")[2] == before
