"""``import modal`` answered with greenroom: for programs written for Modal, under our CLI and in our containers."""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from greenroom.usercode.context import inside

_SUBMODULES = {
    "app", "billing", "call_graph", "client", "cloud_bucket_mount", "cls", "cluster", "config", "container_process", "dict",
    "environments", "exception", "experimental", "extensions", "file_io", "file_pattern_matcher", "functions", "gpu",
    "image", "io_streams", "mount", "network_file_system", "object", "output", "parallel_map", "partial_function", "proxy",
    "queue", "retries", "runner", "running_app", "sandbox", "schedule", "scheduler_placement", "secret", "server", "serving",
    "snapshot", "stream_type", "token_flow", "types", "volume", "workspace",
}  # fmt: skip
_NOT_AT_THE_TOP = {"Obj": "greenroom.sdk.cls", "LocalEntrypoint": "greenroom.sdk.entrypoint",
                   "Schedule": "greenroom.sdk.schedule"}  # fmt: skip
"""Public names that Modal has in a submodule alone, and where ours are."""

_BROUGHT = "/.greenroom"
"""Where an image with a root of its own has greenroom, whose Python doesn't look there by itself."""


class _Finder:
    """Goes before an installed ``modal``."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``."""
        if name == "modal" or (name.startswith("modal.") and name[6:] in _SUBMODULES):
            return ModuleSpec(name, self, is_package=name == "modal")  # type: ignore[arg-type]
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """``modal`` has greenroom's names; ``modal.exception`` is its errors, ``modal.gpu`` its ``gpu``."""
        if spec.name in ("modal.exception", "modal.gpu"):
            return getattr(importlib.import_module("greenroom"), spec.name[6:])  # type: ignore[no-any-return]
        module = ModuleType(spec.name)
        find = _find if spec.name == "modal" else _find_below
        module.__getattr__ = lambda name: find(spec.name, name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def _find(module: str, name: str) -> Any:
    """A name of ``modal``; its submodules are there without being imported."""
    if name in _SUBMODULES:
        return importlib.import_module(f"{module}.{name}")
    return getattr(importlib.import_module("greenroom"), name)


def _find_below(module: str, name: str) -> Any:
    """A name of a submodule: greenroom's, or one that can be named, and is refused when it's used."""
    if name in _NOT_AT_THE_TOP:
        return getattr(importlib.import_module(_NOT_AT_THE_TOP[name]), name)
    try:
        return getattr(importlib.import_module("greenroom"), name)
    except AttributeError:
        if name.startswith("_"):
            raise
    recorded: Any = importlib.import_module("greenroom.sdk.unbuilt").Recorded
    return recorded(f"{module}.{name}")


_finder = _Finder()


def shim_directory() -> str:
    """Where on a path ``modal`` has to be looked for, so that an interpreter without our finder gets it too."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "modal_path")


def install() -> None:
    """From now on in this process; may be called again.

    Processes that multiprocessing starts take ``sys.path`` along; inside a container, ``$PYTHONPATH`` reaches every
    other interpreter too.
    """
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    for name in [name for name in sys.modules if name == "modal" or name.startswith("modal.")]:
        if getattr(sys.modules[name].__spec__, "loader", None) is not _finder:
            del sys.modules[name]
    shim = shim_directory()
    if shim not in sys.path:
        sys.path.insert(1, shim)  # after the program's own files, before all that is installed
    if inside() is not None:
        ours = [shim, *([_BROUGHT] if shim.startswith(_BROUGHT + os.sep) else [])]
        others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in ours]
        os.environ["PYTHONPATH"] = os.pathsep.join([*ours, *others])
