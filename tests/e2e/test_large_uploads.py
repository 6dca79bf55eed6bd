"""A body far larger than what a server may have in memory passes through it, window by window."""

import http.client
import re
import signal
from pathlib import Path
from urllib.parse import urlsplit

from tests.conftest import wait_for
from tests.e2e.programs import start, write
from tests.e2e.test_faults import pid_of

SIZE = 1024**3
PROGRAM = """
    import greenroom

    app = greenroom.App("large")

    @app.function()
    @greenroom.asgi_app()
    def count():
        async def application(scope, receive, send):
            if scope["type"] != "http":
                raise RuntimeError("no lifespan")
            size, more = 0, True
            while more:
                event = await receive()
                size, more = size + len(event["body"]), event["more_body"]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"%d" % size})

        return application
"""


def peak(pid: int) -> int:
    """Bytes of memory that a process has had at the most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_a_gibibyte_uploaded(home, tmp_path):
    process = start("serve", "--no-reload", str(write(tmp_path, PROGRAM)), GREENROOM_SANDBOX="process")
    said = ""
    try:
        assert process.stderr is not None
        while "ready" not in said or "answers at" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        url = urlsplit(said.partition("answers at ")[2].split()[0])
        server = wait_for(lambda: pid_of(home, "server"), what="its server")

        def send(size: int) -> bytes:
            connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=90)
            piece = bytes(1024**2)
            connection.request("POST", url.path, (piece for _ in range(size // len(piece))),
                               {"Content-Length": str(size)})  # fmt: skip
            try:
                return connection.getresponse().read()
            finally:
                connection.close()

        assert send(32 * 1024**2) == b"%d" % (32 * 1024**2)
        before = peak(server)
        assert send(SIZE) == b"%d" % SIZE
        assert peak(server) - before < 16 * 1024**2
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
