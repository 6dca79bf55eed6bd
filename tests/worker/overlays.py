"""Layers that the kernel's overlayfs really writes, and what a container sees of them.

A process of its own, in a mount namespace of its own, mounts them; for each layer a child of it, in a user namespace as a
container's is, does what is asked. So owners, capabilities and lists are written, and read, as the kernel would for a container.
"""

import ctypes
import json
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path

from greenroom.worker.id_range import FIRST, SIZE
from tests.conftest import Need

Operation = list
Snapshot = dict[str, list]
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
SHOWN = ("user.", "security.capability", "system.posix_acl_")


def perform(what: str, path: str, *rest) -> None:
    if what == "write":
        with open(path, "wb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK, 0o644)) as file:
            file.write(os.fsencode(rest[0]))  # a pipe that nobody reads is an error, and no wait
    elif what == "mkdir":
        os.mkdir(path)
    elif what == "remove":
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    elif what == "rename":
        os.rename(path, rest[0])
    elif what == "symlink":
        os.symlink(rest[0], path)
    elif what == "link":
        os.link(rest[0], path, follow_symlinks=False)
    elif what == "chmod":
        os.chmod(path, rest[0])
    elif what == "chown":
        os.chown(path, *rest, follow_symlinks=False)
    elif what == "capability":
        os.setxattr(path, "security.capability", CAPABILITY)
    elif what == "attribute":
        os.setxattr(path, rest[0], os.fsencode(rest[1]), follow_symlinks=False)
    elif what == "no attribute":
        os.removexattr(path, rest[0], follow_symlinks=False)
    elif what == "access":  # for one more user, and so with a mask
        acl = [(1, 7, -1), (2, 6, rest[0]), (4, 5, -1), (8, 4, rest[0]), (0x10, 7, -1), (0x20, 5, -1)]
        os.setxattr(path, rest[1], struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in acl))
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.fsencode(path))
    elif what == "time":
        os.utime(path, ns=(rest[0], rest[0]), follow_symlinks=False)
    else:
        raise ValueError(what)


def snapshot(root: str) -> Snapshot:
    """All that can be seen below a directory, but for sockets."""
    found: Snapshot = {}
    firsts: dict[tuple[int, int], str] = {}

    def look(path: str) -> None:
        full = f"{root}/{path}"
        status = os.lstat(full)
        mode, content = status.st_mode, ""
        if stat.S_ISSOCK(mode):
            return
        if stat.S_ISREG(mode):
            with open(full, "rb") as file:
                content = file.read().decode("latin-1")
        elif stat.S_ISLNK(mode):
            content = os.readlink(full)
        names = [name for name in os.listxattr(full, follow_symlinks=False) if name.startswith(SHOWN)]
        attributes = {name: os.getxattr(full, name, follow_symlinks=False).hex() for name in sorted(names)}
        first = path if stat.S_ISDIR(mode) else firsts.setdefault((status.st_dev, status.st_ino), path)
        found[path] = [oct(mode), status.st_uid, status.st_gid, status.st_mtime_ns, content, attributes, first]
        if stat.S_ISDIR(mode):
            for name in sorted(os.listdir(full)):
                look(f"{path}/{name}")

    look(".")
    return found


class Overlays:
    """The process that mounts; each set of layers gets a directory below ``base``."""

    def __init__(self, base: Path) -> None:
        if os.geteuid() != 0:
            raise PermissionError("overlays of real containers need root for now")
        self._base = base
        self._count = 0
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.worker.overlays"]
        root = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, env=environment
        )

    def make(self, layers: list[list[Operation]], strict: bool = True) -> tuple[list[Path], Snapshot]:
        """The upper directories, lowest first, and what a container sees of all of them, one over another."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._count += 1
        directory = self._base / f"layers-{self._count}"
        directory.mkdir()
        request = {"directory": str(directory), "layers": layers, "strict": strict}
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline())
        if "missing" in reply:
            Need.missing(f"the right to mount overlays and to make user namespaces ({reply['missing']})")
        assert "error" not in reply, reply["error"]
        return [directory / f"upper{number}" for number in range(len(layers))], reply["seen"]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def make(directory: str, layers: list[list[Operation]], strict: bool) -> Snapshot:
    from greenroom.worker import mounts

    os.chdir(directory)
    for name in ("base", "merged", *(f"{kind}{i}" for i in range(len(layers)) for kind in ("upper", "work"))):
        os.mkdir(name, 0o755)
        os.chown(name, FIRST, FIRST)
    lower = "base"
    for number, operations in enumerate(layers):
        options = f"lowerdir={lower},upperdir=upper{number},workdir=work{number},metacopy=off,redirect_dir=off"
        mounts.mount("overlay", "merged", mounts.NODEV | mounts.NOSUID, options)
        try:
            in_user_namespace(lambda operations=operations: perform_all(operations, strict))
        finally:
            mounts.detach("merged")
        lower = f"upper{number}:{lower}"
    mounts.mount("overlay", "merged", mounts.NODEV | mounts.NOSUID | mounts.RDONLY, f"lowerdir={lower}")
    try:
        seen = in_user_namespace(lambda: snapshot("."))
    finally:
        mounts.detach("merged")
    return seen


def perform_all(operations: list[Operation], strict: bool) -> None:
    for operation in operations:
        try:
            perform(*operation)
        except (OSError, shutil.Error) as error:
            if strict:
                raise AssertionError(f"{operation}: {error!r}") from error


def in_user_namespace(work) -> object:
    """What ``work`` returns, done by a container's root with ``merged`` as all that there is."""
    libc = ctypes.CDLL(None, use_errno=True)
    (ready, to_ready), (mapped, to_mapped), (result, to_result) = os.pipe(), os.pipe(), os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.chdir("merged")
            allowed = libc.unshare(0x10000000) == 0
            if allowed:
                os.write(to_ready, b"1")
                os.read(mapped, 1)
                os.setgroups([])
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
                os.chroot(".")  # no link leads out of it
            reply = {"value": work()} if allowed else {"missing": "no user namespace"}
        except BaseException as error:
            reply = {"error": repr(error)}
        with open(to_result, "w") as file:
            json.dump(reply, file)
        os._exit(0)
    for descriptor in (to_ready, mapped, to_result):
        os.close(descriptor)
    if os.read(ready, 1):
        for file in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{file}").write_text(f"0 {FIRST} {SIZE}\n")
        os.write(to_mapped, b"1")
    with open(result) as file:
        reply = json.load(file)
    os.waitpid(pid, 0)
    for descriptor in (ready, to_mapped):
        os.close(descriptor)
    if "missing" in reply:
        raise OSError(reply["missing"])
    if "error" in reply:
        raise RuntimeError(reply["error"])
    return reply["value"]


def main() -> None:
    os.umask(0o022)
    for line in sys.stdin:
        try:
            reply = {"seen": make(**json.loads(line))}
        except OSError as error:
            reply = {"missing": str(error)}
        except Exception as error:
            reply = {"error": repr(error)}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
