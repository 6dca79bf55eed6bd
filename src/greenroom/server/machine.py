"""What this machine has, and whether it is enough for a function."""

import os
from pathlib import Path
from typing import NamedTuple

from greenroom.model.spec import FunctionSpec
from greenroom.server.admission import Need
from greenroom.server.own_group import OwnLimits, read_own_limits


class Machine(NamedTuple):
    """``memory`` in MiB."""

    cores: float
    memory: int
    gpus: int
    limited: bool = False
    """Its memory is the limit of a control group: the machine has more."""

    @property
    def capacity(self) -> Need:
        """What all containers together may ask for."""
        return Need(float(self.cores), self.memory)

    def fit(self, need: Need) -> Need:
        """Of cores, no more than there are is asked for."""
        return need._replace(cores=min(need.cores, float(self.cores)))

    def refuse(self, spec: FunctionSpec) -> str:
        """Why it can never run that function, as ``ErrorName: text``; ``""`` when it can."""
        if spec.memory > self.memory:
            why = ", which is the limit of this server's control group" if self.limited else ""
            text = f"{spec.name} asks for {spec.memory} MiB of memory; this machine has {self.memory} MiB{why}"
            return f"InvalidError: {text}"
        if spec.gpu and not self.gpus:
            return f"InvalidError: {spec.name} asks for the GPU {spec.gpu!r}; this machine has none"
        return ""

    def mention(self, spec: FunctionSpec) -> str:
        """What is asked for and will be less, in a line; ``""`` when nothing is."""
        if spec.cpu > self.cores:
            return f"{spec.name} asks for {spec.cpu:g} CPUs; this machine has {self.cores:g}, so it runs with those"
        return ""


def this_machine() -> Machine:
    """Looked at once, before a server's loop runs: what this process may have of it."""
    machine = Machine(
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2,
        gpus=sum(name.startswith("nvidia") and name[6:].isdigit() for name in os.listdir("/dev")),
    )
    own = Path("/proc/self")
    return within(machine, read_own_limits((own / "mountinfo").read_text(), (own / "cgroup").read_text()))


def within(machine: Machine, limits: OwnLimits) -> Machine:
    """What a process with those limits has of ``machine``."""
    cores = min(machine.cores, limits.cores)
    if limits.memory // 1024**2 < machine.memory:
        machine = machine._replace(memory=int(limits.memory // 1024**2), limited=True)
    return machine._replace(cores=cores)
