"""The program's own files, as they are now: what travels into containers.

Every module that is imported from outside the standard library and site-packages goes along, at its import path;
packages whole, with their data. The bundle is named by its content.
"""

import hashlib
import io
import json
import os
import site
import sys
import sysconfig
import tarfile
from types import ModuleType
from typing import NamedTuple

from greenroom.model.errors import InvalidError

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ORIGINS = ".greenroom-origins"
_SKIPPED = frozenset({"__pycache__", "node_modules"})


class Bundle(NamedTuple):
    """A tar file and its digest."""

    digest: str
    data: bytes


def collect_files(main_as: str) -> dict[str, str]:
    """Path within the bundle → path here.

    Args:
        main_as: the name under which ``__main__``'s file is imported in containers; ``""``: it isn't needed.
    """
    installed = installed_directories()
    real: dict[str, str] = {}
    files: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        if name == "__main__":
            name = main_as
        path = _source_of(module)
        if not name or path is None or is_below(path, installed, real) or name.partition(".")[0] == "__main__":
            continue
        _add_module(files, name, module, path)
    return files


def _source_of(module: ModuleType) -> str | None:
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or not os.path.isfile(path):
        return None
    return os.path.abspath(path)


def installed_directories() -> list[str]:
    """Where the standard library, installed packages and Greenroom itself are, which never travel."""
    found = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found |= {*site.getsitepackages(), site.getusersitepackages(), _OWN}
    return [os.path.join(os.path.realpath(path), "") for path in found if path]


def is_below(path: str, directories: list[str], known: dict[str, str] | None = None) -> bool:
    """Whether a file is of one of those directories, or installed in another environment.

    Args:
        known: where directories really are, for who asks of many files; added to.
    """
    folder, name = os.path.split(path)
    if known is None or os.path.islink(path):
        real = os.path.realpath(path)
    else:
        if folder not in known:
            known[folder] = os.path.realpath(folder)
        real = os.path.join(known[folder], name)
    return any(real.startswith(directory) for directory in directories) or "/site-packages/" in real


def _add_module(files: dict[str, str], name: str, module: ModuleType, path: str) -> None:
    """A module's file at its import path; of a package, the whole of its outermost ordinary package."""
    relative = name.replace(".", "/")
    if not hasattr(module, "__path__"):
        parent = sys.modules.get(name.rpartition(".")[0])
        if parent is not None and _source_of(parent) is not None:
            return  # it goes with its package
        files.setdefault(f"{relative}{os.path.splitext(path)[1]}", path)
        return
    directory = os.path.dirname(path)
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(f for f in folders if _travels(folder, f))
        for file in sorted(names):
            full = os.path.join(folder, file)
            # Sockets, FIFOs, devices and links that lead nowhere have no content to travel.
            if not file.startswith(".") and not file.endswith((".pyc", ".pyo")) and os.path.isfile(full):
                files.setdefault(os.path.join(relative, os.path.relpath(full, directory)), full)


def _travels(folder: str, name: str) -> bool:
    if name.startswith(".") or name in _SKIPPED:
        return False
    return not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


def pack(files: dict[str, str]) -> Bundle:
    """The bundle of those files; the same files give the same digest.

    Raises:
        InvalidError: one of them can't be read.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, ORIGINS, json.dumps(files, sort_keys=True).encode(), 0o644)
        for name in sorted(files):
            try:
                with open(files[name], "rb") as file:
                    data = file.read()
                mode = 0o755 if os.access(files[name], os.X_OK) else 0o644
            except OSError as error:
                raise InvalidError(
                    f"{files[name]} belongs to the program and can't be read: {error.strerror or error}"
                ) from None
            _add(archive, name, data, mode)
    data = buffer.getvalue()
    return Bundle(hashlib.sha256(data).hexdigest(), data)


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))
