"""The programs that start OCI containers, and what they want to be told."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

PREFERRED = ("crun", "runc")
"""What is looked for where nobody insists, in this order."""


class Runtime(NamedTuple):
    """One of them."""

    program: str
    """Its path."""
    options: tuple[str, ...]
    """Before the command."""
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


def find_runtime(wanted: str) -> Runtime | None:
    """The runtime of that name or path (``""``: the first that is there); None when there is none."""
    for name in [wanted] if wanted else PREFERRED:
        program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if program is not None:
            return _describe(program)
    return None


def _describe(program: str) -> Runtime:
    name = Path(program).name
    if name.startswith("runsc"):
        options = ("--platform=ptrace", "--network=host", "--ignore-cgroups", "--host-uds=open")
        return Runtime(program, options, own_cgroup=False, passes_descriptors=False, user_namespace=False)
    if name.startswith("crun"):
        return Runtime(
            program, ("--cgroup-manager=disabled",), own_cgroup=False, passes_descriptors=True, user_namespace=True
        )
    return Runtime(program, (), own_cgroup=True, passes_descriptors=True, user_namespace=True)
