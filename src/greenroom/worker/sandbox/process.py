"""The plain process: no isolation but an environment, a working directory and a session of its own. Works everywhere."""

import asyncio
import os
import posixpath
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from greenroom.model.errors import ImageBuildError
from greenroom.model.image import ImageConfig, Step
from greenroom.worker.environment import container_environment
from greenroom.worker.guard import own_error
from greenroom.worker.images.handed_in import hand_in
from greenroom.worker.merging import directory_in, each_of, merge
from greenroom.worker.processes import CONTAINER, RUN, marked_processes
from greenroom.worker.removal import remove_tree
from greenroom.worker.sandbox.base import (
    Descriptors,
    HandedIn,
    Launch,
    Making,
    Stack,
    asked_environment,
    interpreter,
)

HOME = "/root"
"""What a plain process's working directory stands for."""


class ProcessSandboxes:
    """See :class:`greenroom.worker.sandbox.base.Sandboxes`."""

    name = "process"
    inline_only = False
    keeps_limits = "containers are plain processes here"

    def __init__(self, lacks: str = "", layers: Path | None = None) -> None:
        self.lacks = lacks
        self.layers = layers
        """The directory of layers; where None, containers were started by another worker."""

    def sandbox(self, launch: Launch) -> "ProcessSandbox":
        """For a new container."""
        return ProcessSandbox(launch.container_id, launch.directory, launch, self)

    def left(self, container_id: str, directory: Path) -> "ProcessSandbox":
        """Of one that is there already."""
        return ProcessSandbox(container_id, directory, None, self)

    def base_key(self, base: Step) -> dict[str, str]:
        """This machine."""
        if base.kind != "host":
            raise ImageBuildError(
                f"{base.title} needs real containers, and these are plain processes: run it as root, with crun"
            )
        return {"sandbox": self.name, **interpreter()}

    def check_step(self, step: Step) -> None:
        """Only what can write below its working directory."""
        if step.kind not in ("pip", "copy", "function"):
            raise ImageBuildError(
                f"{step.title} needs a real container, and this is a plain process, which would change "
                "your own machine: run it as root, with crun"
            )

    def remark(self, step: Step) -> str:
        """User code can write anywhere."""
        return (
            "in a plain process absolute paths are this machine's own: what is written below the working directory alone is in "
            "the image"
            if step.kind == "function"
            else ""
        )

    def inside(self, path: str, config: ImageConfig) -> str:
        """Relative to a container's first working directory, which stands for ``/root``."""
        whole = posixpath.normpath(posixpath.join(HOME, config.workdir, path))
        if whole != HOME and not whole.startswith(HOME + "/"):
            raise ImageBuildError(
                f"{whole} needs a real container: a plain process has no files of its own but those below {HOME}, which is its "
                "working directory"
            )
        return posixpath.relpath(whole, HOME)

    def check_tools(self, step: Step) -> None:
        """All bases are refused."""

    def tool(self, name: str, where: str) -> list[str]:
        """No step is made by tools."""
        raise ImageBuildError(f"{where} needs a real container")

    def agent_digest(self) -> str:
        """No image has a root of its own."""
        raise AssertionError

    def hand_in_registries(self) -> HandedIn:
        """Nothing is pulled."""
        raise AssertionError

    def prepare(self, draft: Path, below: Stack, making: Making) -> None:
        """A copy of what is below, to work in."""
        (draft / "fs").mkdir(mode=0o700)
        fill(draft / "fs" / "home", self.files(below))

    def hand_in(self, words: list[str] | None, asked: dict[str, str], below: Stack) -> HandedIn:
        """It sees the files by itself."""
        return hand_in(os.environ, words, {**below.config.environment, **asked})._replace(shown=[])

    def packages(self, draft: Path, below: Stack, where: str) -> dict[str, Any]:
        """An environment for each layer."""
        path = f"{sysconfig.get_path('scripts')}:{os.environ.get('PATH', os.defpath)}"
        if (installer := shutil.which("uv", path=path)) is None:
            raise ImageBuildError(f"{where} needs uv: pip install uv")
        target = str(draft / "fs" / "packages")
        return {"python": "", "target": target, "below": self.packages_of(below), "installer": [installer]}

    def packages_of(self, stack: Stack) -> str:
        """The uppermost environment, which has all that is in those below; ``""``: there is none."""
        assert self.layers is not None
        found = (self.layers / key / "fs" / "packages" for key in reversed(stack.layers))
        return next((str(path) for path in found if path.is_dir()), "")

    def finish(self, draft: Path, key: str, making: Making) -> None:
        """Installed programs begin with the path of their interpreter, which is about to move."""
        assert self.layers is not None
        made, kept = (os.fsencode(path / "fs" / "packages") for path in (draft, self.layers / key))
        for program in (draft / "fs" / "packages" / "bin").glob("*"):
            if program.is_file() and not program.is_symlink() and made in (text := program.read_bytes()):
                program.write_bytes(text.replace(made, kept))

    def archive(self, archive: Path) -> str:
        """Where it is."""
        return str(archive)

    def files(self, stack: Stack) -> Path | None:
        """What its containers find in their working directory: the uppermost layer has a copy of all below it."""
        if not stack.layers:
            return None
        assert self.layers is not None
        return self.layers / stack.layers[-1] / "fs" / "home"

    def code(self, code: Path) -> str:
        """Where it is."""
        return str(code)

    def socket(self, path: str) -> str:
        """Where it is."""
        return path

    def stand_down(self) -> None:
        """Nothing to do."""

    def close(self, *, handed_over: bool = False) -> None:
        """Nothing to do."""


class ProcessSandbox:
    """See :class:`greenroom.worker.sandbox.base.Sandbox`."""

    def __init__(self, container_id: str, directory: Path, launch: Launch | None, place: ProcessSandboxes) -> None:
        self._container_id = container_id
        self._directory = directory
        self._place = place
        making = launch.making if launch is not None else None
        self._home = directory / "home" if making is None else making.draft / "fs" / "home"
        self._launch = launch

    def acquire(self) -> None:
        """A working directory."""
        if self._launch is not None and self._launch.limits.block_network:
            raise OSError(0, "block_network=True needs a real container, and this is a plain process")
        if self._launch is not None and self._launch.making is None and not self._launch.stack.layers:
            self._fill_home(self._launch.stack)

    def _fill_home(self, stack: Stack) -> None:
        """A copy of the image's files, which the container may change."""
        fill(self._home, self._place.files(stack))
        wanted = list[tuple[str, str]]()
        for directory, path, each in stack.mounts:
            wanted += each_of(directory, path) if each else [(str(directory), path)]
        for source, path in merge(wanted, lambda path: directory_in(self._home, path) is not None):
            _show(source, self._home, path)

    def adopt(self) -> None:
        """It's all in the container's directory."""

    def start(self, descriptors: Descriptors, started: Callable[[int], None], failed: Callable[[str], None]) -> None:
        """As soon as its files are there: an image may have many, so they are copied by a thread."""
        launch = self._launch
        assert launch is not None
        if launch.making is not None or not launch.stack.layers:
            self._spawn(launch, descriptors, started)
            return
        kept = Descriptors(*map(os.dup, descriptors))
        filled = asyncio.get_running_loop().run_in_executor(None, self._fill_home, launch.stack)
        filled.add_done_callback(lambda done: self._filled(done, launch, kept, started, failed))

    def _filled(
        self,
        done: "asyncio.Future[None]",
        launch: Launch,
        kept: Descriptors,
        started: Callable[[int], None],
        failed: Callable[[str], None],
    ) -> None:
        try:
            done.result()
            self._spawn(launch, kept, started)
        except (OSError, ValueError) as error:
            failed(str(error))
        except Exception as error:  # noqa: BLE001 - it must not leave the container hanging
            failed(own_error(self._container_id, error))
        finally:
            for fd in kept:
                os.close(fd)

    def _spawn(self, launch: Launch, descriptors: Descriptors, started: Callable[[int], None]) -> None:
        """In a session of its own, so that the terminal's Ctrl-C doesn't reach it."""
        packages = self._place.packages_of(launch.stack) if launch.stack.config.packages else ""
        # -P: what the user's code writes into its working directory must not get into the agent.
        command = [
            f"{packages}/bin/python" if packages else sys.executable, "-P", "-m", "greenroom.agent",
            "--begin", str(descriptors.begin),
            "--ledger", str(descriptors.ledger),
            "--notes", str(descriptors.notes),
            "--watch", str(descriptors.watch),
            "--dir", str(launch.directory),
            "--backstop", str(launch.backstop),
        ]  # fmt: skip
        output = os.open(launch.output, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            process = subprocess.Popen(
                command,
                cwd=self._working_directory(launch.stack.config),
                env=container_environment(
                    os.environ,
                    asked_environment(launch, packages, os.environ.get("PATH", os.defpath)),
                    launch.container_id,
                    str(launch.run),
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=descriptors,
                start_new_session=True,
            )
        finally:
            os.close(output)
        process.returncode = 0  # the runner waits for it, by its pidfd; Popen must not
        started(process.pid)

    def _working_directory(self, config: ImageConfig) -> Path:
        directory = self._home / self._place.inside("", config)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def end(self, pidfd: int) -> None:
        """Its supervisor does that, and writes down the end."""
        signal.pidfd_send_signal(pidfd, signal.SIGUSR1)

    def processes(self) -> list[int]:
        """By the marks in their environment."""
        return marked_processes({CONTAINER: self._container_id, RUN: str(self._directory.parent.parent)})

    def supervisor(self) -> int | None:
        """It looks like its agent."""
        return None

    def enter(self) -> list[str]:
        """Nothing stands around it."""
        return []

    def cause(self) -> str:
        """Nobody here knows more than the signal's number."""
        return ""

    def release(self) -> None:
        """It all goes with the container's directory."""


def fill(target: Path, source: Path | None) -> None:
    """Make ``target`` a copy of ``source``, that shares its blocks where the file system can, or empty; raises OSError."""
    if source is None:
        target.mkdir(mode=0o700)
        return
    done = subprocess.run(
        ["/bin/cp", "--archive", "--reflink=auto", "--", str(source), str(target)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise OSError(0, f"the image's files can't be copied: {said[-1]}")


def _show(source: str, home: Path, path: str) -> None:
    """Let a file or directory be seen below ``home``, in the place of what is there; raises OSError."""
    where = home
    for part in path.split("/"):
        if where != home and (where.is_symlink() or not where.is_dir()):
            where.unlink(missing_ok=True)  # what leads elsewhere must not lead us there
            where.mkdir()
        where = where / part
    if where.is_dir() and not where.is_symlink():
        remove_tree(where)
    else:
        where.unlink(missing_ok=True)
    where.symlink_to(source)
