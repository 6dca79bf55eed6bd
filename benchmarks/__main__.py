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


def run_times(environment, programs, count):
    """Median seconds of `greenroom run` of each, in turn, once all of them have run."""
    samples = {name: [] for name in programs}
    for turn in range(count + 1):
        for name, program in programs.items():
            took = seconds(environment, str(GREENROOM), "run", "-q", str(program), count=1)
            if turn:
                samples[name].append(took)
    return {name: statistics.median(own) for name, own in samples.items()}


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


def image_rows(images):
    """What images cost, in real containers."""
    yield (
        "greenroom run, all in, 10-step image that is there",
        f"{images['run_steps']:.2f} s",
        f"host image {images['run']:.2f} s",
        f"{(images['run_steps'] - images['run']) * 1e3:+.0f} ms",
        "≤ + 30 ms",
    )
    yield (
        "first call on a 5-layer image, p50",
        f"{images['cold_layers'] * 1e3:.0f} ms",
        f"host image {images['cold'] * 1e3:.0f} ms",
        f"{images['cold_layers'] / images['cold']:.2f} ×",
        "≤ 1.2 ×",
    )
    yield (
        "one changed step that writes little, on a 1 GiB image",
        f"{images['rebuild'] * 1e3:.0f} ms",
        "all there " + f"{images['rebuild_none'] * 1e3:.0f} ms",
        f"{(images['rebuild'] - images['rebuild_none']) * 1e3:+.0f} ms",
        "≤ + 300 ms",
    )
    yield (
        "disk of an image that shares 9 of 10 layers",
        f"{images['shared'] / 1e6:.2f} MB",
        "its layer 1.00 MB",
        "",
        "1 layer",
    )


def own_root_rows(found):
    """Images with a root of their own."""
    if found.get("pip_buildah"):
        yield (
            'pip_install("fastapi") on a debian_slim image',
            f"{found['pip']:.2f} s",
            f"buildah build {found['pip_buildah']:.2f} s",
            f"{found['pip'] / found['pip_buildah']:.2f} ×",
            "≤ 3 s, ≤ 0.33 ×",
        )
    yield (
        "first call on a debian_slim image, p50",
        f"{found['cold_debian'] * 1e3:.0f} ms",
        f"host image {found['cold_host'] * 1e3:.0f} ms",
        f"{found['cold_debian'] / found['cold_host']:.2f} ×",
        "≤ 1.2 ×",
    )
    yield (
        "a changed @build hook on a debian_slim image of 1 GiB",
        f"{found['hook'] * 1e3:.0f} ms",
        f"all there {found['hook_none'] * 1e3:.0f} ms",
        f"{(found['hook'] - found['hook_none']) * 1e3:+.0f} ms",
        "≤ + 300 ms",
    )


def web_figures(environment, quick):
    """Of plain processes, of Ray Serve, of real containers; {} where they can't be had."""
    if not shutil.which("wrk"):
        print("no wrk (apt-get install wrk): nothing is asked over HTTP", file=sys.stderr)
        return {}, {}, {}
    side = [sys.executable, "-m", "benchmarks.web", *quick]
    web = measured(environment | {"GREENROOM_SANDBOX": "process"}, *side)
    real = {}
    if os.geteuid() == 0 and shutil.which("crun"):
        real = measured(environment | {"GREENROOM_SANDBOX": "oci", "GREENROOM_RUNTIME": "crun"}, *side, "--rate")
    return web, measured(environment, sys.executable, "-m", "benchmarks.peer_ray_serve", *quick), real


def deployed_figures(environment, quick):
    """Greenroom's, and Celery's where there is a Redis."""
    ours = measured(environment, sys.executable, "-m", "benchmarks.deployed", *quick)
    peer = shutil.which("redis-server")
    return ours, measured(environment, sys.executable, "-m", "benchmarks.peer_celery", *quick) if peer else {}


def deployed_rows(ours, celery):
    """Deployed apps."""
    for name, callers in (("spawn_rate_of_tasks", "64 callers, tasks"), ("spawn_rate", "64 callers, threads")):
        yield f"durable .spawn(), {callers}, acknowledged", f"{ours[name]:,.0f} /s", "", "", "≥ 5,000 /s"
    if celery:
        yield (
            "",
            "",
            f"Celery, one caller, not durable {celery['sent']:,.0f} /s",
            f"{ours['spawn_rate'] / celery['sent']:.1f} ×",
            "",
        )
        for name, title in (
            ("through_many", "spawned by 64 callers, run, collected"),
            ("through_map", "one spawn_map, run, collected"),
        ):
            beside = celery["through_many" if name == "through_many" else "through"]
            yield (
                title,
                f"{ours[name]:,.0f} /s",
                f"Celery with Redis {beside:,.0f} /s",
                f"{ours[name] / beside:.1f} ×",
                "≥ 5 ×",
            )
    yield (
        "warm .remote() of a deployed function, p50",
        f"{ours['warm'] * 1e6:.0f} µs",
        f"beside its program {ours['warm_ephemeral'] * 1e6:.0f} µs",
        f"{ours['warm'] / ours['warm_ephemeral']:.2f} ×",
        "≤ 1.15 ×",
    )
    yield "SIGKILL of the server under load until a call is answered", f"{ours['restart']:.2f} s", "", "", "≤ 2 s"
    starts = 50 * ours["one_start"] / ours["cores"]
    yield (
        "0 to 50 containers for 50 calls of 5 s, the last begins",
        f"{ours['to_fifty']:.2f} s",
        f"50 starts of {ours['one_start'] * 1e3:.0f} ms / {ours['cores']} cores {starts:.2f} s",
        f"{ours['to_fifty'] / starts:.2f} ×",
        "≤ 1.5 ×",
    )
    yield "1,000 apps and 100,000 calls kept, start to a call", f"{ours['large_store']:.2f} s", "", "", "≤ 1 s"


def web_rows(web, serve, real):
    """Requests from the web."""

    def shown(value, unit, factor=1.0):
        return f"{value * factor:,.0f} {unit}"

    title = "GET of a small JSON, web, 16 connections"
    share = web["rate_ours"] / web["rate_uvicorn"]
    yield (
        title,
        shown(web["rate_ours"], "/s"),
        "one uvicorn " + shown(web["rate_uvicorn"], "/s"),
        f"{share:.2f} ×",
        "≥ 0.6 ×",
    )
    if serve.get("rate"):
        yield (
            title,
            "",
            "Ray Serve " + shown(serve["rate"], "/s"),
            f"{web['rate_ours'] / serve['rate']:.0f} ×",
            "≥ 15 ×",
        )
    if real:
        yield (
            f"{title}, in crun",
            shown(real["rate_ours"], "/s"),
            "plain " + shown(web["rate_ours"], "/s"),
            f"{real['rate_ours'] / web['rate_ours']:.2f} ×",
            "",
        )
    yield (
        "one web request at a time, p50",
        shown(web["alone_ours"], "µs", 1e6),
        "uvicorn " + shown(web["alone_uvicorn"], "µs", 1e6),
        f"{(web['alone_ours'] - web['alone_uvicorn']) * 1e6:+.0f} µs",
        "≤ + 400 µs",
    )
    yield (
        "1 GiB streamed to the web",
        shown(web["stream_ours"], "MB/s", 1e-6),
        "uvicorn " + shown(web["stream_uvicorn"], "MB/s", 1e-6),
        f"server grows {web['stream_growth_kb_ours'] / 1000:.1f} MB",
        "≥ 400 MB/s, flat",
    )
    yield (
        "idle WebSocket of 1,000, in the server",
        shown(web["socket_kb_ours"], "KB"),
        "uvicorn " + shown(web["socket_kb_uvicorn"], "KB"),
        f"{web['socket_kb_ours'] / web['socket_kb_uvicorn']:.2f} ×",
        "≤ 2 ×",
    )
    for name, what, imported in (
        ("first_bare", "a bare application", web["import_asyncio"]),
        ("first_fastapi", "FastAPI", web["import_fastapi"]),
    ):
        yield (
            f"first web request, no container, {what}, p50",
            shown(web[name], "ms", 1e3),
            f"first call {web['first_call'] * 1e3:.0f} ms, imports {imported * 1e3:.0f} ms",
            f"{(web[name] - web['first_call'] - imported) * 1e3:+.0f} ms",
            "≤ + 15 ms",
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


def show(found, only):
    table = [("", "Greenroom", "beside", "ratio", "goal"), *(row for row in found if only in row[0])]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", metavar="WORD", default="", help="show the rows whose name has this alone")
    parser.add_argument("--web", action="store_true", help="measure web endpoints alone")
    parser.add_argument("--deployed", action="store_true", help="measure deployed apps alone")
    parser.add_argument("--json", action="store_true", help="print the figures, not the table")
    options = parser.parse_args()
    quick = ["--quick"] if options.quick else []
    home = tempfile.mkdtemp(prefix="gr-")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"GREENROOM_HOME": home, "PYTHONPATH": str(HERE.parent)}
    try:
        web, serve, real_web = web_figures(environment, quick) if not options.deployed else ({}, {}, {})
        deployed, celery = deployed_figures(environment, quick) if not options.web else ({}, {})
        if options.deployed:
            show(deployed_rows(deployed, celery), options.only)
            return
        if options.web:
            show(web_rows(web, serve, real_web) if web else [], options.only)
            return
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
        real = crun = images = own_root = None
        if os.geteuid() == 0 and shutil.which("crun"):
            real = measured(environment | {"GREENROOM_SANDBOX": "oci", "GREENROOM_RUNTIME": "crun"}, *side)
            crun = runtime_start(environment)
            oci = environment | {"GREENROOM_SANDBOX": "oci"}
            images = measured(oci, sys.executable, "-m", "benchmarks.images", *quick)
            images |= run_times(oci, {"run": hello, "run_steps": HERE / "hello_image.py"}, 5 if quick else 15)
            if shutil.which("mmdebstrap"):
                own_root = measured(oci, sys.executable, "-m", "benchmarks.own_root", *quick)
        ray = measured(environment, sys.executable, "-m", "benchmarks.peer_ray", *quick)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if options.json:
        print(
            json.dumps(
                {
                    "greenroom": ours,
                    "in crun": real,
                    "images": images,
                    "own root": own_root,
                    "web": web,
                    "web in crun": real_web,
                    "ray": ray,
                    "ray serve": serve,
                    "deployed": deployed,
                    "celery": celery,
                    "python": python,
                    **figures,
                },
                indent=2,
            )
        )
        return
    shown = [*rows(ours, ray, python, figures), *(contained_rows(ours, real, ray, crun) if real else [])]
    shown += image_rows(images) if images else []
    shown += own_root_rows(own_root) if own_root else []
    shown += web_rows(web, serve, real_web) if web else []
    shown += deployed_rows(deployed, celery) if deployed else []
    show(shown, options.only)


if __name__ == "__main__":
    main()
