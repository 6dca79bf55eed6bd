"""What is read of a layer that programs have made, whose words count for nothing until they are checked."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from greenroom.model.errors import ImageBuildError
from greenroom.model.image import OLDEST_PYTHON, ImageConfig, Step
from greenroom.worker.images.store import Layer
from greenroom.worker.merging import directory_in

BASES = frozenset({"debian", "registry", "dockerfile", "scratch"})
"""The kinds of base that are a layer."""
CONFIG = "config.json"
"""Where who makes a base leaves its configuration, as the image-spec's ``config.md`` has it; or nothing."""
PYTHON = "python.json"
"""Where who brings the agent leaves ``[path, version]`` of the interpreter that it found."""
_LARGEST = 1 << 20


def base_config(layer: Layer | None) -> ImageConfig:
    """How an image on that base begins."""
    assert layer is not None  # it is held
    return ImageConfig(*layer.config)


def read_base(work: Path, step: Step) -> ImageConfig:
    """How an image on a base that was just made begins; raises ImageBuildError."""
    try:
        found = _read(work, CONFIG)
        if found is None:
            return ImageConfig(own_root=True)
        given = found.get("config") or {}
        environment = dict(line.split("=", 1) for line in _texts(given, "Env") if "=" in line)
        workdir = given.get("WorkingDir") or ""
        if not isinstance(workdir, str) or "\0" in workdir:
            raise TypeError("WorkingDir is no text")
        return ImageConfig(
            environment={name: value for name, value in environment.items() if name},
            workdir=workdir if workdir != "/" else "",
            entrypoint=_texts(given, "Entrypoint"),
            cmd=_texts(given, "Cmd"),
            shell=_texts(given, "Shell") or ImageConfig().shell,
            own_root=True,
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ImageBuildError(f"{step.title}: its configuration is damaged: {error}") from None


def brought(files: Path) -> tuple[str, str]:
    """Path and version of the interpreter that containers are to run on; a path only where it can be used.

    Raises:
        ImageBuildError: what was left there is none of the agent's.
    """
    try:
        found = _read(files / ".greenroom", PYTHON) if directory_in(files, ".greenroom") is not None else None
        path, version = found if found is not None else ("", "")
        numbers = tuple(map(int, version.split("."))) if version else (0, 0)
        if not isinstance(path, str) or len(numbers) != 2:
            raise TypeError(f"{found!r:.80} is no interpreter")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ImageBuildError(f"looking for the image's Python went wrong: {error}") from None
    return path if numbers >= OLDEST_PYTHON else "", version


def _read(directory: Path, name: str) -> Any:
    """A JSON file that is one, and no link to elsewhere; None: there is none. Raises OSError, ValueError."""
    try:
        fd = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError(f"{name} is no file")
        read = file.read(_LARGEST + 1)
        if len(read) > _LARGEST:
            raise ValueError(f"{name} is larger than {_LARGEST >> 20} MiB")
        return json.loads(read)


def _texts(given: dict[str, Any], name: str) -> list[str]:
    found = given.get(name) or []
    if not isinstance(found, list) or not all(isinstance(text, str) and "\0" not in text for text in found):
        raise TypeError(f"{name} is no list of text")
    return found
