"""This machine's Python and programs, made runnable within any root file system: what makes a step of an image need not be there.

They are shown, read-only, at a path of their own, and started by this machine's own dynamic loader with its own libraries;
what they start in turn is the image's. With them comes the part of Greenroom that works inside a container.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import greenroom
from greenroom.worker.host_image import HostImage

HOST = "/run/greenroom.host"
"""Where a container that makes a step finds what the host image shows."""
AGENT = "/run/greenroom.agent"
"""Where it finds the agent's files."""
INSIDE = "/.greenroom"
"""Where an image with a root of its own has them: a name that no link of its leads away from."""
ROOMS = ("agent", "model", "sdk", "usercode", "wire")
_MAIN = """\
import os
import sys

sys.path.append(os.path.join(sys.path[0], ".last"))
from greenroom.agent.supervisor import run

run(sys.argv[1:])
"""
"""What a container's Python is given to run. Last of all, it finds there what the image lacks and functions by value need."""
_LIBRARY = re.compile(r"=> (/\S+)/[^/]+$", re.MULTILINE)


class Toolbox:
    """One machine's.

    Args:
        image: what of this machine is shown.
        directory: where the agent's files are put once they are needed.
    """

    def __init__(self, image: HostImage, directory: Path) -> None:
        self._image = image
        self._directory = directory
        self._loader: list[str] | None = None

    def shown(self) -> Iterator[tuple[str, str]]:
        """Source and path of all that the container must see."""
        self._lay()
        yield str(self._directory), AGENT
        for path in self._image.shown:
            yield path, HOST + path

    def links(self) -> Iterator[tuple[str, str]]:
        """Path and target of the symbolic links among it."""
        for path, target in self._image.links.items():
            yield HOST + path, HOST + target if os.path.isabs(target) else target

    def python(self) -> list[str]:
        """A command that is this interpreter, whatever the environment says."""
        return [*self.loader(), HOST + os.path.realpath(sys.executable), "-I"]

    def program(self, name: str) -> list[str]:
        """A command that is one of this machine's programs; ``[]``: it isn't here, or no container sees it."""
        found = shutil.which(name, path=self._image.path)
        real = os.path.realpath(found) if found is not None else ""
        if not self._image.sees(real):
            return []
        return [*(self.loader() if _interpreter(real) else []), HOST + real]

    def loader(self) -> list[str]:
        """What loads them with this machine's libraries; ``[]``: they need none."""
        if self._loader is None:
            interpreter = _interpreter(os.path.realpath(sys.executable))
            libraries = ":".join(HOST + path for path in _library_directories())
            self._loader = (
                [HOST + os.path.realpath(interpreter), "--inhibit-cache", "--library-path", libraries]
                if interpreter
                else []
            )
        return self._loader

    def digest(self) -> str:
        """Of the agent's files; raises OSError."""
        hashed = hashlib.sha256(_MAIN.encode())
        for source, name in _agent_files():
            for path in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
                text = path.read_bytes()
                hashed.update(f"\0{name}\0{path.relative_to(source)}\0{len(text)}\0".encode() + text)
        return hashed.hexdigest()

    def _lay(self) -> None:
        """Lay the agent's files out, once; raises OSError."""
        if (self._directory / "__main__.py").exists():
            return
        for source, name in _agent_files():
            copy = self._directory / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy, dirs_exist_ok=True)
            else:
                shutil.copy2(source, copy)
        (self._directory / "__main__.py").write_text(_MAIN)


def _agent_files() -> Iterator[tuple[Path, str]]:
    """What an image is given, and under which names."""
    cloudpickle = importlib.util.find_spec("cloudpickle")
    assert cloudpickle is not None  # we depend on it
    assert cloudpickle.origin is not None
    package = Path(greenroom.__file__).parent
    yield package / "__init__.py", "greenroom/__init__.py"
    for room in ROOMS:
        yield package / room, f"greenroom/{room}"
    yield Path(cloudpickle.origin).parent, ".last/cloudpickle"


def _interpreter(program: str) -> str:
    """The dynamic loader that a program asks for; ``""``: it asks for none. Source: elf(5)."""
    with open(program, "rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF" or head[4] != 2:
            return ""
        (offset,), (size, count) = struct.unpack_from("=Q", head, 32), struct.unpack_from("=HH", head, 54)
        for index in range(count):
            file.seek(offset + index * size)
            segment = file.read(size)
            if struct.unpack_from("=I", segment)[0] == 3:  # PT_INTERP
                (start,), (length,) = struct.unpack_from("=Q", segment, 8), struct.unpack_from("=Q", segment, 32)
                file.seek(start)
                return file.read(length).rstrip(b"\0").decode()
    return ""


def _library_directories() -> list[str]:
    """Where this machine's programs find their libraries, the interpreter's own first."""
    found = [os.path.join(sys.base_prefix, "lib")]
    ldconfig = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if ldconfig is not None:
        listed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout
        found += [os.path.realpath(path) for path in _LIBRARY.findall(listed)]
    found += ["/lib", "/usr/lib"]
    return list(dict.fromkeys(os.path.realpath(path) for path in found if os.path.isdir(path)))
