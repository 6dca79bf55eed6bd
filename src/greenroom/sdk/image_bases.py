"""What an image can stand on beside this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import InvalidError
from greenroom.model.image import OLDEST_PYTHON, SUITES, SYSTEM_PATH, Step
from greenroom.sdk.image_options import Variables, lacking, path_of, variables
from greenroom.sdk.lazy import Lazy

if TYPE_CHECKING:
    from greenroom.sdk import build_context as contexts
    from greenroom.sdk.file_patterns import Ignore
    from greenroom.sdk.image import Image
    from greenroom.sdk.image_plan import Plan
    from greenroom.sdk.secret import Secret
else:
    contexts = Lazy("greenroom.sdk.build_context")

_VERSION = re.compile(r"3\.\d+(\.\d+)?")
_CONDA = "/opt/conda"


class BaseImages:
    """A part of :class:`greenroom.Image`."""

    @classmethod
    def debian_slim(cls, python_version: str | None = None, force_build: bool = False) -> Image:
        """Debian with Python and pip, made by mmdebstrap; where that isn't installed, the registry's ``python:3.x-slim``.

        Args:
            python_version: ``"3.11"`` and ``"3.13"`` are Debian's own; another one is downloaded by uv. Without it, this
                machine's.
            force_build: make it whenever an app starts.

        Raises:
            InvalidError: that is no version.
        """
        import sys

        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        version = here if python_version is None else _version("Image.debian_slim", python_version)
        text = f"Image.debian_slim({'' if python_version is None else repr(python_version)})"
        suite = version if version in SUITES else ""
        image = _base(text, lambda plan: Step("debian", "", {"python": suite, **plan.forced(force_build)}))
        return image if suite else image.add_python(version)

    @classmethod
    def from_registry(
        cls,
        tag: str,
        secret: Secret | None = None,
        *,
        setup_dockerfile_commands: Sequence[str] = (),
        force_build: bool = False,
        add_python: str | None = None,
    ) -> Image:
        """An image of a registry, as one layer. It needs a Python of 3.10 or newer on its ``PATH``, or ``add_python=``.

        Args:
            tag: ``python:3.12-slim``, ``ghcr.io/owner/name@sha256:…``. It is pulled once; ``force_build=`` pulls it again.
            secret: with ``REGISTRY_USERNAME`` and ``REGISTRY_PASSWORD``. Without it, those of ``docker login`` and
                ``skopeo login``.
            setup_dockerfile_commands: see :meth:`dockerfile_commands`.
            add_python: see :meth:`add_python`.

        Raises:
            InvalidError: that names no image.
        """
        where = "Image.from_registry"
        if not isinstance(tag, str) or not tag or any(c.isspace() or c == "\0" for c in tag) or tag.startswith("-"):
            raise InvalidError(f"{where} takes the name of an image, such as 'python:3.12-slim', not {tag!r:.80}")
        own = _credentials(where, secret)
        reference = tag.removeprefix("docker://")

        def describe(plan: Plan) -> Step:
            key = {"reference": reference, **own.named(), **plan.forced(force_build)}
            return Step("registry", "", key, own.asked())

        image = _base(f"{where}({tag!r})", describe)
        if setup_dockerfile_commands:
            image = image.dockerfile_commands(*setup_dockerfile_commands)
        return image if add_python is None else image.add_python(add_python)

    @classmethod
    def from_dockerfile(
        cls,
        path: str | os.PathLike[str],
        *,
        force_build: bool = False,
        context_dir: str | os.PathLike[str] | None = None,
        ignore: Iterable[str] | Ignore | None = None,
        build_args: Mapping[str, str] | None = None,
        registry_secret: Secret | None = None,
        secrets: Sequence[Secret] | None = None,
        env: Mapping[str, str | None] | None = None,
        gpu: Any = None,
        add_python: str | None = None,
    ) -> Image:
        """What buildah makes of a Dockerfile, as one layer. It needs a Python of 3.10 or newer, or ``add_python=``.

        Args:
            context_dir: where its ``COPY`` takes files from; the current directory unless it is given.
            ignore: what of it stays behind, as for :meth:`add_local_dir`; else its ``.dockerignore`` says so.
            build_args: values of ``ARG``.
            registry_secret: credentials for what it is ``FROM``, as for :meth:`from_registry`.
            secrets, env: for ``RUN --mount=type=secret,id=NAME``, by name; in no layer.

        Raises:
            InvalidError: a value of another kind. What is wrong with the file is said when an app starts.
        """
        text = path_of("Image.from_dockerfile", path)
        where = f"Image.from_dockerfile({text!r})"
        directory = None if context_dir is None else path_of(where, context_dir)
        arguments = build_arguments(where, build_args)
        own = variables(where, env, secrets)
        registry = _credentials(where, registry_secret)
        lacks = lacking(where, gpu=gpu)

        def describe(plan: Plan) -> Step:
            read = contexts.read_dockerfile(where, text, arguments)
            digest = plan.files(contexts.finder(read, directory, ignore), where)
            key = {
                "file": read.text, "documents": read.documents, "files": digest, "arguments": arguments,
                "registry": [name for names in registry.named().values() for name in names],
                **plan.keyed(own, force=force_build),
            }  # fmt: skip
            given, credentials = own.asked("values"), registry.asked()
            rest = {"bundle": digest, "from": read.images, **given, **credentials}
            if stored := {**given.get("stored", {}), **credentials.get("stored", {})}:
                rest["stored"] = stored
            return Step("dockerfile", "", key, rest)

        image = _base(where, describe, lacks)
        return image if add_python is None else image.add_python(add_python)

    @classmethod
    def from_scratch(cls, force_build: bool = False) -> Image:
        """Nothing at all: for images that are to be exported."""
        return _base("Image.from_scratch()", lambda plan: Step("scratch", "", plan.forced(force_build)))

    @classmethod
    def micromamba(cls, python_version: str | None = None, force_build: bool = False) -> Image:
        """Debian with a conda environment at ``/opt/conda``, its Python from conda-forge; made by this machine's micromamba.

        Args:
            python_version: without it, this machine's.
        """
        import sys

        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        version = here if python_version is None else _version("Image.micromamba", python_version)
        text = f"Image.micromamba({'' if python_version is None else repr(python_version)})"
        image = _base(text, lambda plan: Step("debian", "", {"python": "", **plan.forced(force_build)}))
        image = image.env({"PATH": f"{_CONDA}/bin:{SYSTEM_PATH}", "CONDA_PREFIX": _CONDA})
        return image.micromamba_install(f"python={version}", "pip", channels=["conda-forge"])


def _base(text: str, describe: Callable[[Plan], Step], lacks: str = "") -> Image:
    from greenroom.sdk.image import on_base

    return on_base(text, describe, lacks)


def _credentials(where: str, secret: Secret | None) -> Variables:
    """Those for a registry, and nothing else that a secret has; raises ``InvalidError``."""
    found = variables(where, None, None if secret is None else [secret])
    names = ("REGISTRY_USERNAME", "REGISTRY_PASSWORD")
    if found.stored:
        (stored,) = found.stored
        return found._replace(stored=[stored._replace(required=[*stored.required, *names], only=[*names])])
    if secret is not None and not all(found.secret.get(name) for name in names):
        raise InvalidError(f"{where}: a secret for a registry has {' and '.join(names)}, and this one doesn't")
    return found._replace(secret={name: found.secret[name] for name in names if name in found.secret})


def _version(where: str, given: Any) -> str:
    if not isinstance(given, str) or not _VERSION.fullmatch(given):
        raise InvalidError(f"{where} takes a version of Python as text, such as '3.12', not {given!r:.40}")
    if tuple(map(int, given.split(".")[:2])) < OLDEST_PYTHON:
        raise InvalidError(f"{where}({given!r}): containers need Python {'.'.join(map(str, OLDEST_PYTHON))} or newer")
    return given


def python_step(version: Any) -> tuple[str, Callable[[Plan], Step]]:
    """What ``add_python`` adds: its text, and its description."""
    checked = _version("Image.add_python", version)
    return f".add_python({checked!r})", lambda plan: Step("python", "", {"version": checked})


def build_arguments(where: str, given: Mapping[str, str] | None) -> dict[str, str]:
    """What ``build_args=`` says; raises ``InvalidError``."""
    found = dict(given) if isinstance(given, Mapping) else {} if given is None else {"": None}
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in found.items()):
        raise InvalidError(f"{where}: build_args= takes a dict of text, not {given!r:.80}")
    return found
