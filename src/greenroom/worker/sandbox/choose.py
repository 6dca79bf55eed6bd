"""Which sandbox a worker's containers run in: what was insisted on, else real containers where we may, else plain processes."""

import os
from pathlib import Path

from greenroom.model.settings import Settings
from greenroom.worker.sandbox.base import Launch, Sandbox, Sandboxes
from greenroom.worker.sandbox.process import ProcessSandboxes


def choose(settings: Settings, home: Path, run: Path) -> Sandboxes:
    """To be called before this process has threads."""
    if settings.sandbox == "process" and not settings.runtime:
        return ProcessSandboxes()
    insisted = settings.sandbox == "oci" or bool(settings.runtime)
    try:
        return _oci(settings, home, run)
    except OSError as error:
        why = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    if insisted:
        return NoSandboxes(f"real containers were asked for, and can't be had: {why}")
    return ProcessSandboxes(f"containers are plain processes, which can do and see what you can: {why}")


def _oci(settings: Settings, home: Path, run: Path) -> Sandboxes:
    if os.geteuid() != 0:
        raise OSError(0, "real ones need root for now")
    from greenroom.worker.sandbox.oci import OciSandboxes
    from greenroom.worker.sandbox.runtimes import find_runtime

    runtime = find_runtime(settings.runtime)
    if runtime is None:
        missing = settings.runtime or "crun or runc"
        raise OSError(0, f"there is no {missing} here; apt-get install {settings.runtime or 'crun'}")
    return OciSandboxes(runtime, home, run, settings)


class NoSandboxes:
    """What was insisted on can't be had: no container starts, and each says why."""

    name = "none"
    inline_only = False
    keeps_limits = ""

    def __init__(self, why: str) -> None:
        self.lacks = why

    def sandbox(self, launch: Launch) -> Sandbox:
        """Raises OSError with the reason."""
        raise OSError(0, self.lacks)

    def left(self, container_id: str, directory: Path) -> Sandbox:
        """There are none: as plain processes, they can be looked after."""
        return ProcessSandboxes().left(container_id, directory)

    def code(self, code: Path) -> str:
        """Nobody asks."""
        return str(code)

    def socket(self, path: str) -> str:
        """Nobody asks."""
        return path

    def close(self) -> None:
        """Nothing to do."""
