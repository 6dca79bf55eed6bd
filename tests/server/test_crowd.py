"""Two hundred clients that ask all the time, while what answers them changes: no request fails."""

import asyncio
import contextlib
import random
import threading
import types
from collections import Counter
from urllib.parse import urlsplit

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from tests.conftest import assert_nothing_left, wait_for

CLIENTS = 200


class Crowd:
    """Clients with a connection each, kept as long as the server keeps it; the next request once there is a response."""

    def __init__(self, url, pause=0.0):
        self._url = urlsplit(url)
        self.pause = pause
        """Seconds from a response to the next request, on average."""
        self.seen = Counter()
        """By what was answered, or what went wrong."""
        self.latest = [""] * CLIENTS
        self._over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        self._thread.join()

    async def _all(self):
        await asyncio.gather(*(self._one(number) for number in range(CLIENTS)))

    async def _one(self, number):
        while not self._over:
            async with asyncio.timeout(60):
                reader, writer = await asyncio.open_connection(self._url.hostname, self._url.port)
            try:
                while not self._over:
                    writer.write(f"GET {self._url.path}/ HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                    async with asyncio.timeout(60):
                        head = await reader.readuntil(b"\r\n\r\n")
                        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                        body = await reader.readexactly(length)
                    self.latest[number] = f"{head[9:12].decode()} {body.decode()}"
                    self.seen[self.latest[number]] += 1
                    await asyncio.sleep(self.pause * 2 * random.random())  # nor do people ask all at once
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.seen[repr(error)] += 1
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def wait_until_all_hear(self, body):
        """Until every client's latest response was this."""
        wait_for(lambda: set(self.latest) == {f"200 {body}"}, what=f"all hear {body}: {self.seen}", timeout=60)


def answering():
    """Answers with its version after a moment."""

    async def application(scope, receive, send):
        import asyncio
        import os

        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        await asyncio.sleep(0.01)
        body = os.environ["VERSION"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    return application


def serving(version, max_inputs, **options):
    """``(app, function)``."""
    app = greenroom.App("t")
    factory = types.FunctionType(answering.__code__, answering.__globals__, "answering")
    several = greenroom.concurrent(max_inputs=max_inputs)(greenroom.asgi_app()(factory))
    return app, app.function(serialized=True, env={"VERSION": str(version)}, **options)(several)


@pytest.fixture
def cluster():
    with Cluster(settings=Settings(sandbox="process", exit_grace=5.0, cancel_grace=1.0)) as made:
        yield made
        home = made.home
    assert_nothing_left(home)


def test_versions_come_and_go(cluster):
    app, function = serving(1, max_inputs=60)
    app.start()
    with Crowd(function.web_url) as crowd:
        crowd.wait_until_all_hear("1")
        for version in (2, 3, 4):
            successor, _ = serving(version, max_inputs=60)
            successor.start(replaces=app.app_id)
            app.stop(drain=30.0)
            app = successor
            crowd.wait_until_all_hear(str(version))
    app.stop()
    assert set(crowd.seen) == {"200 1", "200 2", "200 3", "200 4"}


def test_containers_go_as_fewer_are_needed_and_come_again(cluster):
    app, function = serving(1, max_inputs=25, scaledown_window=2, max_containers=8)

    app.start()
    reasons = []
    with Crowd(function.web_url) as crowd:
        for times in (1, 2):
            crowd.pause = 0.0
            wait_for(lambda: len(cluster.containers()) >= 4, what="several containers answer", timeout=60)
            crowd.pause = 2.0
            wait_for(lambda: len(cluster.containers()) <= 2, what=f"most go for the {times}. time", timeout=60)
            reasons = [record["reason"] for record in cluster.ended()]
    app.stop()
    assert "fewer were enough for 2 s" in reasons
    assert set(crowd.seen) == {"200 1"}
