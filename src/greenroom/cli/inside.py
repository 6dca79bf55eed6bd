"""Running a command in a container, on this terminal if there is one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from greenroom.cli import parent
from greenroom.cli.misuse import Misuse
from greenroom.cli.servers import Answering
from greenroom.wire.messages import EnterContainer

HOME = "/root"
"""Where programs in a real container begin that has no other working directory, or has lost it."""


class Command(NamedTuple):
    """What to execute here for something to run there."""

    words: list[str]
    environment: dict[str, str]
    directory: str


def command_in(server: Answering, container_id: str, words: list[str]) -> Command:
    """How to run ``words`` in a container.

    Raises:
        Misuse: what is needed for that isn't here.
        Error: what the server says.
    """
    answer = server.ask(EnterContainer(1, container_id))
    enter, pid = answer["command"], answer["pid"]
    if not enter:
        return _beside(pid, words)
    if shutil.which(enter[0]) is None:
        raise Misuse(f"{enter[0]} is missing here, which enters containers: apt-get install util-linux")
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    # Not by the runtime's --env: with that, crun forgets all other variables.
    term = ["/usr/bin/env", f"TERM={os.environ['TERM']}"] if terminal and "TERM" in os.environ else []
    command = [*enter, *terminal, "--cwd", _working_directory(pid), container_id, *term, *words]
    return Command([sys.executable, "-I", "-S", parent.__file__, *command], dict(os.environ), "/")


def _working_directory(pid: int) -> str:
    """A real container's, as its image has it, by the name that it has inside: its supervisor began there."""
    try:
        directory = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return HOME  # it is just ending, which the runtime says better
    return directory if directory.startswith("/") and not directory.endswith(" (deleted)") else HOME


def _beside(pid: int, words: list[str]) -> Command:
    """For a plain process: as its supervisor is."""
    try:
        pairs = [item.partition("=") for item in Path(f"/proc/{pid}/environ").read_text().split("\0") if item]
        directory = os.readlink(f"/proc/{pid}/cwd")
    except OSError as error:
        raise Misuse(f"the container's process {pid} has gone: {error.strerror}") from None
    environment = {name: value for name, _, value in pairs}
    if "TERM" in os.environ:
        environment["TERM"] = os.environ["TERM"]
    return Command(words, environment, directory)


def execute(command: Command) -> None:
    """Become it. Raises :class:`Misuse` when there is no such program."""
    os.chdir(command.directory)
    try:
        os.execvpe(command.words[0], command.words, command.environment)  # noqa: S606 - the words are the person's
    except OSError as error:
        raise Misuse(f"{command.words[0]}: {error.strerror}") from None


def run(command: Command) -> int:
    """Run it and wait; its exit status, as a shell tells it."""
    done = subprocess.run(command.words, env=command.environment, cwd=command.directory, check=False)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode
