"""What real containers have to do with images: where their layers are written, what the steps find, what is left out."""

import os
import platform
import posixpath
import shutil
import sys
from pathlib import Path
from typing import Any

from greenroom.model.errors import ImageBuildError
from greenroom.model.image import HOST, ImageConfig, Step
from greenroom.worker.host_image import HOME, OF_HOST
from greenroom.worker.images.handed_in import certificates, hand_in, hand_in_registries
from greenroom.worker.merging import directory_in
from greenroom.worker.removal import remove_tree
from greenroom.worker.rootfs import ARCHIVE, DRAFT, NOT_OF_IMAGES, Ground
from greenroom.worker.sandbox.base import HandedIn, Making, Stack, interpreter
from greenroom.worker.toolbox import AGENT, INSIDE

PACKAGES = "/opt/greenroom"
"""Where an image on the host image has its Python packages."""
CACHE = "/run/greenroom.cache"
"""Where a container that makes a step finds what others have downloaded."""
_TOOLS = {
    "registry": {"skopeo": "skopeo", "umoci": "umoci"},
    "dockerfile": {"buildah": "buildah", "umoci": "umoci"},
}
"""Programs that make a base, and the packages that they are in."""


class OciImages:
    """A part of ``OciSandboxes``."""

    name = "oci"
    ground: Ground
    cache: Path

    def base_key(self, base: Step) -> dict[str, str]:
        """The host image is this interpreter; other bases are this kind of machine's."""
        if base.kind == HOST:
            return {"sandbox": self.name, **interpreter()}
        how = {"by": "mmdebstrap" if self._installed("mmdebstrap") else "registry"} if base.kind == "debian" else {}
        return {"sandbox": self.name, "machine": platform.machine(), **how}

    def check_step(self, step: Step) -> None:
        """All can be."""

    def remark(self, step: Step) -> str:
        """What a step writes is in its layer, wherever that is."""
        return ""

    def check_tools(self, step: Step) -> None:
        """Raises ImageBuildError where a program that makes such a base is missing."""
        wanted = _TOOLS.get(step.kind, {})
        if step.kind == "debian" and not self._installed("mmdebstrap"):
            wanted = _TOOLS["registry"]
        missing = [package for program, package in wanted.items() if not self._installed(program)]
        if missing:
            if step.kind == "debian":
                raise ImageBuildError(f"{step.title} needs mmdebstrap: apt-get install mmdebstrap")
            raise ImageBuildError(f"{step.title} needs {' and '.join(missing)}: apt-get install {' '.join(missing)}")

    def _installed(self, program: str) -> bool:
        return shutil.which(program, path=self.ground.image.path) is not None

    def tool(self, name: str, where: str) -> list[str]:
        """As an image with a root of its own sees it."""
        found = self.ground.toolbox.program(name)
        if not found:
            fix = (
                "pip install uv"
                if name == "uv"
                else f"install it where containers see it, such as /usr/local/bin/{name}"
            )
            raise ImageBuildError(f"{where} needs {name}: {fix}")
        return found

    def agent_digest(self) -> str:
        """Of this very Greenroom."""
        return self.ground.toolbox.digest()

    def inside(self, path: str, config: ImageConfig) -> str:
        """Anywhere, but on the host image where this machine's own files are."""
        whole = posixpath.normpath(posixpath.join(HOME, config.workdir, path))
        if path and not config.own_root and self.ground.image.keeps(whole):
            raise ImageBuildError(f"{whole} {OF_HOST}")
        return whole

    def prepare(self, draft: Path, below: Stack, making: Making) -> None:
        """Both directories of an overlay that is written to; or one in which a base is made."""
        base = making.way in ("base", "builder")
        for path in (draft / DRAFT, draft / DRAFT / "fs") if base else (draft / "fs", draft / "work"):
            path.mkdir()
            path.chmod(0o755)
            os.chown(path, self.ground.owner, self.ground.owner)

    def hand_in(self, words: list[str] | None, asked: dict[str, str], below: Stack) -> HandedIn:
        """And a cache for the installer, which is a container's root's. For no other program: it would be all builds' to spoil."""
        config = below.config
        asked = {**config.environment, **asked}
        found = hand_in(os.environ, words, asked)
        environment, shown = dict(found.environment), [*found.shown]
        if config.own_root:
            authorities = certificates({**os.environ, **environment})
            environment |= {name: path for name, path in authorities.environment.items() if name not in asked}
            shown += authorities.shown
        if words is not None:
            # Each base has its own, beside its layer: the installer runs the image's Python, which could spoil it for others.
            cache = self.ground.layers / below.layers[0] / "packages" if config.own_root else self.cache
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(cache, self.ground.owner, self.ground.owner)
            environment["UV_CACHE_DIR"] = f"{CACHE}/uv"
            shown.append((str(cache), CACHE, True))
        return HandedIn(environment, shown, found.options)

    def hand_in_registries(self) -> HandedIn:
        """For who pulls a base."""
        return hand_in_registries(os.environ)

    def packages(self, draft: Path, below: Stack, where: str) -> dict[str, Any]:
        """One environment, which later steps add to; or the image's own Python."""
        config = below.config
        if config.own_root:
            return {"python": config.python, "target": "", "below": "", "installer": self.tool("uv", where)}
        if not self._installed("uv"):
            raise ImageBuildError(f"{where} needs uv: pip install uv")
        return {"python": "", "target": PACKAGES, "below": "", "installer": ["uv"]}

    def finish(self, draft: Path, key: str, making: Making) -> None:
        """Names and name servers are each container's own; to write to them changes no image."""
        if making.way in ("base", "builder"):
            if directory_in(draft / DRAFT, "fs") is None:  # what ran there may have put a link to anywhere in its place
                raise OSError(0, "whoever made its base has left no directory")
            os.rename(draft / DRAFT / "fs", draft / "fs")
            remove_tree(draft / DRAFT)
        etc = draft / "fs" / "etc"
        if etc.is_symlink() or not etc.is_dir():
            return
        for path in (etc / name for name in NOT_OF_IMAGES):
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)

    def archive(self, archive: Path) -> str:
        """Bound."""
        return ARCHIVE

    def program(self, stack: Stack, making: Making | None) -> list[str]:
        """The command that becomes a container's supervisor."""
        if making is not None and making.way == "tools":
            return [*self.ground.toolbox.python(), AGENT]
        if making is None or making.way == "image":
            config = stack.config
            if config.own_root:
                if not config.python:
                    raise OSError(0, "its image has no Python: Image.from_scratch is for images that are exported")
                minor = int(config.python_version.partition(".")[2] or 0)
                return [config.python, *(["-P"] if minor >= 11 else []), INSIDE]
            if config.packages:
                return [f"{PACKAGES}/bin/python", "-P", "-m", "greenroom.agent"]
        return [sys.executable, "-P", "-m", "greenroom.agent"]
