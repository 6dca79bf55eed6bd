"""What an image is, as it travels from the program that describes it to the worker that makes it.

A base, and steps that each add to what is below. A step that makes files is a **layer**, kept under a key: the digest of
the key below it and of the step. A step that only says how the image is used (``env``, ``workdir``, …) has a key like any
other, since later steps run under it, but no files.
"""

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from greenroom.model.expansion import expand
from greenroom.model.spec import FunctionSpec

SETTING = frozenset({"env", "workdir", "entrypoint", "cmd", "shell"})
"""Steps without files."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for unless an image says otherwise."""
HOST = "host"
"""The base that is no layer: what this machine has."""
SUITES = {"3.11": "bookworm", "3.13": "trixie", "": "bookworm"}
"""Of Debian, by the Python that each has, or by none."""
LONGEST = 400
"""Characters of a step's text in an error: commands may be whole scripts."""
OLDEST_PYTHON = (3, 10)
"""What a container can run on."""


class Step(NamedTuple):
    """One step, or the base."""

    kind: str
    """Of a base: ``host``, ``debian``, ``registry``, ``dockerfile``, ``scratch``. Of a step: ``run``, ``function``, ``copy``,
    ``pip``, ``apt``, ``python``, ``conda``, or one of ``SETTING``."""
    text: str
    """As a person would know it: ``.run_commands('make')``."""
    key: dict[str, Any]
    """All that its result depends on, as JSON."""
    rest: dict[str, Any] = {}
    """What it takes to make it beside that, and that changes nothing: bundles, values of secrets, limits."""
    where: str = ""
    """File and line of the user's program: ``app.py:12``."""

    @property
    def title(self) -> str:
        """By itself, outside of its chain, and where it is written: ``Image.run_commands('make') (app.py:12)``."""
        where = f" ({self.where})" if self.where else ""
        text = self.text if len(self.text) <= LONGEST else f"{self.text[: LONGEST - 1]}…"
        return f"{'Image' if text.startswith('.') else ''}{text}{where}"

    @property
    def has_files(self) -> bool:
        """Whether it makes a layer."""
        return self.kind not in SETTING and self.kind != HOST

    @property
    def payloads(self) -> list[int]:
        """Which of the image's payloads it needs."""
        return list(self.rest.get("payloads", ()))


class ImageSpec(NamedTuple):
    """A whole image."""

    base: Step
    steps: list[Step]
    mounts: list[list[Any]] = []
    """``[digest of a bundle, path, each]``: files that are bound when a container starts, and are in no layer: as one
    directory, or (``each``) each of what it holds by itself."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"base": list(self.base), "steps": [list(step) for step in self.steps], "mounts": self.mounts}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ImageSpec":
        """The inverse of :meth:`to_json`; raises ``TypeError``, ``KeyError`` or ``ValueError`` on data of another shape."""
        base = _step(data["base"], _BASES)
        mounts = [[digest, path, each] for digest, path, each in data["mounts"]]
        if not all(_every(str, mount[:2]) and isinstance(mount[2], bool) for mount in mounts):
            raise TypeError("a mount is [digest, path, each]")
        return cls(base, [_step(step, _STEPS) for step in data["steps"]], mounts)


class ImageConfig(NamedTuple):
    """How an image is used."""

    environment: dict[str, str] = {}
    workdir: str = ""
    """``""``: the container's home."""
    entrypoint: list[str] = []
    cmd: list[str] = []
    shell: list[str] = ["/bin/sh", "-c"]
    """What runs the command of a ``run`` step."""
    packages: bool = False
    """Python packages were installed into an environment of their own, beside the interpreter's."""
    own_root: bool = False
    """Nothing of this machine's is under the image's layers."""
    python: str = ""
    """Path of the interpreter in an image with a root of its own; ``""``: none that can be used was found yet."""
    python_version: str = ""
    """``3.12``: of that interpreter; or of one that was found and is too old."""


class MadeImage(NamedTuple):
    """An image that is there: what a container of it needs."""

    layers: list[str] = []
    """Keys, the lowest first."""
    config: ImageConfig = ImageConfig()
    mounts: list[list[Any]] = []

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"layers": self.layers, "config": list(self.config), "mounts": self.mounts}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "MadeImage":
        """The inverse of :meth:`to_json`; raises ``TypeError`` or ``KeyError`` on data of another shape."""
        return cls(list(data["layers"]), ImageConfig(*data["config"]), list(data["mounts"]))


def next_key(below: str, step: Step) -> str:
    """The key of ``step`` on what has the key ``below`` (``""``: nothing)."""
    return digest([below, step.kind, step.key])


def keys(base: Step, steps: Iterable[Step]) -> Iterator[str]:
    """The key of the base, then that of each step."""
    key = next_key("", base)
    yield key
    for step in steps:
        key = next_key(key, step)
        yield key


def digest(value: Any) -> str:
    """The SHA-256, in hexadecimal, of a JSON value in its one canonical form."""
    import hashlib  # not in every container that merely names an image

    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def configure(config: ImageConfig, step: Step) -> ImageConfig:
    """``config`` as it is after ``step``."""
    key = step.key
    if step.kind == "env":
        values = key["variables"]
        if key.get("expand"):
            known = {"PATH": SYSTEM_PATH, **config.environment}
            values = {name: expand(value, known) for name, value in values.items()}
        if "PATH" in values:
            config = config._replace(python="")  # it may lead to another
        return config._replace(environment={**config.environment, **values})
    if step.kind in ("python", "conda"):
        return config._replace(python="")  # there may be another now
    if step.kind == "workdir":
        # A relative one is below the one before, as in a Dockerfile.
        path = expand(key["path"], config.environment) if key.get("expand") else key["path"]
        return config._replace(workdir=posixpath.join(config.workdir or "/root", path))
    if step.kind == "pip":
        return config._replace(packages=not config.own_root)
    words = list(key.get("words", ()))
    if step.kind == "entrypoint":
        return config._replace(entrypoint=words)
    if step.kind == "cmd":
        return config._replace(cmd=words)
    return config._replace(shell=words) if step.kind == "shell" else config


def without_passwords(text: str) -> str:
    """For people to see: what a web address has before ``@`` is left out."""
    import re

    return re.sub(r"(?<=://)[^/@\s'\"]+(?=@)", "****", text)


def _every(kind: type, values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)


def _is_argument(word: Any) -> bool:
    return isinstance(word, str) or (
        isinstance(word, dict) and list(word) == ["file"] and isinstance(word["file"], str)
    )


def _is_command(command: Any) -> bool:
    """Text for a shell, or the words of a program."""
    return isinstance(command, str) or (isinstance(command, list) and bool(command) and _every(str, command))


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "texts": lambda value: isinstance(value, list) and _every(str, value),
    "commands": lambda value: isinstance(value, list) and all(map(_is_command, value)),
    "arguments": lambda value: isinstance(value, list) and all(_is_argument(word) for word in value),
    "variables": lambda value: isinstance(value, dict) and _every(str, value.values()),
    "payloads": lambda value: isinstance(value, list) and _every(int, value) and len(value) == 2 and min(value) >= 0,
    "function": lambda value: isinstance(value, dict) and FunctionSpec.from_json(value).timeout > 0,
}
_BASES: dict[str, dict[str, str]] = {
    HOST: {},
    "debian": {"python": "text"},
    "registry": {"reference": "text", "environment": "variables"},
    "dockerfile": {
        "file": "text",
        "documents": "variables",
        "files": "text",
        "bundle": "text",
        "from": "texts",
        "arguments": "variables",
        "values": "variables",
        "environment": "variables",
    },
    "scratch": {},
}
_STEPS: dict[str, dict[str, str]] = {
    "env": {"variables": "variables"},
    "workdir": {"path": "text"},
    "entrypoint": {"words": "texts"},
    "cmd": {"words": "texts"},
    "shell": {"words": "texts"},
    "run": {"commands": "commands", "env": "variables", "environment": "variables"},
    "function": {
        "spec": "function",
        "hook": "text",
        "payloads": "payloads",
        "env": "variables",
        "environment": "variables",
    },
    "copy": {"path": "text", "bundle": "text"},
    "apt": {"packages": "texts", "env": "variables", "environment": "variables"},
    "python": {"version": "text"},
    "conda": {
        "packages": "texts",
        "channels": "texts",
        "file": "text",
        "name": "text",
        "env": "variables",
        "environment": "variables",
    },
    "pip": {"arguments": "arguments", "files": "variables", "env": "variables", "environment": "variables"},
}
"""What each kind has in its key, or beside it, and the shape of that: who makes the step counts on it."""


def _step(data: Any, kinds: dict[str, dict[str, str]]) -> Step:
    if not isinstance(data, list) or len(data) != len(Step._fields):
        raise TypeError(f"a step has {len(Step._fields)} fields: {data!r:.80}")
    step = Step(*data)
    if not _every(str, (step.kind, step.text, step.where)) or not _every(dict, (step.key, step.rest)):
        raise TypeError(f"a step of another shape: {step.text!r:.80}")
    for name, shape in kinds[step.kind].items():
        value = step.key[name] if name in step.key else step.rest[name]
        if not _SHAPES[shape](value):
            raise TypeError(f"a step of the kind {step.kind} has {value!r:.80} as its {name}")
    return step
