"""What clients do that is no HTTP, or too much of it: each is answered or closed, others are served meanwhile, nothing stays."""

import asyncio
import json
import os
import select
import socket
import struct
import types
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import greenroom
from greenroom.server.http import connection, websocket
from greenroom.wire.web_messages import WINDOW
from tests.conftest import wait_for

MOST_AHEAD = 16 * WINDOW
"""Bytes that a client gets rid of before it is held up: windows and both sides' socket buffers."""


def application():
    """Says what it was asked; some paths do other things."""
    import asyncio
    import json

    seen, sent, released, taken = [], [0], asyncio.Event(), []

    async def websocket(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"].endswith("/deaf"):
            await released.wait()
        count = 0
        while (event := await receive())["type"] != "websocket.disconnect":
            count += 1
            if not scope["path"].endswith("/deaf"):
                await send({"type": "websocket.send", **{k: event[k] for k in ("text", "bytes") if k in event}})
        taken.append(count)

    async def run(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("none")
        seen.append(scope["path"])
        if scope["type"] == "websocket":
            return await websocket(scope, receive, send)
        what = scope["path"].rpartition("/")[2]
        if what == "hold":
            while (await receive())["type"] != "http.disconnect":
                pass
            return None
        if what == "stream":
            sent[0] = 0
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                sent[0] += 65536
        if what == "release":
            released.set()
            released.clear()
        size, more = 0, what != "early"
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return None
            size, more = size + len(event["body"]), event["more_body"]
        said = {
            "method": scope["method"], "path": scope["path"], "raw_path": scope["raw_path"].decode(), "size": size,
            "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in scope["headers"]],
            "seen": seen if what == "seen" else [], "sent": sent[0], "taken": taken,
        }  # fmt: skip
        body = json.dumps(said).encode()
        sized = [] if what == "unsized" else [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": sized})
        if what == "unsized":
            await send({"type": "http.response.body", "body": body[:1], "more_body": True})
            body = body[1:]
        await send({"type": "http.response.body", "body": body})

    return run


@pytest.fixture(scope="module")
def url(cluster):
    """Of the application, in one container that answers many at once."""
    app = greenroom.App("t")
    factory = types.FunctionType(application.__code__, application.__globals__, "application")
    several = greenroom.concurrent(max_inputs=1000)(greenroom.asgi_app()(factory))
    function = app.function(serialized=True, max_containers=1)(several)
    with app.run():
        yield urlsplit(function.web_url)


def held(cluster):
    """What the server holds for clients: connections, tasks, exchanges, all tasks of its loop; and this process's descriptors."""

    def look(server):
        state = server.web._listener._state
        exchanges = server.web._ingress._exchanges
        return len(state.connections), len(state.tasks), len(exchanges), len(asyncio.all_tasks(server.loop))

    return *cluster.on_server(look), len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def _nothing_stays(cluster, url):
    with Client(url) as client:
        client.get("/warm")
    wait_for(lambda: held(cluster)[:3] == (0, 0, 0), what="it is quiet")
    before = held(cluster)
    yield
    wait_for(lambda: all(now <= then for now, then in zip(held(cluster), before, strict=True)),
             what=f"nothing stays: {before}, {held(cluster)}")  # fmt: skip


class Client:
    """A connection that says exactly what it is told to."""

    def __init__(self, url):
        self.root = url.path
        self.socket = socket.create_connection((url.hostname, url.port), timeout=45)
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data.replace(b"@", self.root.encode()))

    def answer(self, head=False):
        """``(status, headers, body)`` of the next response."""
        _, status, _ = self.file.readline().split(b" ", 2)
        headers = {}
        while (line := self.file.readline()) != b"\r\n":
            assert line.endswith(b"\r\n"), line
            name, _, value = line.partition(b":")
            headers[name.decode().lower()] = value.strip().decode()
        body = b""
        if head or status in (b"100", b"204", b"304"):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                assert self.file.readline() == b"\r\n"
            self.file.readline()
        elif "content-length" in headers:
            body = self.file.read(int(headers["content-length"]))
        else:
            body = self.file.read()
        return int(status), headers, body

    def get(self, path):
        """What the application says."""
        self.send(f"GET @{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, _, body = self.answer()
        assert status == 200, body
        return json.loads(body)

    def is_closed(self):
        """The server has nothing more to say, and has said so."""
        try:
            return self.file.read() == b""
        except ConnectionResetError:
            return True

    def until_held_up(self, data):
        """Send it again and again, until nobody takes it; how much was."""
        sent = 0
        self.socket.setblocking(False)
        while select.select([], [self.socket], [], 1.0)[1]:
            sent += self.socket.send(data)
            assert sent <= MOST_AHEAD, "the server takes all of it"
        self.socket.settimeout(45)
        return sent


# ---- heads ----

POST = b"POST @/x HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BAD = {
    "a length and chunks": (400, POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunks and a length": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    "two lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    "a length twice": (400, POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "a list of lengths": (400, POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    "a signed length": (400, POST + b"Content-Length: +3\r\n\r\nabc"),
    "a negative length": (400, POST + b"Content-Length: -3\r\n\r\nabc"),
    "a folded header": (400, POST + b"X: a\r\n b\r\n\r\n"),
    "a folded length": (400, POST + b"Content-Length:\r\n 3\r\n\r\nabc"),
    "bare LF": (400, b"GET @/x HTTP/1.1\nHost: x\n\n"),
    "bare LF after a header": (400, POST + b"X: a\nContent-Length: 0\r\n\r\n"),
    "bare LF at the end": (400, POST + b"X: a\r\n\n"),
    "bare CR": (400, POST + b"X: a\rContent-Length: 0\r\n\r\n"),
    "a space before the colon": (400, POST + b"Content-Length : 0\r\n\r\n"),
    "a header without a name": (400, POST + b": a\r\n\r\n"),
    "a header without a colon": (400, POST + b"abc\r\n\r\n"),
    "NUL in a header": (400, POST + b"X: a\0b\r\n\r\n"),
    "identity": (400, POST + b"Transfer-Encoding: identity\r\n\r\n"),
    "xchunked": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "chunked, identity": (400, POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "gzip, chunked": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "chunks in HTTP/1.0": (400, b"POST @/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "junk after a chunk's size": (400, CHUNKED + b"3x\r\nabc\r\n0\r\n\r\n"),
    "a space after a chunk's size": (400, CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n"),
    "a chunk's size with 0x": (400, CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    "a negative chunk": (400, CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n"),
    "a chunk's size with a bare LF": (400, CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    "a bare LF in a chunk's extension": (400, CHUNKED + b"3;a=\nb\r\nabc\r\n0\r\n\r\n"),
    "a chunk longer than its size": (400, CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n"),
    "a chunk of 2**80 bytes": (400, CHUNKED + b"f" * 20 + b"\r\nabc\r\n0\r\n\r\n"),
    "no host": (400, b"GET @/x HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET @/x HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    "HTTP/0.9": (505, b"GET @/x\r\n\r\n"),
    "HTTP/2.0": (505, b"GET @/x HTTP/2.0\r\nHost: x\r\n\r\n"),
    "HTTP/1.9": (400, b"GET @/x HTTP/1.9\r\nHost: x\r\n\r\n"),
    "HTTP/2's preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "a method that isn't known": (400, b"FROB @/x HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a method in small letters": (400, b"get @/x HTTP/1.1\r\nHost: x\r\n\r\n"),
    "CONNECT": (400, b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"),
    "a path with bytes that are none": (400, b"GET @/\xff HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a path without a slash": (400, b"GET x HTTP/1.1\r\nHost: x\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "a long path": (431, b"GET @/" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a long header": (431, POST + b"X: " + b"a" * 70_000 + b"\r\n\r\n"),
    "many headers": (431, POST + b"X: a\r\n" * 15_000 + b"\r\n"),
    "a long head that doesn't end": (431, POST + b"X: " + b"a" * 70_000),
    "nothing but line ends": (431, b"\r\n" * 300_000),
    "an upgrade by POST": (405, POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
}


@pytest.mark.parametrize("shape", BAD)
def test_what_is_no_http_is_refused_and_nothing_after_it_is_read(url, shape):
    status, data = BAD[shape]
    with Client(url) as client:
        client.send(data + b"GET @/smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.answer()[0] == status
        assert client.is_closed()
    with Client(url) as client:
        assert not [path for path in client.get("/seen")["seen"] if "smuggled" in path]


@pytest.mark.parametrize("shape", ["a length and chunks", "bare LF", "no host", "a long header", "TLS"])
def test_what_was_asked_before_is_answered_first(url, shape):
    status, data = BAD[shape]
    with Client(url) as client:
        client.send(b"GET @/unsized HTTP/1.1\r\nHost: x\r\n\r\nGET @/2 HTTP/1.1\r\nHost: x\r\n\r\n" + data)
        assert client.answer()[0] == 200
        assert json.loads(client.answer()[2])["path"].endswith("/2")
        assert client.answer()[0] == status
        assert client.is_closed()


def test_a_body_that_breaks_off_its_request_alone(url):
    with Client(url) as client:
        client.send(b"GET @/1 HTTP/1.1\r\nHost: x\r\n\r\n" + CHUNKED + b"3\r\nabc\r\nzz\r\n")
        assert client.answer()[0] == 200
        assert client.answer()[0] == 400
        assert client.is_closed()


def test_a_body_that_breaks_within_its_response_cuts_that(url):
    with Client(url) as client:
        client.send(CHUNKED.replace(b"/x", b"/stream") + b"3\r\nabc\r\n")
        assert client.file.readline().startswith(b"HTTP/1.1 200")
        client.send(b"zz\r\n")
        while data := client.file.read1(1 << 20):
            assert b"HTTP/1.1 400" not in data


def test_a_head_of_just_less_than_the_limit(url):
    with Client(url) as client:
        client.send(b"GET @/x HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 65_000 + b"\r\n\r\n")
        assert client.answer()[0] == 200
        client.get("/x")


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE", 0.3)


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET", POST, POST + b"X: a", POST + b"X: a\r\n"])
@pytest.mark.parametrize("before", [b"", b"GET @/1 HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.usefixtures("impatient")
def test_a_head_that_is_not_completed_is_a_408(url, begun, before):
    if before and not begun:
        pytest.skip("a connection that may be idle")
    with Client(url) as client:
        client.send(before + begun)
        if before:
            assert client.answer()[0] == 200
            if begun == b"\r\n":
                client.send(begun)
        assert client.answer()[0] == 408
        assert client.is_closed()


@pytest.mark.usefixtures("impatient")
def test_a_408_waits_for_the_response_that_is_under_way(url):
    with Client(url) as client:
        client.send(b"GET @/hold HTTP/1.1\r\nHost: x\r\n\r\nGET")
        assert not select.select([client.socket], [], [], 1.0)[0]


# ---- bodies ----


def test_a_body_that_does_not_come_reaches_the_application_nevertheless(url):
    with Client(url) as client:
        client.send(b"POST @/early HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
        assert client.answer()[0] == 200
        client.send(b"12345")  # late, and of no use
        client.get("/next")


@pytest.mark.parametrize("body", [b"Content-Length: 5\r\n\r\n12", b"Transfer-Encoding: chunked\r\n\r\n5\r\n12"])
@pytest.mark.usefixtures("impatient")
def test_a_body_that_is_never_completed_ends_with_its_response(url, body):
    with Client(url) as client:
        client.send(b"POST @/early HTTP/1.1\r\nHost: x\r\n" + body)
        assert client.answer()[0] == 200
        assert client.is_closed()


def test_a_hundred_thousand_tiny_chunks(url):
    with Client(url) as client:
        client.send(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
        assert json.loads(client.answer()[2])["size"] == 100_000
        client.get("/next")


@pytest.mark.parametrize(
    "junk", [b"3;" + b"a" * 2_000_000, b"0\r\nX: " + b"a" * 2_000_000, b"0\r\n" + b"X: a\r\n" * 300_000]
)
def test_extensions_and_trailers_have_limits(url, junk):
    with Client(url) as client:
        try:
            client.send(CHUNKED + b"3\r\nabc\r\n" + junk)
            assert client.answer()[0] == 431
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was refused before all of it was sent
        else:
            assert client.is_closed()


def test_trailers_are_ignored_and_duplicate_headers_kept(url):
    with Client(url) as client:
        head = POST + b"A: 1\r\nB: 2\r\nA: 3\r\nA: 1\r\nTrailer: modal-key\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"3\r\nabc\r\n0\r\nModal-Key: a\r\nX-Late: 7\r\n\r\n")
        headers = json.loads(client.answer()[2])["headers"]
        assert [pair for pair in headers if pair[0] in "ab"] == [["a", "1"], ["b", "2"], ["a", "3"], ["a", "1"]]
        assert not {"modal-key", "x-late"} & {name for name, _ in headers}
        client.get("/next")


def test_a_client_that_expects_to_be_told_to_continue(url):
    with Client(url) as client:
        client.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.answer()[0] == 100
        client.send(b"abc")
        assert json.loads(client.answer()[2])["size"] == 3
        client.send(b"POST /nothing-here HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.answer()[0] == 404


# ---- many ----


def test_hundreds_of_slow_clients_hold_up_nobody(cluster, url):
    begun = [b"GET @/x HTT", POST, POST + b"Content-Length: 9\r\n\r\n1"]
    slow = [Client(url) for _ in range(300)]
    try:
        for number, client in enumerate(slow):
            client.send(begun[number % 3])
        wait_for(lambda: held(cluster)[0] == 300, what="all are connected")
        with Client(url) as client:
            for number in range(20):
                assert client.get(f"/{number}")["path"].endswith(f"/{number}")
        for client in slow:
            client.send(b"2")  # each a byte on
        with Client(url) as client:
            client.get("/after")
    finally:
        for client in slow:
            client.__exit__()


def test_pipelined_requests_are_answered_in_order(url):
    with Client(url) as client:
        client.send(
            b"".join(
                b"GET @/%d HTTP/1.1\r\nHost: x\r\n\r\n" % n + POST + b"Content-Length: 2\r\n\r\nab" for n in range(200)
            )
        )
        for number in range(200):
            assert json.loads(client.answer()[2])["path"].endswith(f"/{number}")
            assert json.loads(client.answer()[2])["size"] == 2


def test_who_asks_on_and_on_and_reads_nothing_is_held_up(url):
    with Client(url) as client:
        client.send(b"GET @/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        client.until_held_up((b"GET @/x HTTP/1.1\r\nHost: x\r\n\r\n" * 1000).replace(b"@", url.path.encode()))


def test_a_client_that_leaves_after_a_pipelined_request_cancels_it(cluster, url):
    with Client(url) as client:
        client.send(POST + b"Content-Length: 1\r\n\r\na" + b"GET @/hold HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.answer()[0] == 200
        wait_for(lambda: held(cluster)[2] == 1, what="the other has begun")


@pytest.mark.parametrize(
    "data", [b"", b"GET @/x HT", POST + b"Content-Length: 9\r\n\r\n1", b"GET @/hold HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_a_client_that_has_said_all_and_asks_for_no_answer_is_closed(url, data):
    with Client(url) as client:
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_closed()


def test_a_client_that_never_reads_costs_a_window(cluster, url):
    with Client(url) as client, Client(url) as other:
        client.send(b"GET @/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        readings = []

        def stands_still():
            readings.append(other.get("/sent")["sent"])
            return readings[-1] and len(set(readings[-50:])) == 1 and len(readings) >= 50

        wait_for(stands_still, what="it is held up")
        assert readings[-1] <= MOST_AHEAD

        def kept(server):
            return sum(len(piece) for exchange in server.web._ingress._exchanges for _, _, piece in exchange._out)

        assert cluster.on_server(kept) <= 2 * WINDOW


def test_a_client_that_takes_nothing_is_let_go_in_the_end(cluster, url, monkeypatch):
    monkeypatch.setattr(connection, "STALL", 0.3)
    with Client(url) as client:
        client.send(b"GET @/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.file.readline().startswith(b"HTTP/1.1 200")
        wait_for(lambda: held(cluster)[:3] == (0, 0, 0), what="it is let go")


def test_an_idle_connection_is_closed_once_it_has_been_so_for_long(cluster, url):
    def timer(server, seconds):
        """It is due, of a connection that may be idle for so long: what there is of it then."""
        (found,) = server.web._listener._state.connections
        found.timeout_keep_alive = seconds
        found.timeout_keep_alive_task.cancel()
        found._look_whether_idle()
        return found.timeout_keep_alive_task

    with Client(url) as client:
        client.get("/first")
        client.get("/second")
        assert cluster.on_server(lambda server: timer(server, 3600)) is not None
        client.get("/third")
        assert cluster.on_server(lambda server: timer(server, 0)) is None
        assert client.is_closed()


def test_a_connection_with_something_to_answer_is_not_idle(cluster, url):
    def timer(server):
        (found,) = server.web._listener._state.connections
        found.timeout_keep_alive = 0
        found.timeout_keep_alive_task.cancel()
        found._look_whether_idle()
        assert found.timeout_keep_alive_task is None

    with Client(url) as client:
        client.get("/first")
        client.send(b"POST @/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
        wait_for(lambda: held(cluster)[2] == 1, what="it is being answered")
        cluster.on_server(timer)
        client.send(b"2")
        assert client.answer()[0] == 200


# ---- targets ----


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("@/..", "@/.."),
        ("@/../..//etc/passwd", "@/../..//etc/passwd"),
        ("@/%2e%2e/x", "@/../x"),
        ("@//x", "@//x"),
        ("@/a%2fb", "@/a/b"),
        ("@/a%00b", "@/a\0b"),
        ("@/%ff%fe", "@/\ufffd\ufffd"),
        ("@/%zz", "@/%zz"),
        ("@/a;b=c", "@/a;b=c"),
        ("http://elsewhere@/x?y", "@/x"),
        ("@", "@/"),
    ],
)
def test_a_path_arrives_as_it_was(url, target, path):
    with Client(url) as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        said = json.loads(client.answer()[2])
        assert said["path"] == path.replace("@", url.path)
        if target.startswith("http:"):
            assert ["host", "elsewhere"] in said["headers"]


def test_a_label_counts_however_it_is_written(url):
    with Client(url) as client:
        client.send(b"GET /%74-application-dev/x%2fy HTTP/1.1\r\nHost: x\r\n\r\n")
        said = json.loads(client.answer()[2])
        assert (said["path"], said["raw_path"]) == (f"{url.path}/x/y", f"{url.path}/x%2fy")


@pytest.mark.parametrize(
    "target",
    [
        "/..@/x",
        "/%2e%2e@/x",
        "/@/x",
        "/nope/x",
        "/%ff/x",
        "/%00",
        "@%2fx",
        "/t-application-dev%00/x",
        "*",
        "http://x/nope",
    ],
)
def test_what_names_no_label_is_a_404(url, target):
    with Client(url) as client:
        client.send(f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, _, body = client.answer()
        assert (status, b"there are:\n  /t-application-dev/" in body) == (404, True)
        client.get("/next")


def test_absolute_form_without_a_path_is_the_front_page(url):
    with Client(url) as client:
        client.send(b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.answer()[0] == 200


def test_http_1_0(url):
    with Client(url) as client:
        client.send(b"GET @/x HTTP/1.0\r\n\r\n")
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert client.is_closed()
    with Client(url) as client:
        client.send(b"GET @/unsized HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        status, headers, body = client.answer()
        assert (status, "transfer-encoding" in headers) == (200, False)
        assert json.loads(body)["path"].endswith("/unsized")


@pytest.mark.parametrize("data", [
    b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    b"HEAD @/x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET @/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"POST @/early HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
])  # fmt: skip
def test_a_connection_is_used_again_after(url, data):
    with Client(url) as client:
        for _ in range(3):
            client.send(data)
            client.answer(head=data.startswith(b"HEAD"))
        client.get("/next")


# ---- WebSockets ----


def handshake(client, path="/ws", key=b"MDEyMzQ1Njc4OWFiY2RlZg==", extra=b""):
    lines = b"GET @%b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" % path.encode()
    lines += b"Sec-WebSocket-Version: 13\r\n" + (b"Sec-WebSocket-Key: %b\r\n" % key if key else b"") + extra
    client.send(lines + b"\r\n")


def opened(client, path="/ws"):
    handshake(client, path)
    assert client.file.readline().startswith(b"HTTP/1.1 101")
    while client.file.readline() != b"\r\n":
        pass


def frame(opcode, data=b"", *, final=True, mask=b"\0\0\0\0", rsv=0):
    size = len(data)
    head = bytes([(0x80 if final else 0) | rsv | opcode])
    masked = 0x80 if mask else 0
    if size < 126:
        head += bytes([masked | size])
    elif size < 65536:
        head += struct.pack("!BH", masked | 126, size)
    else:
        head += struct.pack("!BQ", masked | 127, size)
    return head + mask + data


def closing_code(client):
    """That of the close frame which comes next."""
    assert client.file.read(1) == b"\x88"
    return struct.unpack("!H", client.file.read(client.file.read(1)[0])[:2])[0]


TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9


@pytest.mark.parametrize(("data", "code"), [
    (frame(TEXT, b"a", mask=b""), 1002),
    (frame(TEXT, b"a", rsv=0x20), 1002),
    (frame(3, b"a"), 1002),
    (frame(0, b"a"), 1002),
    (frame(TEXT, b"a", final=False) + frame(TEXT, b"b"), 1002),
    (frame(PING, b"a" * 126), 1002),
    (frame(PING, final=False), 1002),
    (frame(CLOSE, b"a"), 1002),
    (frame(CLOSE, struct.pack("!H", 1005)), 1002),
    (frame(CLOSE, struct.pack("!H", 999)), 1002),
    (frame(CLOSE, struct.pack("!H", 65535)), 1002),
    (frame(TEXT, b"\xff"), 1007),
    (frame(TEXT, b"\xe2", final=False) + frame(0, b"\x28\xa1"), 1007),
    (frame(CLOSE, struct.pack("!H", 4321)), 4321),
    (struct.pack("!BBQ", 0x82, 0xFF, 2**40), 1009),
    (struct.pack("!BBQ", 0x82, 0xFF, 2**63), 1009),
])  # fmt: skip
def test_a_frame_that_is_none_ends_its_websocket(url, data, code):
    with Client(url) as client:
        opened(client)
        client.send(data)
        assert closing_code(client) == code
        assert client.is_closed()


@pytest.mark.parametrize(("key", "extra", "status"), [
    (b"", b"", 400),
    (b"short", b"", 400),
    (b"0123456789abcdef0123456=", b"Sec-WebSocket-Key: a\r\n", 400),
    (b"MDEyMzQ1Njc4OWFiY2RlZg==", b"X: " + b"a" * 9000 + b"\r\n", 431),
    (b"MDEyMzQ1Njc4OWFiY2RlZg==", b"X: a\r\n" * 200, 431),
])  # fmt: skip
def test_a_handshake_that_is_none_is_refused(url, key, extra, status):
    with Client(url) as client:
        handshake(client, key=key, extra=extra)
        assert client.answer()[0] == status
        assert client.is_closed()


def test_a_handshake_behind_a_request_that_is_under_way(url):
    with Client(url) as client:
        client.send(b"GET @/unsized HTTP/1.1\r\nHost: x\r\n\r\n")
        handshake(client)
        assert client.answer()[0] == 200
        first = client.file.readline()
        assert first.startswith((b"HTTP/1.1 400", b"HTTP/1.1 101")), "not within the other's response"


def test_a_message_past_the_limit_is_a_1009(url):
    with connect(url._replace(scheme="ws").geturl(), max_size=None) as client:
        client.send(b"x" * websocket.MESSAGE)
        assert len(client.recv()) == websocket.MESSAGE
        with pytest.raises(ConnectionClosed):
            client.send(b"x" * (websocket.MESSAGE + 1))
            client.recv()


def test_a_message_in_very_many_pieces_takes_what_it_weighs(cluster, url):
    with Client(url) as client:
        opened(client)
        client.send(frame(BINARY, b"<", final=False) + (frame(0, b"x", final=False) + frame(0, final=False)) * 50_000)
        client.send(frame(PING))
        assert client.file.read(2) == b"\x8a\x00"

        def parts(server):
            return [len(socket.frames) for socket in server.web._listener._state.connections]

        assert cluster.on_server(parts) == [1]
        client.send(frame(0, b">"))
        assert client.file.read(2) == b"\x82\x7e"
        assert client.file.read(2 + 50_002)[2:] == b"<" + b"x" * 50_000 + b">"


@pytest.mark.parametrize(("path", "data"), [
    ("/deaf", frame(TEXT) * 1000),
    ("/deaf", frame(BINARY, b"x" * 100_000)),
    ("/ws", frame(BINARY, b"x" * 100_000)),
    ("/ws", frame(TEXT) * 1000),
    ("/ws", frame(PING, b"x" * 125) * 1000),
], ids=["empty, unread", "large, unread", "large, answered", "empty, answered", "pings"])  # fmt: skip
def test_a_flood_is_held_up(url, path, data):
    with Client(url) as client, Client(url) as other:
        opened(client, path)
        client.until_held_up(data)
        other.get("/meanwhile")
        client.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # what lies in between is gone
        client.__exit__()
        other.get("/release")


def test_what_was_said_before_a_client_left_is_heard(url):
    with Client(url) as other:
        with Client(url) as client:
            opened(client, "/deaf")
            client.send(frame(TEXT, b"x" * 1000) * 3000)
        other.get("/release")
        wait_for(lambda: 3000 in other.get("/taken")["taken"], what="all of it is heard")
