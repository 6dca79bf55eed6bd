"""The steps of an image that install Python packages."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from greenroom.model.errors import InvalidError
from greenroom.model.image import Step, without_passwords
from greenroom.sdk.image_options import Variables, lacking, path_of, pip_options, variables
from greenroom.sdk.lazy import Lazy

if TYPE_CHECKING:
    from greenroom.sdk import requirements
    from greenroom.sdk.image import Image
    from greenroom.sdk.image_plan import Plan
    from greenroom.sdk.secret import Secret
else:
    requirements = Lazy("greenroom.sdk.requirements")


class PackageSteps:
    """A part of :class:`greenroom.Image`."""

    def pip_install(
        self,
        *packages: str | list[str],
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        gpu: Any = None,
        force_build: bool = False,
    ) -> Image:
        """Install Python packages, by uv, from where this machine's settings of pip or uv say.

        Args:
            packages: as pip wants them: ``"fastapi"``, ``"numpy==2.3.5"``.
            find_links, index_url, extra_index_url, pre: as pip has them.
            extra_options: words put before the packages.
            env, secrets: variables for the installation: an index's password, say. Values of secrets are in no layer.
            force_build: install whenever an app starts.

        Raises:
            InvalidError: a package is no text.
        """
        where = "Image.pip_install"
        named = _names(where, packages)
        arguments = pip_options(find_links, index_url, extra_index_url, extra_options, pre=pre)
        own = variables(where, env, secrets)
        text = f".pip_install({', '.join(map(repr, named))})"
        return self._packages(text, lambda: ([*arguments, *named], {}), own, gpu, where, force=force_build)

    def uv_pip_install(
        self,
        *packages: str | list[str],
        requirements: list[str] | None = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        uv_version: str | None = None,
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        gpu: Any = None,
    ) -> Image:
        """As :meth:`pip_install`, and files of requirements too, all at once.

        Args:
            requirements: the files.
            uv_version: means nothing here: this machine's uv installs.
        """
        where = "Image.uv_pip_install"
        if isinstance(requirements, str):
            raise InvalidError(f"{where}: requirements= takes a list: write [{requirements!r}]")
        paths = [path_of(where, path) for path in requirements or ()]
        named = _names(where, packages) if packages or not paths else []
        arguments = pip_options(find_links, index_url, extra_index_url, extra_options, pre=pre)
        words = [*map(repr, named), *([f"requirements={paths!r}"] if paths else [])]
        image = self._packages(
            f".uv_pip_install({', '.join(words)})",
            lambda: _with_files(where, arguments, paths, named),
            variables(where, env, secrets),
            gpu,
            where,
            force=force_build,
        )
        return image if uv_version is None else image._passing_over("uv_version")

    def pip_install_from_requirements(
        self,
        requirements_txt: str | os.PathLike[str],
        find_links: str | None = None,
        *,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        gpu: Any = None,
        force_build: bool = False,
    ) -> Image:
        """Install what a file of requirements names; what is in it, and in files that it includes, counts, not where it lies."""
        path = path_of("Image.pip_install_from_requirements", requirements_txt)
        where = f"Image.pip_install_from_requirements({path!r})"
        arguments = pip_options(find_links, index_url, extra_index_url, extra_options, pre=pre)
        own = variables(where, env, secrets)

        def found() -> tuple[list[Any], dict[str, str]]:
            return _with_files(where, arguments, [path], [])

        return self._packages(where.removeprefix("Image"), found, own, gpu, where, force=force_build)

    def pip_install_from_pyproject(
        self,
        pyproject_toml: str | os.PathLike[str],
        optional_dependencies: Sequence[str] = (),
        *,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        env: Mapping[str, str | None] | None = None,
        secrets: Sequence[Secret] | None = None,
        gpu: Any = None,
        force_build: bool = False,
    ) -> Image:
        """Install what a ``pyproject.toml`` names as dependencies, with those of some optional groups; not the project itself."""
        path = path_of("Image.pip_install_from_pyproject", pyproject_toml)
        where = f"Image.pip_install_from_pyproject({path!r})"
        arguments = pip_options(find_links, index_url, extra_index_url, extra_options, pre=pre)
        own = variables(where, env, secrets)

        def found() -> tuple[list[Any], dict[str, str]]:
            return [*arguments, *requirements.dependencies(where, path, optional_dependencies)], {}

        return self._packages(where.removeprefix("Image"), found, own, gpu, where, force=force_build)

    def _with(self, text: str, describe: Callable[[Plan], Step], lacks: str = "") -> Image:
        """The image with one step more."""
        raise NotImplementedError

    def _packages(
        self,
        text: str,
        found: Callable[[], tuple[list[Any], dict[str, str]]],
        own: Variables,
        gpu: Any,
        where: str,
        *,
        force: bool,
    ) -> Image:
        """``found``: arguments of ``pip install``, and the files that they name."""

        def describe(plan: Plan) -> Step:
            arguments, named = found()
            key = {"arguments": arguments, "files": named, **plan.keyed(own, force=force)}
            return Step("pip", "", key, own.asked())

        return self._with(without_passwords(text), describe, lacking(where, gpu=gpu))

    def _passing_over(self, name: str) -> Image:
        """The same, but for an option that means nothing here."""
        raise NotImplementedError


def _names(where: str, packages: tuple[str | list[str], ...]) -> list[str]:
    """Flattened; raises ``InvalidError``."""
    named = [name for package in packages for name in (package if isinstance(package, list) else [package])]
    if not named or not all(isinstance(name, str) and name and "\0" not in name for name in named):
        raise InvalidError(f"{where} takes names of packages, not {packages!r:.80}")
    if option := next((name for name in named if name.startswith("-")), None):
        raise InvalidError(f"{where}: {option!r} is an option; write extra_options={option!r}")
    return named


def _with_files(
    where: str, arguments: list[str], paths: list[str], named: list[str]
) -> tuple[list[Any], dict[str, str]]:
    """Arguments of ``pip install``, and the files that they name."""
    words: list[Any] = [*arguments]
    files: dict[str, str] = {}
    for number, path in enumerate(paths):
        name = f"requirements{f'-{number}' if number else ''}.txt"
        files |= requirements.read_requirements(where, path, name)
        words += ["-r", {"file": name}]
    return [*words, *named], files
