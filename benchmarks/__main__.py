"""One table: Greenroom, its peers measured in the same run, the ratio, the goal."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
GREENROOM = Path(sys.executable).parent / "greenroom"


def measured(environment, *command):
    """What a side of the benchmark printed as JSON; {} where it can't run."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{command[2]}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def seconds(environment, *command, count=7):
    """Median seconds of a whole process; None where it fails."""
    samples = []
    for _ in range(count):
        started = time.perf_counter()
        if subprocess.run(command, env=environment, capture_output=True, check=False).returncode:
            return None
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def same(x):
    return x


def pool_rate():
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(same, range(100)))
        rates = []
        for _ in range(3):
            started = time.perf_counter()
            for future in [pool.submit(same, number) for number in range(10_000)]:
                future.result()
            rates.append(10_000 / (time.perf_counter() - started))
    return statistics.median(rates)


RUNTIME_START = """
import json, os, subprocess, sys, time
# All of this lies in a file system that ends with this process's mount namespace: nothing is ever removed by name.
bundle = sys.argv[1]
subprocess.run(["umount", "/sys/fs/cgroup/unified"], stderr=subprocess.DEVNULL)
subprocess.run(["mount", "-t", "tmpfs", "none", bundle], check=True)
os.mkdir(bundle + "/root")
subprocess.run(["mount", "--rbind", "/", bundle + "/root"], check=True)
config = {
    "ociVersion": "1.0.2", "root": {"path": bundle + "/root"}, "mounts": [],
    "process": {"cwd": "/", "args": [sys.executable, "-P", "-c", "import greenroom.agent.main"],
                "user": {"uid": 0, "gid": 0}, "env": ["PATH=/usr/bin:/bin"]},
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
}
with open(bundle + "/config.json", "w") as file:
    json.dump(config, file)
command = ["crun", "--root", bundle + "/state", "--cgroup-manager=disabled", "run", "-b", bundle]
samples = []
for number in range(9):
    started = time.perf_counter()
    subprocess.run([*command, f"bench-{number}"], check=True, stdin=subprocess.DEVNULL)
    samples.append(time.perf_counter() - started)
print(sorted(samples)[4])
"""


def runtime_start(environment):
    """Median seconds of a bare `crun run` of a Python that imports what the agent imports; None where crun can't run."""
    bundle = tempfile.mkdtemp(prefix="gr-")
    try:
        command = ["unshare", "--mount", sys.executable, "-c", RUNTIME_START, bundle]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    finally:
        os.rmdir(bundle)
    return float(done.stdout) if done.returncode == 0 else None


def contained_rows(ours, real, ray, crun):
    """Real containers beside plain processes."""

    def times(name):
        return f"{real[name] / ours[name]:.2f} ×"

    first = "first call, no container, p50"
    yield (
        f"{first}, in crun",
        f"{real['cold'] * 1e3:.0f} ms",
        f"plain {ours['cold'] * 1e3:.0f} ms",
        times("cold"),
        "+ 25 ms",
    )
    if ray.get("cold"):
        yield (
            f"{first}, in crun",
            "",
            f"Ray actor {ray['cold'] * 1e3:.0f} ms",
            f"{real['cold'] / ray['cold']:.2f} ×",
            "≤ 0.25 ×",
        )
    if crun:
        yield f"{first}, in crun", "", f"bare crun {crun * 1e3:.0f} ms", f"{real['cold'] / crun:.2f} ×", "≤ 2 ×"
    yield (
        "warm .remote(), p50, in crun",
        f"{real['warm'] * 1e6:.0f} µs",
        f"plain {ours['warm'] * 1e6:.0f} µs",
        times("warm"),
        "≤ 1.1 ×",
    )
    for name, title in (("burst", "10,000 in flight"), ("map", ".map over 100,000")):
        yield (
            f"{title}, in crun",
            f"{real[name]:,.0f} /s",
            f"plain {ours[name]:,.0f} /s",
            f"{ours[name] / real[name]:.2f} ×",
            "≤ 1.1 ×",
        )
    yield (
        "end of an idle container, in crun",
        f"{real['end'] * 1e3:.0f} ms",
        f"plain {ours['end'] * 1e3:.0f} ms",
        times("end"),
        "≤ 50 ms",
    )
    limit = 50 * real["cold"] / 2 * 1.5
    yield (
        "50 started at once, in crun",
        f"{real['many']:.2f} s",
        f"plain {ours['many']:.2f} s",
        times("many"),
        f"≤ {limit:.2f} s",
    )
    more = (real["container_kb"] - ours["container_kb"]) / 1000
    yield (
        "idle container, PSS, in crun",
        f"{real['container_kb'] / 1000:.1f} MB",
        "more than plain",
        f"{more:+.1f} MB",
        "≤ 2 MB",
    )


def rows(ours, ray, python, figures):
    def ratio(mine, theirs, form="{:.2f} ×"):
        return form.format(mine / theirs) if mine and theirs else "–"

    def shown(value, unit, factor=1.0, digits=0):
        return f"{value * factor:,.{digits}f} {unit}" if value is not None else "–"

    yield (
        "warm .remote(), p50",
        shown(ours["warm"], "µs", 1e6),
        "Ray " + shown(ray.get("warm"), "µs", 1e6),
        ratio(ours["warm"], ray.get("warm")),
        "≤ 0.33 ×",
    )
    yield (
        "10,000 in flight",
        shown(ours["burst"], "/s"),
        "Ray " + shown(ray.get("burst"), "/s"),
        ratio(ours["burst"], ray.get("burst")),
        "≥ 4 ×",
    )
    yield (
        "10,000 in flight",
        shown(ours["burst"], "/s"),
        "ProcessPoolExecutor " + shown(figures["pool"], "/s"),
        ratio(ours["burst"], figures["pool"]),
        "≥ 1 ×",
    )
    yield (
        ".map over 100,000",
        shown(ours["map"], "/s"),
        "Ray ActorPool " + shown(ray.get("map"), "/s"),
        ratio(ours["map"], ray.get("map"), "{:.0f} ×"),
        "≥ 15 ×",
    )
    yield (
        "first call, no container, p50",
        shown(ours["cold"], "ms", 1e3),
        "Ray actor " + shown(ray.get("cold"), "ms", 1e3),
        ratio(ours["cold"], ray.get("cold")),
        "≤ 0.25 ×",
    )
    yield (
        "first call, no container, p50",
        shown(ours["cold"], "ms", 1e3),
        "bare Python " + shown(python, "ms", 1e3),
        ratio(ours["cold"], python),
        "80 ms",
    )
    yield (
        "import greenroom",
        shown(figures["import"], "ms", 1e3),
        "import modal " + shown(figures["modal"], "ms", 1e3),
        ratio(figures["import"], figures["modal"]),
        "≤ 0.1 ×, ≤ 100 ms",
    )
    yield "greenroom run, all in", shown(figures["run"], "s", digits=2), "", "", "≤ 1.0 s"
    yield "idle server, PSS", shown(ours["server_kb"], "MB", 1 / 1000, 1), "", "", "≤ 60 MB"
    yield "idle container, PSS", shown(ours["container_kb"], "MB", 1 / 1000, 1), "", "", "≤ 20 MB"
    yield (
        "large argument and back",
        shown(ours["large"], "MB/s each way"),
        "server grows " + shown(ours["server_growth_kb"], "MB", 1 / 1000, 1),
        "",
        "≥ 500 MB/s, flat",
    )


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", metavar="WORD", default="", help="show the rows whose name has this alone")
    parser.add_argument("--json", action="store_true", help="print the figures, not the table")
    options = parser.parse_args()
    quick = ["--quick"] if options.quick else []
    home = tempfile.mkdtemp(prefix="gr-")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"GREENROOM_HOME": home, "PYTHONPATH": str(HERE.parent)}
    try:
        hello = HERE / "hello.py"
        seconds(environment, str(GREENROOM), "run", "-q", str(hello), count=1)
        python = seconds(environment, sys.executable, "-c", "pass")
        figures = {
            "import": seconds(environment, sys.executable, "-c", "import greenroom"),
            "modal": seconds(environment, sys.executable, "-c", "import modal", count=5),
            "run": seconds(environment | {"GREENROOM_SANDBOX": "process"}, str(GREENROOM), "run", "-q", str(hello)),
            "pool": pool_rate(),
        }
        side = [sys.executable, "-m", "benchmarks.ours", *quick]
        ours = measured(environment | {"GREENROOM_SANDBOX": "process"}, *side)
        real = crun = None
        if os.geteuid() == 0 and shutil.which("crun"):
            real = measured(environment | {"GREENROOM_SANDBOX": "oci", "GREENROOM_RUNTIME": "crun"}, *side)
            crun = runtime_start(environment)
        ray = measured(environment, sys.executable, "-m", "benchmarks.peer_ray", *quick)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if options.json:
        print(json.dumps({"greenroom": ours, "in crun": real, "ray": ray, "python": python, **figures}, indent=2))
        return
    table = [("", "Greenroom", "beside", "ratio", "goal")]
    shown = [*rows(ours, ray, python, figures), *(contained_rows(ours, real, ray, crun) if real else [])]
    table += [row for row in shown if options.only in row[0]]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
