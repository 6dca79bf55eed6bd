"""Source bundles: unpacked once for all containers that use them, read-only, byte-compiled."""

import asyncio
import compileall
import os
import py_compile
import re
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

from greenroom.model.errors import ExecutionError
from greenroom.worker.removal import remove_tree

ABANDONED = 3600.0
"""Seconds after which something half-made belongs to nobody."""
UNUSED = 30 * 86400.0
"""Seconds after which a bundle that no program has used is removed; the next one sends it again."""
PLAIN = ".files"
"""Ends the name of a bundle's directory that holds nothing but what was packed."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Bundles:
    """The ``code`` directory, as a worker sees it: tar files from the server, and directories made of them."""

    def __init__(self, code: Path) -> None:
        self._code = code
        self._unpacking: dict[str, asyncio.Future[Path]] = {}

    def directory(self, digest: str, *, plain: bool = False) -> "asyncio.Future[Path]":
        """The directory of a bundle: done already if it has been unpacked, else once a thread has; fails with ExecutionError.

        ``plain``: just as it is, with no byte-code beside its Python files.
        """
        name = digest + PLAIN * plain
        if name in self._unpacking:
            return self._unpacking[name]
        loop = asyncio.get_running_loop()
        if _DIGEST.fullmatch(digest) and (self._code / name).is_dir():
            future: asyncio.Future[Path] = loop.create_future()
            future.set_result(self._code / name)
            return future
        future = self._unpacking[name] = loop.run_in_executor(None, unpack, self._code, digest, plain)
        future.add_done_callback(lambda _: self._unpacking.pop(name, None))
        return future

    def unpacked(self, digest: str) -> Path:
        """The directory of a bundle that was unpacked ``plain``."""
        return self._code / (digest + PLAIN)

    def archive(self, digest: str) -> Path:
        """The tar file itself; raises ExecutionError."""
        archive = self._code / f"{digest}.tar"
        if not _DIGEST.fullmatch(digest) or not archive.is_file():
            raise ExecutionError(f"{digest[:80]!r} is no bundle of this server's")
        archive.chmod(0o444)  # a real container's user is none of this machine's; the directory is closed
        return archive


def unpack(code: Path, digest: str, plain: bool = False) -> Path:
    """Unpack a bundle, unless somebody has; the directory with its files.

    Raises:
        ExecutionError: the bundle isn't there, is damaged, tries to leave its directory, or the disk is full.
    """
    if not _DIGEST.fullmatch(digest):
        raise ExecutionError(f"{digest[:80]!r} is no digest of a bundle")
    target = code / (digest + PLAIN * plain)
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=code, prefix=".unpack-"))
        with tarfile.open(code / f"{digest}.tar", "r:") as archive:
            _extract(archive, temporary)
        if not plain:
            _compile(temporary, target)
        _make_read_only(temporary)
        os.rename(temporary, target)
    except (OSError, ValueError, tarfile.TarError) as error:
        if temporary is not None:
            remove_tree(temporary)
        if target.is_dir():  # another worker was faster
            return target
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ExecutionError(f"can't unpack the program's files into {code}: {what}") from None
    return target


def remove_abandoned(code: Path) -> None:
    """Remove what workers and servers that were killed at their work have left half-made."""
    for entry in [*code.glob(".unpack-*"), *code.glob(".new-*")]:
        try:
            if time.time() - entry.stat().st_mtime < ABANDONED:
                continue
            if entry.is_dir():
                remove_tree(entry)
            else:
                entry.unlink()
        except FileNotFoundError:
            continue  # its maker was at work after all


def remove_unused(code: Path) -> None:
    """Remove the bundles that no program has used for long: every edit makes a new one."""
    for archive in code.glob("*.tar"):
        try:
            if time.time() - archive.stat().st_mtime < UNUSED:
                continue
            archive.unlink()
        except OSError:
            continue  # another worker was faster, or it is another user's
        for directory in (code / archive.stem, code / (archive.stem + PLAIN)):
            if directory.is_dir():
                remove_tree(directory)


def _extract(archive: tarfile.TarFile, directory: Path) -> None:
    """Files and directories inside, and nothing else, whatever the archive says.

    Not ``extractall``: its filters came with Python 3.11.4. Since nothing that could be a link is ever made, names decide.
    """
    for member in archive:
        parts = Path(member.name).parts
        if member.name.startswith("/") or ".." in parts:
            raise tarfile.TarError(f"{member.name!r} in it would lie outside")
        target = directory.joinpath(*parts)
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        if not member.isreg():
            raise tarfile.TarError(f"{member.name!r} in it is neither file nor directory")
        target.parent.mkdir(parents=True, exist_ok=True)
        source = archive.extractfile(member)
        assert source is not None  # a regular file
        with open(target, "xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        if member.mode & 0o100:
            target.chmod(0o755)


def _compile(directory: Path, target: Path) -> None:
    """Files that don't compile are left to the container that imports them, where the error is the user's to see."""
    compileall.compile_dir(
        directory,
        quiet=2,
        workers=1,
        stripdir=str(directory),
        prependdir=str(target),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _make_read_only(directory: Path) -> None:
    """A bundle is known by its content's digest: no container may change what others see."""
    for root, _, files in os.walk(directory, topdown=False):
        for name in files:
            path = os.path.join(root, name)
            # Readable whatever the umask was: a real container's user is none of this machine's.
            os.chmod(path, 0o555 if os.stat(path).st_mode & 0o100 else 0o444)
        os.chmod(root, 0o555)
