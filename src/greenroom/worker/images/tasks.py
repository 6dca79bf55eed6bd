"""What the container that makes a step is told, and what it finds, by the step's kind."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from greenroom.model.errors import ImageBuildError
from greenroom.model.image import SUITES, ImageConfig, Step
from greenroom.worker.bundle import Bundles
from greenroom.worker.images.apt import proxies
from greenroom.worker.images.handed_in import words_of
from greenroom.worker.images.store import AGENT
from greenroom.worker.sandbox.base import HandedIn, Making, Sandboxes, Stack


class Place(Protocol):
    """Where images are made."""

    sandboxes: Sandboxes
    bundles: Bundles


class Task(NamedTuple):
    """What a step's container is to do, and what it finds."""

    job: dict[str, Any]
    environment: dict[str, str]
    making: Making
    config: ImageConfig


class _Step(NamedTuple):
    place: Place
    step: Step
    below: Stack
    draft: Path

    def archive(self) -> Path:
        """The files that the step names."""
        return self.place.bundles.archive(self.step.rest["bundle"])

    def handed(self, words: list[str] | None = None) -> HandedIn:
        """This machine's settings; ``words``: see ``Sandboxes.hand_in``."""
        return self.place.sandboxes.hand_in(words, self.asked, self.below)

    @property
    def asked(self) -> dict[str, str]:
        """Variables of its own."""
        return {**self.step.rest.get("environment", {}), **self.step.key.get("env", {})}


def task_of(place: Place, step: Step, below: Stack, draft: Path) -> Task:
    """Of a step, or of a base, on what is below it.

    Raises:
        ImageBuildError: a program that it needs is missing; or it names a path that it can't have.
        ExecutionError: its files aren't there.
    """
    return _TASKS[step.kind](_Step(place, step, below, draft))


def _copy(given: _Step) -> Task:
    sandboxes, config = given.place.sandboxes, given.below.config
    archive = given.archive()
    path = inside(sandboxes, given.step, given.step.key["path"], config)
    own = given.step.key.get("own", "")
    job = {"kind": "copy", "archive": sandboxes.archive(archive), "path": path, "own": own}
    making = Making(given.draft, archive, way=_way(config))
    return Task(job, {}, making, config._replace(workdir=""))


def _install(given: _Step, job: dict[str, Any], words: list[str] | None = None) -> Task:
    """A step that is made by this machine's tools where the image has a root of its own."""
    handed = given.handed(words)
    making = Making(given.draft, None, handed.shown, _way(given.below.config))
    if words is not None:
        job = {**job, "options": handed.options}
    return Task(job, {**handed.environment, **given.asked}, making, given.below.config)


def _run(given: _Step) -> Task:
    return _install(given, {"kind": "run", "commands": given.step.key["commands"], "shell": given.below.config.shell})


def _apt(given: _Step) -> Task:
    task = _install(given, {"kind": "apt", "packages": given.step.key["packages"]})
    settings = {"DEBIAN_FRONTEND": "noninteractive", **proxies(os.environ)}
    return task._replace(environment={**settings, **task.environment})


def _pip(given: _Step) -> Task:
    key, config = given.step.key, given.below.config
    if config.own_root and not config.python:
        raise ImageBuildError(f"{given.step.title}: {no_python(config)}")
    how = given.place.sandboxes.packages(given.draft, given.below, given.step.title)
    job = {"kind": "pip", "arguments": key["arguments"], "files": key["files"], **how}
    return _install(given, job, words_of(key["arguments"], key["files"].values()))


def _conda(given: _Step) -> Task:
    key = given.step.key
    program = given.place.sandboxes.tool("micromamba", given.step.title)
    job = {name: key[name] for name in ("packages", "channels", "file", "name")}
    return _install(given, {"kind": "conda", "program": program, **job})


def _python(given: _Step) -> Task:
    handed = given.handed([])
    job = {
        "kind": "python",
        "version": given.step.key["version"],
        "installer": given.place.sandboxes.tool("uv", given.step.title),
    }
    making = Making(given.draft, None, handed.shown, "tools")
    return Task(job, handed.environment, making, given.below.config)


def _agent(given: _Step) -> Task:
    return Task({"kind": "agent"}, {}, Making(given.draft, way="tools"), given.below.config._replace(workdir=""))


def _function(given: _Step) -> Task:
    config = given.below.config
    if config.own_root and not config.python:
        raise ImageBuildError(f"{given.step.title}: {no_python(config)}")
    handed, hook = given.handed(), given.step.rest["hook"]
    job = {"kind": "hook", "name": hook} if hook else {"kind": "function"}
    return Task(job, {**handed.environment, **given.asked}, Making(given.draft, None, handed.shown), config)


def _debian(given: _Step) -> Task:
    python = given.step.key["python"]
    suite = SUITES[python]
    job = {"kind": "base", "base": "debian", "python": python, "suite": suite}
    handed = given.place.sandboxes.hand_in_registries()
    environment = {**proxies(os.environ), **handed.environment}
    return Task(job, environment, Making(given.draft, None, handed.shown, "builder"), ImageConfig())


def _registry(given: _Step) -> Task:
    handed = given.place.sandboxes.hand_in_registries()
    job = {"kind": "base", "base": "registry", "reference": given.step.key["reference"]}
    making = Making(given.draft, None, handed.shown, "base")
    return Task(job, {**handed.environment, **given.step.rest["environment"]}, making, ImageConfig())


def _dockerfile(given: _Step) -> Task:
    handed, key, rest = given.place.sandboxes.hand_in_registries(), given.step.key, given.step.rest
    archive = given.archive()
    job = {
        "kind": "base",
        "base": "dockerfile",
        "file": key["file"],
        "documents": key["documents"],
        "from": rest["from"],
        "arguments": key["arguments"],
        "secrets": sorted(rest["values"]),
        "archive": given.place.sandboxes.archive(archive),
    }
    making = Making(given.draft, archive, handed.shown, "builder")
    return Task(job, {**handed.environment, **rest["values"], **rest["environment"]}, making, ImageConfig())


def _scratch(given: _Step) -> Task:
    return Task({"kind": "base", "base": "scratch"}, {}, Making(given.draft, way="base"), ImageConfig())


_TASKS: dict[str, Callable[[_Step], Task]] = {
    "debian": _debian, "registry": _registry, "dockerfile": _dockerfile, "scratch": _scratch,
    "copy": _copy, "run": _run, "apt": _apt, "pip": _pip, "conda": _conda, "python": _python, "function": _function,
    AGENT: _agent,
}  # fmt: skip


def inside(sandboxes: Sandboxes, step: Step, path: str, config: ImageConfig) -> str:
    """Where a container finds what an image has at ``path``; raises ImageBuildError."""
    try:
        return sandboxes.inside(path, config)
    except ImageBuildError as error:
        raise ImageBuildError(f"{step.title}: {error}") from None


def no_python(config: ImageConfig) -> str:
    """Why nothing of an app can run in an image with a root of its own, and what to do."""
    found = f"a Python {config.python_version}" if config.python_version else "no Python"
    return f"there is {found} on its PATH, and containers need 3.10 or newer: add_python='3.12' brings one"


def _way(config: ImageConfig) -> Any:
    return "tools" if config.own_root else "image"
