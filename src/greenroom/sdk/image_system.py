"""The steps of an image that install more than Python packages, and those that are written as in a Dockerfile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import InvalidError
from greenroom.model.expansion import expand, names_in
from greenroom.model.image import Step
from greenroom.sdk.image_bases import build_arguments, python_step
from greenroom.sdk.image_options import Variables, lacking, path_of, variables
from greenroom.sdk.lazy import Lazy

if TYPE_CHECKING:
    from greenroom.sdk import build_context as contexts
    from greenroom.sdk import dockerfile as dockerfiles
    from greenroom.sdk import requirements
    from greenroom.sdk.dockerfile import Instruction
    from greenroom.sdk.file_patterns import Ignore
    from greenroom.sdk.image import Image
    from greenroom.sdk.image_plan import Plan
    from greenroom.sdk.secret import Secret
else:
    contexts = Lazy("greenroom.sdk.build_context")
    dockerfiles = Lazy("greenroom.sdk.dockerfile")
    requirements = Lazy("greenroom.sdk.requirements")

_MEANINGLESS = ("EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "STOPSIGNAL", "VOLUME")
"""Instructions that say nothing to a container of an app."""
_WORDS = {"ENTRYPOINT": "entrypoint", "CMD": "cmd", "SHELL": "shell"}


class SystemSteps:
    """A part of :class:`greenroom.Image`."""

    def apt_install(
        self,
        *packages: str | list[str],
        force_build: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        gpu: Any = None,
    ) -> Image:
        """Install Debian packages, by the image's own apt.

        Raises:
            InvalidError: a package is no text, or the image is on the host image, which apt can't change.
        """
        where = "Image.apt_install"
        named = _names(where, packages, "git")
        if self._on_host():
            raise InvalidError(
                f"{where}({', '.join(map(repr, named))}): the host image shows this machine's packages, read-only; install "
                "them here, or begin with Image.debian_slim()"
            )
        own = variables(where, env, secrets)

        def describe(plan: Plan) -> Step:
            key = {"packages": named, **plan.keyed(own, force=force_build)}
            return Step("apt", "", key, own.asked())

        return self._with(f".apt_install({', '.join(map(repr, named))})", describe, lacking(where, gpu=gpu))

    def add_python(self, version: str) -> Image:
        """Install a Python into ``/usr/local``, before all others of the image: a build that uv has or downloads.

        Args:
            version: ``"3.12"``, ``"3.12.4"``.
        """
        text, describe = python_step(version)
        if self._on_host():
            raise InvalidError(f"Image{text}: the host image has this machine's Python; begin with Image.debian_slim()")
        return self._with(text, describe)

    def micromamba_install(
        self,
        *packages: str | list[str],
        spec_file: str | os.PathLike[str] | None = None,
        channels: Sequence[str] = (),
        force_build: bool = False,
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        gpu: Any = None,
    ) -> Image:
        """Install conda packages into ``/opt/conda``, by this machine's micromamba.

        Args:
            spec_file: with packages, as ``micromamba install --file`` reads it.
            channels: in the order in which they are asked.
        """
        where = "Image.micromamba_install"
        named = _names(where, packages, "numpy") if packages or spec_file is None else []
        path = None if spec_file is None else path_of(where, spec_file)
        if isinstance(channels, str):
            raise InvalidError(f"{where}: channels= takes a list: write [{channels!r}]")
        if self._on_host():
            raise InvalidError(f"{where}: the host image has no conda environment; begin with Image.micromamba()")
        own = variables(where, env, secrets)

        def describe(plan: Plan) -> Step:
            text = "" if path is None else requirements.read_text(where, path)
            key = {
                "packages": named, "channels": list(channels), "file": text, "name": os.path.basename(path or ""),
                **plan.keyed(own, force=force_build),
            }  # fmt: skip
            return Step("conda", "", key, own.asked())

        words = [*map(repr, named), *([] if path is None else [f"spec_file={path!r}"])]
        return self._with(f".micromamba_install({', '.join(words)})", describe, lacking(where, gpu=gpu))

    def dockerfile_commands(
        self,
        *dockerfile_commands: str | list[str],
        context_files: Mapping[str, str] | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        gpu: Any = None,
        context_dir: str | os.PathLike[str] | None = None,
        force_build: bool = False,
        ignore: Iterable[str] | Ignore | None = None,
        build_args: Mapping[str, str] | None = None,
    ) -> Image:
        """Lines as in a Dockerfile, each a step of its own: ``RUN``, ``COPY``, ``ADD``, ``ENV``, ``ARG``, ``WORKDIR``,
        ``SHELL``, ``ENTRYPOINT``, ``CMD``.

        Args:
            context_dir: where ``COPY`` takes files from; the current directory unless it is given.
            context_files: files that ``COPY`` finds by other names: name, path here.
            env, secrets: variables that ``RUN`` finds; values of secrets are in no layer.
            ignore: what of ``context_dir`` stays behind; else its ``.dockerignore`` says so.
            build_args: values of ``ARG``.

        Raises:
            InvalidError: a line that is none, or one that only a whole Dockerfile can have.
        """
        where = "Image.dockerfile_commands"
        lines = _names(where, dockerfile_commands, "RUN make")
        own = variables(where, env, secrets)
        steps = _Commands(
            own,
            None if context_dir is None else path_of(where, context_dir),
            ignore,
            build_arguments(where, build_args),
            dict(context_files or {}),
            force_build,
        )
        lacks = lacking(where, gpu=gpu)
        image: Any = self
        for each in dockerfiles.parse("\n".join(lines), where):
            image = steps.add(image, each, lacks)
        return image  # type: ignore[no-any-return]

    def _with(self, text: str, describe: Callable[[Plan], Step], lacks: str = "") -> Image:
        """The image with one step more."""
        raise NotImplementedError

    def _on_host(self) -> bool:
        """Whether this machine's files are under it."""
        raise NotImplementedError


class _Commands:
    """A Dockerfile's instructions, one after another, as steps."""

    def __init__(
        self,
        own: Variables,
        directory: str | None,
        ignore: Iterable[str] | Ignore | None,
        given: dict[str, str],
        files: dict[str, str],
        force: bool,
    ) -> None:
        self._own = own
        self._directory = directory
        self._ignore = ignore
        self._given = given
        self._files = files
        self._force = force
        self._arguments: dict[str, str] = {}
        self._set: dict[str, str | None] = {}
        """By ``ENV``, which counts before those; None: to what is known only where the image is made."""

    def add(self, image: Any, each: Instruction, lacks: str) -> Any:
        """The image with one instruction more; raises ``InvalidError``."""
        where = f"Image.dockerfile_commands({each.text!r:.80})"
        if each.name in _MEANINGLESS:
            return image._passing_over(each.name)
        if refused := _refused(each):
            raise InvalidError(f"{where}: {refused}")
        if each.name == "USER":
            return image  # it is root
        if each.name == "RUN":
            return image._with(f".dockerfile_commands({each.text!r})", self._run(each), lacks)
        if each.name in ("COPY", "ADD"):
            return self._copy(image, each, where)
        text = f".dockerfile_commands({each.text!r})"
        if each.name == "ARG":
            for name, default in dockerfiles.declared(each, where):
                if name in self._given:
                    self._arguments[name] = self._given[name]
                elif default is not None:
                    self._arguments[name] = self._value(default, where)
            return image
        # What the base has is known where the image is made: PATH, say.
        if each.name == "ENV":
            values = {name: self._kept(value, where) for name, value in dockerfiles.pairs(each, where).items()}
            self._set.update({name: None if names_in(value) else expand(value, {}) for name, value in values.items()})
            return image._setting("env", text, {"variables": values, "expand": True})
        if each.name == "WORKDIR":
            path = self._kept(dockerfiles.unquoted(each.rest, where), where)
            return image._setting("workdir", text, {"path": path, "expand": True})
        words = each.words()
        return getattr(image, _WORDS[each.name])(words if words is not None else ["/bin/sh", "-c", each.rest])

    @property
    def _known(self) -> dict[str, str]:
        both = {**self._arguments, **self._set}
        return {name: value for name, value in both.items() if value is not None}

    def _kept(self, word: str, where: str) -> str:
        """A word with the values that are known here; raises ``InvalidError``."""
        try:
            return expand(word, self._known, kept=True)
        except InvalidError as error:
            raise InvalidError(f"{where}: {error}") from None

    def _value(self, word: str, where: str) -> str:
        """A word that must be known here; raises ``InvalidError``."""
        if unknown := names_in(self._kept(word, where)):
            raise InvalidError(f"{where}: the value of {min(unknown)} isn't known here: ARG or build_args= can say it")
        return expand(word, self._known)

    def _run(self, each: Instruction) -> Callable[[Plan], Step]:
        words = each.words()
        command = each.shell_text() if words is None else words
        own, force = self._own, self._force
        arguments = {name: value for name, value in self._arguments.items() if name not in self._set}

        def describe(plan: Plan) -> Step:
            keyed = plan.keyed(own, force=force)
            key = {"commands": [command], **keyed, "env": {**arguments, **keyed["env"]}}
            return Step("run", "", key, own.asked())

        return describe

    def _copy(self, image: Any, each: Instruction, where: str) -> Any:
        *patterns, destination = (self._value(dockerfiles.unquoted(path, where), where) for path in each.paths())
        directory, ignore, files = self._directory, self._ignore, self._files
        path, name = contexts.target(destination, len(patterns))

        def find(where: str) -> Any:
            left = contexts.ignored_files(where, ignore, directory)
            return contexts.sources(where, patterns, name, directory, left, files)

        def describe(plan: Plan) -> Step:
            digest = plan.files(find, where)
            key = {"files": digest, "path": path}
            if (alone := plan.bundles[digest].entries.get(name)) is not None and alone.path:
                # Where the image has a directory of that name, a file goes below it, as it is called here.
                key["own"] = os.path.basename(patterns[0] if patterns[0] in files else alone.path)
            return Step("copy", "", key, {"bundle": digest})

        return image._with(f".dockerfile_commands({each.text!r})", describe)


def _refused(each: Instruction) -> str:
    """Why an instruction can't be a step; ``""``: it can."""
    if each.name in ("COPY", "ADD"):
        if each.documents:
            return "write the file by RUN cat > …, or Image.add_local_file"
        if len(each.paths()) < 2:
            return "name what to copy, and where to"
        if each.flags:
            return f"{each.flags[0]} needs a whole Dockerfile: Image.from_dockerfile"
        if each.name == "ADD" and any(
            "://" in path or path.endswith((".tar", ".gz", ".xz", ".bz2", ".tgz")) for path in each.paths()[:-1]
        ):
            return "it would be fetched or unpacked: write RUN curl …, or RUN tar …"
        return ""
    if each.name == "RUN":
        return f"{each.flags[0]} needs a whole Dockerfile: Image.from_dockerfile" if each.flags else ""
    if each.name == "USER":
        return (
            ""
            if each.rest in ("root", "0", "0:0", "root:root")
            else "containers run as root, in a user namespace: leave it out"
        )
    if each.name == "FROM":
        return "the image it stands on is there already: write Image.from_registry, or Image.from_dockerfile"
    return "" if each.name != "ONBUILD" else "it needs a whole Dockerfile: Image.from_dockerfile"


def _names(where: str, given: tuple[str | list[str], ...], example: str) -> list[str]:
    """Flattened; raises ``InvalidError``."""
    named = [name for each in given for name in (each if isinstance(each, list | tuple) else [each])]
    if not named or not all(isinstance(name, str) and name.strip() and "\0" not in name for name in named):
        raise InvalidError(f"{where} takes text, such as {example!r}, not {given!r:.80}")
    return named
