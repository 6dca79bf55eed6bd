"""The programs that start OCI containers, and what they want to be told."""

from pathlib import Path
from typing import NamedTuple


class Runtime(NamedTuple):
    """One of them."""

    program: str
    """Its path."""
    options: tuple[str, ...]
    """Before the command."""
    exec_options: tuple[str, ...]
    """After ``exec``: what it does not take from the container's own process."""
    own_cgroup: bool
    """It makes the container's group itself, beside what we do: it must be told which."""
    passes_descriptors: bool
    """``--preserve-fds``, and descriptors over a socket. Else a container gets files, and no payload by descriptor."""
    user_namespace: bool
    """Containers get one. Not where the runtime's own kernel stands between them and the host's."""

    @property
    def name(self) -> str:
        """``crun``."""
        return Path(self.program).name


def describe(program: str) -> Runtime:
    """The runtime at that path."""
    name = Path(program).name
    if name.startswith("runsc"):
        options = ("--platform=ptrace", "--network=host", "--ignore-cgroups", "--host-uds=open")
        return Runtime(program, options, (), own_cgroup=False, passes_descriptors=False, user_namespace=False)
    if name.startswith("crun"):
        return Runtime(
            program,
            ("--cgroup-manager=disabled",),
            ("--no-new-privs",),
            own_cgroup=False,
            passes_descriptors=True,
            user_namespace=True,
        )
    return Runtime(program, (), (), own_cgroup=True, passes_descriptors=True, user_namespace=True)
