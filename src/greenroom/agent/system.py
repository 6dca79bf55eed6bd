"""Steps in an image with a root of its own that install more than Python packages. This process is not the image's."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from greenroom.model.image import without_passwords

AGENT = Path("/run/greenroom.agent")
"""Where the agent's files are shown."""
INSIDE = Path("/.greenroom")
"""Where the image gets them."""
_PYTHONS = Path("/opt/python")
_CONDA = "/opt/conda"
_OLDEST = (3, 10)
SAID = 3
"""Exit status: the last line of output is why."""
_NAMES = ("python3", "python")


def _apt(job: dict[str, Any]) -> int:
    apt = shutil.which("apt-get")
    if apt is None:
        print(
            "there is no apt-get in the image: apt_install needs one that stands on Debian or Ubuntu", file=sys.stderr
        )
        return 1
    for command in (["update", "-q"], ["install", "-y", "-q", *job["packages"]]):
        print(f"$ apt-get {' '.join(command)}", flush=True)
        if status := subprocess.run([apt, *command], check=False, stdin=subprocess.DEVNULL).returncode:
            return status
    return 0


def _conda(job: dict[str, Any]) -> int:
    """Into one environment; what is downloaded for it is in no layer. Source: micromamba's user guide."""
    channels = [word for channel in job["channels"] for word in ("--channel", channel)]
    with tempfile.TemporaryDirectory() as directory:
        named = []
        if job["file"]:
            path = Path(directory, job["name"])  # its ending says what it is
            path.write_text(job["file"])
            named = ["--file", str(path)]
        command = "install" if Path(_CONDA, "conda-meta").is_dir() else "create"
        words = [command, "--yes", "--prefix", _CONDA, *channels, *named, *job["packages"]]
        print(f"$ micromamba {without_passwords(' '.join(words))}", flush=True)
        environment = {**os.environ, "MAMBA_ROOT_PREFIX": os.path.join(directory, "root")}
        return subprocess.run(
            [*job["program"], *words], check=False, stdin=subprocess.DEVNULL, env=environment
        ).returncode


def _python(job: dict[str, Any]) -> int:
    """A build of uv's own kind: one that this machine has, or that it downloads."""
    installer, version = job["installer"], job["version"]
    place = _PYTHONS / version
    command = [*installer, "python", "install", "--install-dir", str(place), "--no-bin", version]
    print(f"$ uv python install {version}", flush=True)
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    print(done.stderr, end="", flush=True)
    if done.returncode:
        why = next((line[6:].strip() for line in done.stderr.splitlines() if line.startswith("error:")), "uv failed")
        print(f"no build of Python {version} is within reach: {why}. Image.debian_slim() has 3.11 and 3.13", flush=True)
        return SAID if done.returncode > 0 else done.returncode
    found = sorted(place.glob("*/bin/python3.*[0-9]"))
    if not found:
        print(f"uv installed no Python {version} below {place}", file=sys.stderr)
        return 1
    programs = found[-1].parent
    for mark in programs.parent.glob("lib/python3.*/EXTERNALLY-MANAGED"):
        mark.unlink()
    target = Path("/usr/local/bin")
    target.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3", found[-1].name, "pip", "pip3"):
        if (programs / name).exists():
            with contextlib.suppress(FileNotFoundError):
                (target / name).unlink()
            (target / name).symlink_to(programs / name)
    return 0


def _agent(job: dict[str, Any]) -> int:
    """Find the interpreter that containers are to run on, and give it what it needs to be one of ours."""
    best, path = (0, 0), ""
    for name in _NAMES:
        found = shutil.which(name)
        version = _version(found) if found is not None else None
        if version is not None and version > best:
            best, path = version, str(found)
        if best >= _OLDEST:
            break
    # Whatever the image has there, it is in the way.
    if INSIDE.is_dir() and not INSIDE.is_symlink():
        shutil.rmtree(INSIDE)
    else:
        INSIDE.unlink(missing_ok=True)
    INSIDE.mkdir()
    if best >= _OLDEST:
        shutil.copytree(AGENT, INSIDE, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(
            [path, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(INSIDE)],
            check=False,
            stdin=subprocess.DEVNULL,
        )
    (INSIDE / "python.json").write_text(json.dumps([path, f"{best[0]}.{best[1]}" if path else ""]))
    return 0


def _version(python: str) -> tuple[int, int] | None:
    program = "import sys; print(sys.version_info[0], sys.version_info[1])"
    try:
        said = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        return int(said[0]), int(said[1])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None  # it is no Python


JOBS: dict[str, Callable[[dict[str, Any]], int]] = {"apt": _apt, "conda": _conda, "python": _python, "agent": _agent}
