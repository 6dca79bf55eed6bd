"""What an image with a root of its own costs, beside the host image and beside buildah: a program that measures itself and
prints one JSON object. As root, in real containers."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import greenroom
from benchmarks.images import app_on, first_calls
from greenroom.worker.images.handed_in import hand_in

GREENROOM = str(Path(sys.executable).parent / "greenroom")
HERE = Path(__file__).parent
SLIM = greenroom.Image.debian_slim()


class Hooked:
    @greenroom.build(force=True)
    def download(self):
        with open("weights", "w") as file:
            file.write("3 1 4 1 5")

    @greenroom.method()
    def get(self):
        return None


class Buildah:
    """With a storage of its own, that goes with its directory; what it mounts goes with its mount namespace."""

    def __init__(self, directory):
        self._directory = Path(directory)
        policy = self._directory / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self._policy = ["--signature-policy", str(policy)]
        # pip in there finds what uv is handed in of this machine's settings.
        handed = hand_in(os.environ, None)
        self._given = [word for source, path, _ in handed.shown for word in ("--volume", f"{source}:{path}:ro")]
        self._given += [word for name, value in handed.environment.items() for word in ("--env", f"{name}={value}")]

    def do(self, command, *words):
        where = [
            "--root",
            f"{self._directory}/root",
            "--runroot",
            f"{self._directory}/run",
            "--storage-driver",
            "overlay",
        ]
        whole = ["unshare", "--mount", "buildah", *where, command, *self._policy, *words]
        return run(whole, cwd=self._directory, env={**os.environ, "TMPDIR": str(self._directory)})

    def prepare(self, layout):
        base = self.do("pull", "--quiet", f"oci:{layout}").splitlines()[-1]
        (self._directory / "Dockerfile").write_text(f"FROM {base}\nRUN pip install fastapi\n")

    def build(self):
        self.do("build", "--isolation", "chroot", *self._given, "--file", "Dockerfile", "--tag", "bench", "empty")


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


def timed(call, *arguments):
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def base_image():
    """The id of the image that is the base alone."""
    return next(
        record["key"]
        for record in json.loads(run([GREENROOM, "image", "list", "--json"]))
        if record["name"].startswith("base.")
    )


def beside_buildah(count):
    """Median seconds of both builds, in turn, once both have been made."""
    base = greenroom.App("base", image=SLIM)
    base.function(serialized=True)(abs_of)
    base.build()
    with tempfile.TemporaryDirectory(prefix="gr-", ignore_cleanup_errors=True) as directory:
        peer = Buildah(directory)
        Path(directory, "empty").mkdir()
        run([GREENROOM, "image", "export", base_image(), f"{directory}/oci"])
        peer.prepare(f"{directory}/oci")
        ours, theirs = [], []
        for _ in range(count + 1):
            ours.append(timed(run, [GREENROOM, "image", "build", str(HERE / "fastapi_image.py")]))
            theirs.append(timed(peer.build))
    return statistics.median(ours[1:]), statistics.median(theirs[1:])


def abs_of(x):
    return abs(x)


def main(quick):
    count = 3 if quick else 5
    found = {}
    if shutil.which("buildah"):
        found["pip"], found["pip_buildah"] = beside_buildah(count)
    keep = greenroom.App("keeps-the-server")
    with keep.run():
        plain, in_host = app_on(None)
        own, in_own = app_on(SLIM)
        own.build()
        with plain.run(), own.run():
            first_calls([in_host, in_own], 3)
            found["cold_host"], found["cold_debian"] = first_calls([in_host, in_own], 15 if quick else 40)
        gib = SLIM.run_commands(f"head -c {1024**3 // (8 if quick else 1)} /dev/zero | tr '\\0' x > /big")
        app = greenroom.App("hooked", image=gib)
        app.cls(serialized=True)(Hooked)
        app.build()
        found["hook"] = statistics.median(timed(app.build) for _ in range(3 * count))
        there = app_on(gib)[0]
        there.build()
        found["hook_none"] = statistics.median(timed(there.build) for _ in range(3 * count))
    print(json.dumps(found))


if __name__ == "__main__":
    assert Path("/").owner() == "root" and os.geteuid() == 0
    main("--quick" in sys.argv)
