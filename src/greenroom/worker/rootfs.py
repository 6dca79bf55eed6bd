"""A container's root file system: the host image, a writable layer of its own over it, and the program's files.

All of its mounts are the worker's, who may pass through directories that a container's root may not. Once the container
has its copy of them, in a mount namespace of its own, they are detached here, so that the next one has few to copy.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from greenroom.worker import mounts
from greenroom.worker.host_image import HostImage, make_mount_point

HOME = "/root"
"""A container's working directory, and its user's home."""
SOCKET = "/run/greenroom.sock"
"""Where a container finds the server's socket."""
_OVERLAY = "lowerdir={lower},upperdir={own}/upper,workdir={own}/work,metacopy=off,redirect_dir=off"


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
    socket: str
    """The server's, on the host."""
    shared: list[str]
    """Directories of the host that every container finds, writable, at their own paths."""


class RootFilesystem:
    """One container's."""

    def __init__(self, ground: Ground, container_id: str, hostname: str, code: Path | None) -> None:
        self.directory = ground.base / container_id
        self.root = self.directory / "root"
        self._ground = ground
        self._own = ground.scratch / container_id
        self._hostname = hostname
        self._code = code

    def acquire(self) -> None:
        """Mount it; raises OSError, and then nothing of it is left."""
        try:
            self.directory.mkdir(mode=0o711)
            self.root.mkdir()
            self._write_own_layer()
            options = _OVERLAY.format(lower=self._ground.host, own=self._own)
            mounts.mount("overlay", str(self.root), mounts.NODEV | mounts.NOSUID, options)
            self._show_host()
            self._show_program()
        except OSError:
            self.release()
            raise

    def _write_own_layer(self) -> None:
        """What is this container's alone: its name, and the host's name servers as they are now."""
        upper, owner = self._own / "upper", self._ground.owner
        for path, mode in ((upper, 0o755), (self._own / "work", 0o755), (upper / "etc", 0o755), (upper / "root", 0o700),
                           (upper / "run", 0o755)):  # fmt: skip
            path.mkdir()
            path.chmod(mode)
            os.chown(path, owner, owner)
        hosts = _read("/etc/hosts") or "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
        files = {
            "hosts": f"{hosts.rstrip()}\n127.0.1.1\t{self._hostname}\n",
            "hostname": f"{self._hostname}\n",
            "resolv.conf": _read("/etc/resolv.conf"),
        }
        for name, text in files.items():
            path = upper / "etc" / name
            path.write_text(text)
            path.chmod(0o644)
            os.chown(path, owner, owner)

    def _show_host(self) -> None:
        image = self._ground.image
        for path in image.shown:
            mounts.bind(path, f"{self.root}{path}")
        for path in image.hidden:
            mounts.mount(
                "tmpfs", f"{self.root}{path}", mounts.RDONLY | mounts.NOSUID | mounts.NODEV, "size=4k,mode=755"
            )
        mounts.bind("/sys", f"{self.root}/sys", mounts.RDONLY | mounts.NOSUID | mounts.NODEV | mounts.NOEXEC)
        for path in self._ground.shared:
            make_mount_point(path, self.root)
            mounts.bind(path, f"{self.root}{path}", mounts.NOSUID | mounts.NODEV)
        make_mount_point(SOCKET, self.root, "f")
        mounts.bind(self._ground.socket, f"{self.root}{SOCKET}", mounts.NOSUID | mounts.NODEV)

    def show_files(self, files: dict[str, str]) -> None:
        """Let files of the host appear, writable, at paths of the container; raises OSError."""
        for source, path in files.items():
            make_mount_point(path, self.root, "f")
            mounts.bind(source, f"{self.root}{path}", mounts.NOSUID | mounts.NODEV)

    def _show_program(self) -> None:
        if self._code is None:
            return
        with os.scandir(self._code) as entries:
            for entry in entries:
                make_mount_point(f"{HOME}/{entry.name}", self.root, "d" if entry.is_dir() else "f")
                mounts.bind(entry.path, f"{self.root}{HOME}/{entry.name}")

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
