"""Images: what a container's file system is made of, as a chain of steps. Nothing is read or made until an app starts."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from greenroom.model.errors import InvalidError
from greenroom.model.image import HOST, Step
from greenroom.sdk.image_bases import BaseImages
from greenroom.sdk.image_options import HOUR, function_call, lacking, path_of, resources, variables
from greenroom.sdk.image_packages import PackageSteps
from greenroom.sdk.image_system import SystemSteps
from greenroom.sdk.lazy import Lazy

if TYPE_CHECKING:
    from greenroom.sdk import image_plan as plans
    from greenroom.sdk import local_files as files
    from greenroom.sdk.file_patterns import Ignore
    from greenroom.sdk.image_plan import Plan
    from greenroom.sdk.local_files import LocalFiles
    from greenroom.sdk.secret import Secret
else:
    plans = Lazy("greenroom.sdk.image_plan")
    files = Lazy("greenroom.sdk.local_files")

_HOME = "/root"
_UNBUILT_BASES = ("from_aws_ecr", "from_gcp_artifact_registry", "from_id", "from_name")
_UNBUILT_STEPS = ("pip_install_private_repos", "poetry_install_from_file", "uv_sync")


class _Step(NamedTuple):
    """A step as it was written, to be described when an app starts."""

    text: str
    where: str
    describe: Callable[[Plan], Step]
    mount: Callable[[Plan], list[Any]] | None = None
    """Files that are no step, but bound when a container starts, and how: see ``ImageSpec.mounts``."""


_HOST = _Step("Image.host()", "", lambda plan: Step(HOST, "", {}))


class Image(BaseImages, PackageSteps, SystemSteps):
    """What a container's file system is made of: a base, and steps. Immutable: each step gives a new image.

    ``Image.host()`` is this machine's Python and packages, and the default; ``Image.debian_slim()`` and others have a root
    file system of their own, for which real containers are needed. Base and steps are made once, in order, when an app
    that needs them starts; each is kept, and made again only when it, or one before it, has changed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            raise InvalidError(
                "an Image is not made by calling it: begin with one of Image.host(), Image.debian_slim(), …"
            )
        self._base = _HOST
        self._steps: tuple[_Step, ...] = ()
        self._lacking = ""
        self._ignored: frozenset[str] = frozenset()
        self._text = _HOST.text

    def __repr__(self) -> str:
        return self._text

    @property
    def lacking(self) -> str:
        """The first step that isn't built yet; ``""``: all are."""
        return self._lacking

    @property
    def ignored(self) -> frozenset[str]:
        """Options of its steps that mean nothing on one's own machines."""
        return self._ignored

    # ---- bases ----

    @classmethod
    def host(cls) -> Image:
        """This machine's Python and its packages, read-only: nothing to download, nothing to build."""
        return cls()

    # ---- what its containers find around them ----

    def env(self, vars: Mapping[str, str]) -> Image:
        """Set environment variables, for containers and for the steps after this one."""
        from greenroom.sdk.secret import checked_variables

        values = checked_variables("Image.env", vars)
        names = ", ".join(f"{name!r}: …" for name in values)
        return self._setting("env", f".env({{{names}}})", {"variables": values})

    def workdir(self, path: str | os.PathLike[str]) -> Image:
        """Set the working directory of containers and of the steps after this one; a relative one is below the one before."""
        text = path_of("Image.workdir", path)
        return self._setting("workdir", f".workdir({text!r})", {"path": text})

    def entrypoint(self, entrypoint_commands: list[str]) -> Image:
        """Set what an exported image runs. Containers of an app run the app."""
        return self._words("entrypoint", entrypoint_commands)

    def cmd(self, cmd: list[str]) -> Image:
        """Set the arguments that an exported image gives its entry point."""
        return self._words("cmd", cmd)

    def shell(self, shell_commands: list[str]) -> Image:
        """Set what runs the commands of ``run_commands`` from here on; ``["/bin/sh", "-c"]`` at first."""
        if shell_commands == []:
            raise InvalidError("Image.shell([]) takes a program and its arguments, such as ['/bin/bash', '-c']")
        return self._words("shell", shell_commands)

    def imports(self) -> AbstractContextManager[None]:
        """``with image.imports():`` modules that are only there in the image may be missing, here and in other images."""
        from greenroom.sdk.unbuilt import passing_over_imports

        return passing_over_imports()

    # ---- steps that make files ----

    def run_commands(
        self,
        *commands: str | list[str],
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        volumes: Any = None,
        gpu: Any = None,
        force_build: bool = False,
    ) -> Image:
        """Run shell commands in the image, as root, each in a shell of its own; the first that fails ends the build.

        Args:
            env, secrets: variables that the commands find; the values of secrets are in no layer.
            force_build: run them whenever an app starts.

        Raises:
            InvalidError: a command is no text.
        """
        lines = [line for command in commands for line in (command if isinstance(command, list) else [command])]
        if not lines or not all(isinstance(line, str) and "\0" not in line for line in lines):
            raise InvalidError(f"Image.run_commands takes shell commands as text, not {commands!r:.80}")
        where = "Image.run_commands"
        own = variables(where, env, secrets)
        lacks = lacking(where, volumes=volumes, gpu=gpu)

        def describe(plan: Plan) -> Step:
            key = {"commands": lines, **plan.keyed(own, force=force_build)}
            return Step("run", "", key, own.asked())

        return self._with(f".run_commands({', '.join(map(repr, lines))})", describe, lacks)

    def run_function(
        self,
        raw_f: Callable[..., Any],
        *,
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        volumes: Any = None,
        network_file_systems: Any = None,
        gpu: Any = None,
        cpu: Any = None,
        memory: Any = None,
        timeout: float | None = HOUR,
        cloud: Any = None,
        region: Any = None,
        force_build: bool = False,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        include_source: bool | None = None,
    ) -> Image:
        """Call a function in the image; what it writes is the layer. What it returns is dropped.

        The layer is made anew when the function's source, or that of anything it reaches in the program, has changed, or its
        arguments, or the names of its secrets.

        Args:
            args, kwargs: what it is called with.
            cpu, memory: cores and MiB, each a request or ``(request, limit)``.
            timeout: seconds after which the build fails.
            force_build: call it whenever an app starts.

        Raises:
            InvalidError: it isn't a function, or an option is out of range.
        """
        where = "Image.run_function"
        own = variables(where, env, secrets)
        lacks = lacking(where, volumes=volumes, network_file_systems=network_file_systems, gpu=gpu)
        called = function_call(where, raw_f, args, kwargs)
        fields = resources(where, timeout=timeout, cpu=cpu, memory=memory)

        def describe(plan: Plan) -> Step:
            return plan.function_step(called, own, fields, force=force_build)

        image = self._with(f".run_function({called.name})", describe, lacks)
        meaningless = {"cloud": cloud, "region": region, "include_source": include_source}
        image._ignored |= {name for name, value in meaningless.items() if value is not None}
        return image

    def add_local_file(
        self, local_path: str | os.PathLike[str], remote_path: str | os.PathLike[str], *, copy: bool = False
    ) -> Image:
        """A file of this machine's, at ``remote_path`` (below it, where that ends in ``/``).

        Args:
            copy: make it a layer. Else it is bound, read-only, when a container starts: an edit rebuilds nothing.
        """
        local, remote = (path_of("Image.add_local_file", path) for path in (local_path, remote_path))
        directory, name = posixpath.split(remote)
        if name in (".", ".."):
            directory, name = remote, ""
        name = name or os.path.basename(local)
        return self._files(
            f".add_local_file({local!r}, {remote!r})",
            lambda where: files.find_file(where, local, name),
            directory,
            copy=copy,
        )

    def add_local_dir(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | os.PathLike[str],
        *,
        copy: bool = False,
        ignore: Iterable[str] | Ignore = (),
    ) -> Image:
        """A directory of this machine's, at ``remote_path``.

        Args:
            copy: make it a layer. Else it is bound, read-only, when a container starts: an edit rebuilds nothing.
            ignore: patterns as in a ``.dockerignore``, or something to call with each path, relative to the directory.
        """
        from greenroom.sdk.file_patterns import read_ignore

        local, remote = (path_of("Image.add_local_dir", path) for path in (local_path, remote_path))
        ignored = read_ignore("Image.add_local_dir", ignore)
        return self._files(
            f".add_local_dir({local!r}, {remote!r})",
            lambda where: files.find_directory(where, local, ignored),
            remote,
            copy=copy,
            each=False,
        )

    def add_local_python_source(
        self, *modules: str, copy: bool = False, ignore: Iterable[str] | Ignore | None = None
    ) -> Image:
        """Python modules or packages of this machine's, by name, where containers import them from.

        Args:
            copy: make them a layer. Else they are bound, read-only, when a container starts.
            ignore: as for :meth:`add_local_dir`; without it, all but ``.py`` files stays behind.
        """
        from greenroom.sdk.file_patterns import FilePatternMatcher, read_ignore

        where = "Image.add_local_python_source"
        ignored = read_ignore(where, ignore) if ignore is not None else FilePatternMatcher("**", "!**/*.py")
        image = self
        for module in modules:
            if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
                raise InvalidError(f"{where} takes names of modules, such as 'my_package', not {module!r:.80}")
            image = image._files(
                f".add_local_python_source({module!r})",
                lambda said, module=module: plans.find_module(said, module, ignored),  # type: ignore[misc]
                _HOME,
                copy=copy,
            )
        return image

    def copy_local_file(self, local_path: str | os.PathLike[str], remote_path: str | os.PathLike[str] = "./") -> Image:
        """The older name of ``add_local_file(…, copy=True)``."""
        return self.add_local_file(local_path, remote_path, copy=True)

    def copy_local_dir(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | os.PathLike[str] = ".",
        *,
        ignore: Iterable[str] | Ignore = (),
    ) -> Image:
        """The older name of ``add_local_dir(…, copy=True)``."""
        return self.add_local_dir(local_path, remote_path, copy=True, ignore=ignore)

    # ---- how it is described ----

    @property
    def base(self) -> _Step:
        """What it stands on, as it was written."""
        return self._base

    @property
    def is_host(self) -> bool:
        """Whether it is this machine's Python and packages, and nothing else."""
        return self._base is _HOST and not self._steps

    def steps(self) -> Iterator[_Step]:
        """Its steps, as they were written."""
        return iter(self._steps)

    def _setting(self, kind: str, text: str, key: dict[str, Any]) -> Image:
        return self._with(text, lambda plan: Step(kind, "", key))

    def _words(self, kind: str, words: list[str]) -> Image:
        if isinstance(words, str):
            raise InvalidError(f"Image.{kind}({words!r:.80}) takes a list of words: write {words.split()!r}")
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) and "\0" not in word for word in words):
            raise InvalidError(f"Image.{kind}({words!r:.80}) takes a list of words, such as ['/bin/bash', '-c']")
        return self._setting(kind, f".{kind}({words!r})", {"words": list(words)})

    def _files(
        self, text: str, find: Callable[[str], LocalFiles], remote: str, *, copy: bool, each: bool = True
    ) -> Image:
        where = f"Image{text}"

        def describe(plan: Plan) -> Step:
            digest = plan.files(find, where)
            return Step("copy", "", {"files": digest, "path": remote}, {"bundle": digest})

        if copy:
            return self._with(text.removesuffix(")") + ", copy=True)", describe)
        return self._add(_Step(text, _user_line(), describe, lambda plan: [plan.files(find, where), remote, each]))

    def _with(self, text: str, describe: Callable[[Plan], Step], lacks: str = "") -> Image:
        if mounted := next((step for step in self._steps if step.mount is not None), None):
            raise InvalidError(
                f"Image{mounted.text} is bound when a container starts, so no step can come after it: add copy=True to it, "
                f"or write it last, after {text[:60]}"
            )
        return self._add(_Step(text, _user_line(), describe), lacks)

    def _add(self, step: _Step, lacks: str = "") -> Image:
        image = self._without(lacks, self._text + step.text)
        image._steps = (*self._steps, step)
        return image

    def _on_host(self) -> bool:
        return self._base is _HOST

    def _passing_over(self, name: str) -> Image:
        """The same, but for an instruction that means nothing here."""
        image = self._without("", self._text)
        image._ignored |= {name}
        return image

    def _without(self, lacking: str, text: str) -> Image:
        """The same by another text, but that it can't be made if something is ``lacking``."""
        image = Image()
        image._base, image._steps, image._ignored = self._base, self._steps, self._ignored
        image._lacking, image._text = self._lacking or lacking, text
        return image


def on_base(text: str, describe: Callable[[Plan], Step], lacks: str) -> Image:
    """An image without steps of its own."""
    image = Image()._without(lacks, text)
    image._base = _Step(text, _user_line(), describe)
    return image


def _user_line() -> str:
    """File and line of the nearest frame that isn't ours."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("greenroom."):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _unbuilt_base(name: str) -> Any:
    def base(cls: type[Image], *args: Any, **kwargs: Any) -> Image:
        """Not built yet: the app runs without the functions that need it."""
        return Image()._without(f"Image.{name}", f"Image.{name}({_arguments(args, kwargs)})")

    return classmethod(base)


def _unbuilt_step(name: str) -> Any:
    def step(self: Image, *args: Any, **kwargs: Any) -> Image:
        """Not built yet: the app runs without the functions that need it."""
        return self._without(f"Image.{name}", f"{self._text}.{name}({_arguments(args, kwargs)})")

    return step


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])


for _name in _UNBUILT_BASES:
    setattr(Image, _name, _unbuilt_base(_name))
for _name in _UNBUILT_STEPS:
    setattr(Image, _name, _unbuilt_step(_name))
