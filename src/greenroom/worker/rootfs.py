"""A container's root file system: the host image or an image's own, a writable layer over it, and the program's files.

All of its mounts are the worker's, who may pass through directories that a container's root may not. Once the container
has its copy of them, in a mount namespace of its own, they are detached here, so that the next one has few to copy.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from greenroom.worker import mounts
from greenroom.worker.host_image import HOME, OF_HOST, HostImage, make_mount_point
from greenroom.worker.merging import directory_in, each_of, merge
from greenroom.worker.sandbox.base import Making, Stack
from greenroom.worker.toolbox import Toolbox

SOCKET = "/run/greenroom/server.sock"
"""Where a container finds the server's socket; its directory is bound, so that the next server's appears there too."""
NOT_OF_IMAGES = ("hosts", "hostname", "resolv.conf")
"""Files of ``/etc`` that are each container's own."""
DRAFT = "base"
"""Directory of a draft in which a base is made: ``fs``, which is to be the layer, and ``work``."""
BASE_LAYER = "/run/greenroom.base"
"""Where the container that makes it finds that."""
_OPTIONS = 4096
"""Bytes at which the options of a mount end."""
_OF_ANY_ROOT = ("dev", "proc", "sys", "tmp", "var", "var/tmp")
"""Directories that a container needs, whatever its image has."""
ARCHIVE = "/run/greenroom.tar"
"""Where one that makes a step of an image finds the files that go into it."""


class Ground(NamedTuple):
    """What all roots of a worker stand on. Its directories lie where an unprivileged user may pass through."""

    base: Path
    """A directory for each container is made here."""
    host: Path
    """The host image's lowest layer, made by ``HostImage.lay``."""
    scratch: Path
    """The containers' own directories, bound: short, and free of characters that mount options are split at."""
    image: HostImage
    owner: int
    """The host's user that is a container's root."""
    door: str
    """Directory of the host with the server's socket in it, and nothing else."""
    shared: list[str]
    """Directories of the host that every container finds, writable, at their own paths."""
    layers: Path
    """The layers of images, bound."""
    toolbox: Toolbox

    def lower(self, stack: Stack) -> list[Path]:
        """What a container's own layer lies on, the lowest first; each by a short name, since mount options end at 4,096
        bytes."""
        return [*([] if stack.config.own_root else [self.host]), *(self._short(key) for key in stack.layers)]

    def _short(self, key: str) -> Path:
        link = self.base / "l" / key[:12]
        with contextlib.suppress(FileExistsError):
            link.symlink_to(self.layers / key / "fs")
        return link


class _Bound(NamedTuple):
    """Something of the host's that a container sees."""

    source: str
    """``""``: an empty directory."""
    path: str
    flags: int = mounts.RDONLY | mounts.NOSUID | mounts.NODEV
    host_has_it: bool = False
    """The host image has a mount point for it."""

    @property
    def is_directory(self) -> bool:
        """Whether it is one."""
        return not self.source or os.path.isdir(self.source)


class RootFilesystem:
    """One container's."""

    def __init__(
        self, ground: Ground, container_id: str, code: Path | None, stack: Stack, making: Making | None
    ) -> None:
        self.directory = ground.base / container_id
        self.root = self.directory / "root"
        self._ground = ground
        self._own = ground.scratch / container_id / "upper"
        self._hostname = container_id
        self._code = code
        self._stack = stack
        self._making = making
        self._lower = ground.lower(stack)
        self._own_root = stack.config.own_root
        self._on_image = making is None or making.way in ("image", "tools")
        """Its overlay is the image's; else the layer to be is a directory that it sees."""

    def acquire(self) -> None:
        """Mount it; raises OSError, and then nothing of it is left."""
        try:
            self.directory.mkdir(mode=0o711)
            self.root.mkdir()
            self._write_own_layer()
            binds = [*self._of_host(), *self._of_image_and_program(), *self._of_step()]
            for bound in binds:
                self._make_mount_point(bound)
            if self._making is not None and self._making.way == "tools":
                for path, target in self._ground.toolbox.links():
                    self._make_directory(os.path.dirname(path.lstrip("/")))
                    with contextlib.suppress(FileExistsError):
                        (self._own / path.lstrip("/")).symlink_to(target)
            mounts.mount("overlay", str(self.root), mounts.NODEV | mounts.NOSUID, self._options())
            for bound in binds:
                if bound.source:
                    mounts.bind(bound.source, f"{self.root}{bound.path}", bound.flags)
                else:
                    mounts.mount("tmpfs", f"{self.root}{bound.path}", bound.flags, "size=4k,mode=755")
        except BaseException:
            self.release()
            raise

    def _options(self) -> str:
        """Of the overlay. A container writes into its own layer; one that makes a step writes into that step's, and its own
        lies below, so that nothing of it is in the image."""
        lower, upper, work = list(self._lower), self._own, self._own.parent / "work"
        if self._making is not None and self._on_image:
            lower.append(self._own)
            draft = self._ground.layers / self._making.draft.name
            upper, work = draft / "fs", draft / "work"
        below = ":".join(map(str, reversed(lower)))
        options = f"lowerdir={below},upperdir={upper},workdir={work},metacopy=off,redirect_dir=off"
        if len(options) >= _OPTIONS:
            count = len(self._stack.layers)
            raise OSError(0, f"its image has {count} layers, more than can be mounted: join some of its steps")
        return options

    def _write_own_layer(self) -> None:
        """What is this container's alone: its name, and the host's name servers as they are now."""
        self._own.mkdir()
        self._own.chmod(0o755)
        os.chown(self._own, self._ground.owner, self._ground.owner)
        if self._making is None or not self._on_image:
            (self._own.parent / "work").mkdir()
        for name in ("etc", HOME[1:], "run", *(_OF_ANY_ROOT if self._own_root else ())):
            self._make_directory(name)
        if self._own_root and not self._is_directory_below("tmp"):
            (self._own / "tmp").chmod(0o1777)
        hosts = _read("/etc/hosts") or "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
        files = {
            "hosts": f"{hosts.rstrip()}\n127.0.1.1\t{self._hostname}\n",
            "hostname": f"{self._hostname}\n",
            "resolv.conf": _read("/etc/resolv.conf"),
        }
        for name, text in files.items():
            path = self._own / "etc" / name
            path.write_text(text)
            path.chmod(0o644)
            os.chown(path, self._ground.owner, self._ground.owner)

    def _make_mount_point(self, bound: _Bound) -> None:
        """In the container's own layer, over all that an image may have there: no link of it leads a mount astray."""
        if bound.host_has_it and not self._stack.layers and not self._own_root:
            return  # the host image has it already
        name = bound.path.lstrip("/")
        if bound.is_directory:
            self._make_directory(name)
        else:
            self._make_directory(os.path.dirname(name))
            (self._own / name).touch()

    def _make_directory(self, name: str) -> None:
        """Each that is missing, owned and open as the image has it."""
        path = self._own
        for part in filter(None, name.split("/")):
            path = path / part
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                mode, owner, group = self._as_in_image(str(path.relative_to(self._own)))
                os.chown(path, owner, group)
                path.chmod(mode)

    def _as_in_image(self, name: str) -> tuple[int, int, int]:
        for layer in reversed(self._lower):
            found = directory_in(layer, name)
            if found is not None:
                return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
        return 0o755, self._ground.owner, self._ground.owner

    def _of_host(self) -> Iterator[_Bound]:
        image = self._ground.image
        if not self._own_root:
            for path in image.shown:
                yield _Bound(path, path, host_has_it=True)
            for path in image.hidden:
                yield _Bound("", path, mounts.RDONLY | mounts.NOSUID | mounts.NODEV, host_has_it=True)
        flags = mounts.RDONLY | mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
        yield _Bound("/sys", "/sys", flags, host_has_it=True)
        for path in self._ground.shared:
            yield _Bound(path, path, mounts.NOSUID | mounts.NODEV)
        if self._making is None:
            yield _Bound(self._ground.door, os.path.dirname(SOCKET), flags)

    def show_files(self, files: dict[str, str]) -> None:
        """Let files of the host appear, writable, at paths of the container; raises OSError."""
        for source, path in files.items():
            make_mount_point(path, self.root, "f")
            mounts.bind(source, f"{self.root}{path}", mounts.NOSUID | mounts.NODEV)

    def _of_image_and_program(self) -> Iterator[_Bound]:
        wanted = list[tuple[str, str]]()
        for directory, path, each in self._stack.mounts:
            wanted += each_of(directory, path) if each else [(str(directory), path)]
        if self._code is not None:
            wanted += each_of(self._code, HOME)
        image = self._ground.image
        for source, path in merge(wanted, self._is_directory):
            if not self._own_root and image.keeps(f"/{path}"):
                raise OSError(0, f"/{path} {OF_HOST}")
            yield _Bound(source, f"/{path}")

    def _is_directory(self, path: str) -> bool:
        return self._is_directory_below(path) or directory_in(self._own, path) is not None

    def _is_directory_below(self, path: str) -> bool:
        return any(directory_in(layer, path) is not None for layer in self._lower)

    def _of_step(self) -> Iterator[_Bound]:
        if self._making is None:
            return
        if self._making.archive is not None:
            yield _Bound(str(self._making.archive), ARCHIVE)
        if not self._on_image:
            draft = self._ground.layers / self._making.draft.name
            yield _Bound(str(draft / DRAFT), BASE_LAYER, mounts.NOSUID | mounts.NODEV)
        if self._making.way == "tools":
            for source, path in self._ground.toolbox.shown():
                yield _Bound(source, path, mounts.RDONLY | mounts.NOSUID | mounts.NODEV)
        for source, path, writable in self._making.shown:
            yield _Bound(source, path, mounts.NOSUID | mounts.NODEV | (0 if writable else mounts.RDONLY))

    def detach(self) -> None:
        """The container has its own copy of the mounts by now."""
        with contextlib.suppress(OSError):  # it was not mounted, or not any more
            mounts.detach(str(self.root))

    def release(self) -> None:
        """Remove it; its writable layer lies in the container's directory and goes with that.

        Name by name, and never what a directory holds: should something still be mounted there, it is somebody's.
        """
        self.detach()
        with contextlib.suppress(OSError):  # it was removed, or never made
            for entry in list(self.directory.iterdir()):
                if entry != self.root:
                    entry.unlink()
            self.root.rmdir()
            self.directory.rmdir()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="surrogateescape")
    except OSError:
        return ""
