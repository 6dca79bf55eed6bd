"""Other Pythons than the one that runs the tests, and builds of them as uv downloads them."""

import io
import json
import os
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

_LEFT_OUT = {
    "test",
    "idlelib",
    "lib2to3",
    "ensurepip",
    "site-packages",
    "__pycache__",
    "turtledemo",
    "tkinter",
    "pydoc_data",
}
_ASKED = "import json, sys, sysconfig; print(json.dumps([sys.version_info[:3], sys.base_prefix, sysconfig.get_config_var('LIBDIR')]))"


def interpreter(version: str) -> str:
    """Path of one that this machine has; skips where there is none."""
    versions = os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv"
    places = [f"{versions}/versions/{version}.*/bin/python{version}"]
    if tools := os.environ.get("RUNNER_TOOL_CACHE"):
        places.append(f"{tools}/Python/{version}.*/*/bin/python{version}")
    for place in (*places, f"/usr/local/bin/python{version}", f"/usr/bin/python{version}"):
        for found in sorted(Path("/").glob(place.lstrip("/"))):
            if subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
                return str(found)
    pytest.skip(f"there is no Python {version} on this machine")


def builds(directory: Path, *versions: str) -> str:
    """Archives of interpreters of this machine, and the URL of the list that uv is to read."""
    listed = {}
    for version in versions:
        asked = subprocess.run([interpreter(version), "-c", _ASKED], capture_output=True, text=True, check=True)
        (major, minor, patch), prefix, libraries = json.loads(asked.stdout)
        archive = directory / f"python-{version}.tar.gz"
        if not archive.exists():
            _pack(archive, Path(prefix), Path(libraries), version)
        listed[f"cpython-{major}.{minor}.{patch}-linux-{platform.machine()}-gnu"] = {
            "name": "cpython", "arch": {"family": platform.machine(), "variant": None}, "os": "linux", "libc": "gnu",
            "major": major, "minor": minor, "patch": patch, "prerelease": "", "url": archive.as_uri(), "sha256": None,
            "variant": None, "build": None,
        }  # fmt: skip
    (directory / "builds.json").write_text(json.dumps(listed))
    return (directory / "builds.json").as_uri()


def _pack(archive: Path, prefix: Path, libraries: Path, version: str) -> None:
    """One that runs wherever it lies: it looks for its library beside itself."""
    beside = b"$ORIGIN/../lib"

    def moved(path: Path) -> bytes:
        data, old = path.read_bytes(), os.fsencode(libraries)
        return (
            data.replace(b"\0" + old + b"\0", b"\0" + beside.ljust(len(old), b"\0") + b"\0") if len(old) > 13 else data
        )

    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(f"python/{name}")
            member.size, member.mode = len(data), 0o755
            packed.addfile(member, io.BytesIO(data))

        add(f"bin/python{version}", moved(prefix / "bin" / f"python{version}"))
        for name in ("python3", "python"):
            link = tarfile.TarInfo(f"python/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, f"python{version}"
            packed.addfile(link)
        for library in libraries.glob(f"libpython{version}.so.*"):
            add(f"lib/{library.name}", moved(library))

        def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            parts = Path(member.name).parts
            return None if _LEFT_OUT & set(parts) or parts[-1].startswith("config-") else member

        packed.add(prefix / "lib" / f"python{version}", f"python/lib/python{version}", filter=wanted)
