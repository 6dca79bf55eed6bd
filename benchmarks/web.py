"""Greenroom's web endpoints beside the same application under uvicorn, in turn; prints one JSON object."""

import json
import re
import socket
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks.ours import pss, server_pss
from benchmarks.web_subjects import Cold, api, app

UPGRADE = (
    "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
    "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"
)


def connect(port):
    found = socket.create_connection(("127.0.0.1", port), timeout=60)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def head_of(connection):
    """A response's head, and what came of its body with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError(f"closed after {data!r}")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def ask(connection, path, extra=""):
    """One request and its response, which has a length or none."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{extra}\r\n".encode())
    head, rest = head_of(connection)
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")):
        raise ConnectionError(f"{head!r} {rest!r}")
    length = re.search(rb"content-length: (\d+)", head)
    while len(rest) < int(length[1] if length else 0):
        rest += connection.recv(65536)
    return rest


def requests_a_second(url, seconds):
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])


def one_by_one(port, path, count):
    """Median seconds of a request on a connection that has no other."""
    samples = []
    with connect(port) as connection:
        for _ in range(count):
            started = time.perf_counter()
            ask(connection, path)
            samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def streamed(port, path, size):
    """Bytes a second of a response of that size."""
    buffer = bytearray(1024 * 1024)
    with connect(port) as connection:
        connection.sendall(
            f"GET {path}?pieces={size // (256 * 1024)} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        )
        started, came = time.perf_counter(), 0
        while size_of_it := connection.recv_into(buffer):
            came += size_of_it
        if came < size:
            raise ConnectionError(f"{came} bytes of {size}")
        return size / (time.perf_counter() - started)


def idle_sockets(port, path, count, memory):
    """Kilobytes of the server for each."""
    before = memory()
    connections = []
    try:
        for _ in range(count):
            connections.append(connect(port))
            ask(connections[-1], path, UPGRADE)
        time.sleep(0.5)
        return (memory() - before) / count
    finally:
        for connection in connections:
            connection.close()


@contextmanager
def uvicorn():
    """The port of the same application under uvicorn, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "benchmarks.web_app:application", f"--port={port}", "--no-access-log"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                connect(port).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def imported(*modules):
    """Seconds of their import, in a fresh interpreter."""
    program = f"import time; t = time.perf_counter(); import {', '.join(modules)}; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def first_requests(port, count):
    """Median seconds of what finds no container, and of what its application imports, in turn."""

    def call(key):
        Cold(key=key).echo.remote(1)

    def request(path):
        with connect(port) as connection:
            ask(connection, path)

    samples = {}
    for number in range(count):
        for name, work in (
            ("first_call", call),
            ("first_bare", lambda key: request(f"/bare/?key={key}")),
            ("first_fastapi", lambda key: request(f"/fastapi/json?key={key}")),
        ):
            started = time.perf_counter()
            work(number)
            samples.setdefault(name, []).append(time.perf_counter() - started)
        samples.setdefault("import_asyncio", []).append(imported("asyncio"))
        samples.setdefault("import_fastapi", []).append(imported("asyncio", "benchmarks.web_app"))
    return {name: statistics.median(own) for name, own in samples.items()}


def main(quick, only_rate):
    found = {}
    rounds, seconds, size, sockets = (1, 1, 128 * 1024**2, 200) if quick else (5, 4, 1024**3, 1000)
    with app.run(), uvicorn() as (peer, pid):
        port = urlsplit(api.web_url).port
        sides = {"ours": (port, "/api", server_pss), "uvicorn": (peer, "", lambda: pss(pid))}
        for side_port, root, _ in sides.values():
            requests_a_second(f"http://127.0.0.1:{side_port}{root}/json", 2)
        samples = {}
        for _ in range(rounds):
            for side, (side_port, root, _) in sides.items():
                rate = requests_a_second(f"http://127.0.0.1:{side_port}{root}/json", seconds)
                samples.setdefault(f"rate_{side}", []).append(rate)
                if only_rate:
                    continue
                alone = one_by_one(side_port, f"{root}/json", 100 if quick else 1000)
                samples.setdefault(f"alone_{side}", []).append(alone)
        if only_rate:
            print(json.dumps({name: statistics.median(own) for name, own in samples.items()}))
            return
        for side, (side_port, root, memory) in sides.items():
            before = memory()
            for _ in range(1 if quick else 3):
                samples.setdefault(f"stream_{side}", []).append(streamed(side_port, f"{root}/stream", size))
            found[f"stream_growth_kb_{side}"] = memory() - before
            found[f"socket_kb_{side}"] = idle_sockets(side_port, f"{root}/idle", sockets, memory)
        found |= {name: statistics.median(own) for name, own in samples.items()}
        found |= first_requests(port, 3 if quick else 15)
    print(json.dumps(found))


if __name__ == "__main__":
    main("--quick" in sys.argv, "--rate" in sys.argv)
