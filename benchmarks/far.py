"""A deployed function called as from another machine, over TLS on loopback, beside the same by the Unix socket, in turns; prints
one JSON object.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
GREENROOM = Path(sys.executable).parent / "greenroom"
ROUNDS = 5
CALLS = 300
INPUTS = 10_000
BYTES = 20 * 1024**2


def measured():
    """In a process of its own: seconds of each."""
    import greenroom

    echo = greenroom.Function.from_name("bench-deployed", "echo")
    echo.remote(0)
    each = []
    for number in range(CALLS):
        started = time.perf_counter()
        echo.remote(number)
        each.append(time.perf_counter() - started)
    started = time.perf_counter()
    assert list(echo.map(range(INPUTS))) == list(range(INPUTS))
    mapped = time.perf_counter() - started
    data = os.urandom(BYTES)
    started = time.perf_counter()
    assert echo.remote(data) == data
    return {"call": statistics.median(each), "map": mapped, "value": time.perf_counter() - started}


def main():
    with tempfile.TemporaryDirectory(prefix="gr-") as name:
        base = {**os.environ, "GREENROOM_HOME": name, "GREENROOM_SANDBOX": "process"}
        base.pop("GREENROOM_SERVER", None)
        token = subprocess.run(
            [GREENROOM, "token", "create", "--client", "bench"], env=base, capture_output=True, text=True, check=True
        ).stdout.strip()
        log = Path(name) / "said"
        with open(log, "w") as output:
            server = subprocess.Popen([GREENROOM, "server", "--listen", "127.0.0.1:0"], env=base, stderr=output)
        while "ready" not in log.read_text():
            time.sleep(0.01)
        address, fingerprint = re.search(r"listens at (\S+) for .* certificate is (\S+)", log.read_text()).groups()
        far = {**base, "GREENROOM_SERVER": address, "GREENROOM_TOKEN": token, "GREENROOM_FINGERPRINT": fingerprint}
        subprocess.run([GREENROOM, "deploy", "-q", HERE / "deployed_app.py"], env=far, check=True)
        found = {"here": [], "far": []}
        for _ in range(ROUNDS):
            for where, environment in (("here", base), ("far", far)):
                done = subprocess.run(
                    [sys.executable, __file__, "measured"], env=environment, capture_output=True, text=True, check=True
                )
                found[where].append(json.loads(done.stdout))
        server.send_signal(signal.SIGTERM)
        server.wait()
    best = {where: {key: min(each[key] for each in rounds) for key in rounds[0]} for where, rounds in found.items()}
    print(json.dumps({
        where: {
            "call_us": round(of["call"] * 1e6),
            "map_inputs_per_second": round(INPUTS / of["map"]),
            "value_there_and_back_mib_per_second": round(2 * BYTES / 1024**2 / of["value"]),
        }
        for where, of in best.items()
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:] == ["measured"]:
        print(json.dumps(measured()))
    else:
        main()
