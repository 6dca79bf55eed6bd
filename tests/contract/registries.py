"""Images made by hand, quickly, and a real registry that has them."""

import contextlib
import functools
import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import wait_for

USER, PASSWORD = "reader", "-".join(("canary", "4e19"))  # as one word it would be in the program that goes along
WRONG = PASSWORD[::-1]
_KNOWN = f"{USER}:$2b$04$6.5nTO487I1YTBw9Z9jxuurLU99a.PtoELaocVlJPQBuQ.Cl3uapi\n"
"""The same, as an htpasswd file has it."""
_MEDIA = "application/vnd.oci.image"
HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
ELSEWHERE = "arm64" if HERE == "amd64" else "amd64"
_PROGRAMS = ("dash", "cat", "chmod", "chown", "cp", "env", "id", "ln", "ls", "mkdir", "mktemp", "rm", "touch")
_LIBRARIES = ("ld-linux*", "libc.so.6", "libm.so.6", "libz.so.1*", "libexpat.so.1*", "libffi.so.8*", "libselinux.so.1",
              "libpcre2-8.so.0*")  # fmt: skip
_WITHOUT = re.compile(r"test|unittest|lib2to3|distutils|pydoc|idlelib|turtle|tkinter|ensurepip|venv")


class Member(NamedTuple):
    """One entry of a layer."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    device: tuple[int, int] = (0, 0)
    attributes: dict[str, str] = {}
    """Extended ones; bytes as surrogates."""


def file(name: str, text: str = "x", mode: int = 0o644, **more: Any) -> Member:
    return Member(name, text.encode(), mode=mode, **more)


def folder(name: str, mode: int = 0o755, **more: Any) -> Member:
    return Member(name, kind=tarfile.DIRTYPE, mode=mode, **more)


def link(name: str, target: str) -> Member:
    return Member(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hard(name: str, target: str) -> Member:
    return Member(name, kind=tarfile.LNKTYPE, link=target)


def layer(members: Iterable[Member]) -> bytes:
    """A tar file that has these, in that order, whatever they are called."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for each in members:
            info = tarfile.TarInfo()
            # As it is given: a TarInfo of its own accord takes slashes away.
            info.name, info.type, info.linkname, info.mode = each.name, each.kind, each.link, each.mode
            info.uid, info.gid = each.owner
            info.devmajor, info.devminor = each.device
            info.size = len(each.content)
            info.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in each.attributes.items()}
            archive.addfile(info, io.BytesIO(each.content))
    return written.getvalue()


def small(debian: Path, *, python: bool) -> bytes:
    """A layer with as much of a Debian that was made here as a container needs: a shell, some programs, its Python."""
    written = io.BytesIO()
    found = [debian / name for name in ("bin", "lib", "lib64", "usr/bin/sh", "usr/lib64", "etc/passwd", "etc/group")]
    found += [debian / "usr/bin" / name for name in _PROGRAMS]
    found += [path for name in _LIBRARIES for path in debian.glob(f"usr/lib*/**/{name}")]
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name in ("etc", "tmp", "usr", "usr/bin", "usr/lib"):
            archive.addfile(_plain(tarfile.TarInfo(name), tarfile.DIRTYPE))
        if python:
            interpreter = next(debian.glob("usr/bin/python3.[0-9]*[0-9]"))
            library = debian / "usr/lib" / interpreter.name
            found += [interpreter, debian / "usr/bin/python3", library / "os.py", library / "lib-dynload"]
            found += library.glob("lib-dynload/*")
            modules = _modules(library)
            info = tarfile.TarInfo(f"usr/lib/{interpreter.name.replace('.', '')}.zip")
            info.size = len(modules)
            archive.addfile(info, io.BytesIO(modules))
        for path in sorted(set(found)):
            archive.add(path, str(path.relative_to(debian)), recursive=False, filter=_plain)
    return written.getvalue()


def _modules(library: Path) -> bytes:
    """The standard library as one file, where Python looks for one: it is pulled and removed many times."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for path in sorted(library.rglob("__pycache__/*.pyc")):
            module = path.parent.parent.relative_to(library) / f"{path.name.partition('.')[0]}.pyc"
            if path.name.count(".") == 2 and not _WITHOUT.match(str(module)):
                archive.write(path, str(module))
    return written.getvalue()


def _plain(info: tarfile.TarInfo, kind: bytes = b"") -> tarfile.TarInfo:
    info.uid = info.gid = 0
    if kind:
        info.type, info.mode = kind, 0o755
    return info


@functools.lru_cache(maxsize=4)
def _pressed(tar: bytes) -> bytes:
    """Most images here stand on one of the same two layers."""
    return gzip.compress(tar, 1)


class Layout:
    """An OCI image layout with one image, or an index of several, made by hand."""

    def __init__(self, directory: Path) -> None:
        self.path = Path(tempfile.mkdtemp(dir=directory))
        (self.path / "blobs" / "sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, content: bytes, kind: str) -> dict[str, Any]:
        """Its descriptor."""
        digest = hashlib.sha256(content).hexdigest()
        (self.path / "blobs" / "sha256" / digest).write_bytes(content)
        return {"mediaType": f"{_MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    def image(
        self, layers: Iterable[bytes], config: Any = None, machine: str = HERE, *, whole: bytes = b""
    ) -> dict[str, Any]:
        """The descriptor of its manifest; ``config``: how it is used; ``whole``: its configuration, whatever that is."""
        tars = list(layers)
        written = (
            whole
            or json.dumps(
                {
                    "architecture": machine,
                    "os": "linux",
                    "config": {} if config is None else config,
                    "rootfs": {
                        "type": "layers",
                        "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
                    },
                }
            ).encode()
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": self.blob(written, "config.v1+json"),
            "layers": [self.blob(_pressed(tar), "layer.v1.tar+gzip") for tar in tars],
        }
        return {
            **self.blob(json.dumps(manifest).encode(), "manifest.v1+json"),
            "platform": {"architecture": machine, "os": "linux"},
        }

    def index(self, images: list[dict[str, Any]]) -> dict[str, Any]:
        """The descriptor of an index of them."""
        written = {"schemaVersion": 2, "mediaType": f"{_MEDIA}.index.v1+json", "manifests": images}
        return self.blob(json.dumps(written).encode(), "index.v1+json")

    def name(self, described: dict[str, Any]) -> None:
        """It is what the layout is of."""
        named = {**described, "annotations": {"org.opencontainers.image.ref.name": "image"}}
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))


class Registry:
    """A registry on loopback, and another for the same images that asks for a password."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gr-reg-"))
        (self.directory / "users").write_text(_KNOWN)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.host = self._start("open", "")
        self.guarded = self._start("guarded", f"auth: {{htpasswd: {{realm: test, path: {self.directory}/users}}}}\n")

    def _start(self, name: str, auth: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            host = f"127.0.0.1:{probe.getsockname()[1]}"
        path = self.directory / f"{name}.yml"
        path.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: '{host}'}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.directory}/images}}}}\n{auth}"
        )
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["docker-registry", "serve", str(path)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self._processes.append(process)
        wait_for(lambda: _answers(host) or process.poll() is not None, what=f"docker-registry answers at {host}")
        assert process.poll() is None, (self.directory / f"{name}.log").read_text()
        return host

    def push(self, layout: Layout | Path, name: str, *, all_of_it: bool = False) -> str:
        """The name by which it can be pulled."""
        path = layout.path if isinstance(layout, Layout) else layout
        source = f"oci:{path}:image" if isinstance(layout, Layout) else f"oci:{path}"
        command = [
            "skopeo",
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            *(["--all"] if all_of_it else []),
        ]
        done = subprocess.run(
            [*command, source, f"docker://{self.host}/{name}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return f"{self.host}/{name}"

    def make(self, name: str, *layers: bytes, config: Any = None, **more: Any) -> str:
        """An image of these layers, and the name by which it can be pulled."""
        layout = self.layout()
        layout.name(layout.image(layers, config, **more))
        return self.push(layout, name)

    def layout(self) -> Layout:
        """One to be written; it goes with the registry."""
        return Layout(self.directory)

    def close(self) -> None:
        for process in self._processes:
            process.kill()  # nothing of it is needed any more, and it takes its time to close
            process.wait()
        shutil.rmtree(self.directory)


def _answers(host: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{host}/v2/", timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401
    except OSError:
        return False
    return True


def walk(root: Path) -> Iterator[tuple[str, int, int, int, int]]:
    """All below a directory: path, mode, owner, size, time of change; for comparing."""
    for directory, folders, files in os.walk(root):
        for name in sorted([*folders, *files]):
            found = os.lstat(os.path.join(directory, name))
            size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
            yield os.path.join(directory, name), found.st_mode, found.st_uid, size, found.st_ctime_ns


def holding(directory: Path, words: list[str]) -> list[Path]:
    """Files that have one of these in them."""
    found = []
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and not path.is_symlink() and any(word.encode() in path.read_bytes() for word in words):
                found.append(path)
    return found
