"""What every sandbox can do.

The :class:`Sandboxes` of a worker make one :class:`Sandbox` for each container. A runner acquires it, starts the
container's supervisor in it, waits for that process to end, and releases it.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from greenroom.model.image import ImageConfig, Step
from greenroom.model.spec import Limits


class Stack(NamedTuple):
    """The image that a container stands on."""

    layers: list[str] = []
    """Keys of layers, the lowest first; under them is the host image."""
    config: ImageConfig = ImageConfig()
    mounts: list[tuple[Path, str, bool]] = []
    """Directories of files that are bound, read-only, and where (by :meth:`Sandboxes.inside`): as a whole, or (True) each of
    what it holds by itself."""


class Making(NamedTuple):
    """A step of an image that a container makes."""

    draft: Path
    """Directory of the layer to be. What the container writes becomes its ``fs``."""
    archive: Path | None = None
    """A tar file that it is to find, by what :meth:`Sandboxes.archive` says."""
    shown: list[tuple[str, str, bool]] = []
    """What else of this machine it is to find, where, and whether it may write there."""
    way: Literal["image", "tools", "base", "builder"] = "image"
    """By what it is made: by the image's Python; in the image by this machine's, with its programs; as a directory of its own,
    by programs in the host image; or so by programs that mount and have containers of their own."""


class HandedIn(NamedTuple):
    """What a step finds of this machine's settings. It is in no layer and in no key."""

    environment: dict[str, str]
    shown: list[tuple[str, str, bool]]
    """See :class:`Making`."""
    options: list[str] = []
    """Of ``uv pip install``."""


class Launch(NamedTuple):
    """What a container's processes are to find."""

    container_id: str
    directory: Path
    """The container's own, on the host; the sandbox may put there what it needs."""
    run: Path
    """The server's run directory."""
    output: Path
    """The file that stdout and stderr are appended to; it exists."""
    asked: dict[str, str]
    """Environment variables that the function asked for."""
    code: Path | None
    """Directory of the program's files, on the host."""
    backstop: float
    """Seconds after which a container that lost its worker is killed."""
    limits: Limits
    stack: Stack = Stack()
    making: Making | None = None


class Descriptors(NamedTuple):
    """What a supervisor is born with. They stay the caller's to close."""

    begin: int
    """The agent's ``Begin``."""
    ledger: int
    notes: int
    """Where the supervisor writes down how the container ends."""
    watch: int
    """Read end of a pipe whose other end closes when the worker is gone."""


class Sandbox(Protocol):
    """One container's.

    ``acquire`` comes first, ``release`` last and once. ``adopt`` stands in for ``acquire`` and ``start``, where the worker
    before this one did both.
    """

    def acquire(self) -> None:
        """Get what the container needs beside processes. Raises OSError. Whatever it raises, nothing is held then."""

    def adopt(self) -> None:
        """Take over what another worker has acquired."""

    def start(self, descriptors: Descriptors, started: Callable[[int], None], failed: Callable[[str], None]) -> None:
        """Start the supervisor; then call ``started`` with its process id, which is a child's of this process, or ``failed``
        with a line that says why; either at once or later, on the loop. An error of our own on the way is ``failed`` too.

        Raises:
            OSError: it can't be started.
            ValueError: its environment can't be any process's.
        """

    def end(self, pidfd: int) -> None:
        """Begin the end of the supervisor behind ``pidfd`` and of everything below it, without exit hooks."""

    def processes(self) -> list[int]:
        """Every process of the container that can be found. May be called before ``start`` and after the supervisor's end.

        Raises:
            OSError: nothing can be looked for just now.
        """

    def supervisor(self) -> int | None:
        """The supervisor's process id, where it can be told from the others though nobody has noted it."""

    def enter(self) -> list[str]:
        """What to put before a command that a person wants to run in it; ``[]``: nothing."""

    def cause(self) -> str:
        """Why a process of it was killed, as far as the sandbox knows, such as ``out of memory: limit 512 MiB``; else ``""``."""

    def release(self) -> None:
        """Give everything back; no process is left. May block; called in a thread."""


class Sandboxes(Protocol):
    """The sandboxes of one worker."""

    name: str
    """``oci`` or ``process``."""
    lacks: str
    """What a person should know that containers here lack, in a line; ``""``: nothing."""
    keeps_limits: str
    """``""`` where ``cpu=`` and ``memory=`` are kept, else why they are not."""

    inline_only: bool
    """No descriptor can be passed into containers."""

    def sandbox(self, launch: Launch) -> Sandbox:
        """For a new container."""

    def left(self, container_id: str, directory: Path) -> Sandbox:
        """Of a container that the worker before this one started; :meth:`Sandbox.adopt` comes next."""

    def base_key(self, base: Step) -> dict[str, str]:
        """What a layer on that base depends on beside what the base's description says.

        Raises:
            ImageBuildError: there is no such base here; says why.
        """

    def check_step(self, step: Step) -> None:
        """Raises ImageBuildError, with the reason, where such a step, or base, can't be made here."""

    def remark(self, step: Step) -> str:
        """What a person should know of such a step here, in a line; ``""``: nothing."""

    def inside(self, path: str, config: ImageConfig) -> str:
        """Where a container finds what an image has at ``path``, which may be relative; raises ImageBuildError."""

    def prepare(self, draft: Path, below: Stack, making: Making) -> None:
        """Make the directories of a layer to be; raises OSError."""

    def check_tools(self, step: Step) -> None:
        """Raises ImageBuildError where a program that makes such a base is missing; says how to install it."""

    def hand_in(self, words: list[str] | None, asked: dict[str, str], below: Stack) -> HandedIn:
        """This machine's settings for indexes of packages.

        Args:
            words: of ``pip install``, for a step that does nothing else.
            asked: variables that the step has itself.
            below: what the step is on.

        Raises:
            ImageBuildError: pip's are damaged.
        """

    def hand_in_registries(self) -> HandedIn:
        """This machine's settings for registries of images, and its credentials."""

    def packages(self, draft: Path, below: Stack, where: str) -> dict[str, Any]:
        """How a step installs Python packages: ``target``, an environment, or ``""``: with the interpreter ``python``; ``below``,
        the environment below it, ``""`` where there is none; ``installer``, the command that is uv. As a container sees them.
        ``where``: what an error begins with.

        Raises:
            ImageBuildError: there is no uv, or no Python.
        """

    def tool(self, name: str, where: str) -> list[str]:
        """The command that is a program of this machine's, for a step that is made by this machine's tools.

        Raises:
            ImageBuildError: it isn't installed; ``where`` is said.
        """

    def agent_digest(self) -> str:
        """Of what an image with a root of its own must be given of Greenroom's; raises OSError."""

    def finish(self, draft: Path, key: str, making: Making) -> None:
        """The container that wrote the layer ``key`` has ended: take out what is none of the step's; raises OSError."""

    def archive(self, archive: Path) -> str:
        """Where a container that makes a step finds its tar file."""

    def code(self, code: Path) -> str:
        """Where a container finds the program's files."""

    def socket(self, path: str) -> str:
        """Where a container finds the server's socket."""

    def stand_down(self) -> None:
        """The worker starts nothing more: another one of the same run is about to."""

    def close(self, *, handed_over: bool = False) -> None:
        """The worker ends. ``handed_over``: another one of the same run has what is left."""


def interpreter() -> dict[str, str]:
    """Which Python the host image is, for its key: layers on it have paths of that interpreter and of its packages in them."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": version, "prefix": sys.prefix, "base": sys.base_prefix}


def asked_environment(launch: Launch, packages: str, path: str) -> dict[str, str]:
    """What image and function ask for; ``packages``: the environment that the image's are in; ``path``: ``PATH`` without it."""
    config = launch.stack.config
    found = {"PATH": f"{packages}/bin:{path}", "VIRTUAL_ENV": packages} if config.packages else {}
    return {**found, **config.environment, **launch.asked}
