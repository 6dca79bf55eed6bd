"""What this machine has, and whether it is enough for a function."""

import os
from typing import NamedTuple

from greenroom.model.spec import FunctionSpec
from greenroom.server.admission import Need


class Machine(NamedTuple):
    """``memory`` in MiB."""

    cores: int
    memory: int
    gpus: int

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
            return f"InvalidError: {spec.name} asks for {spec.memory} MiB of memory; this machine has {self.memory} MiB"
        if spec.gpu and not self.gpus:
            return f"InvalidError: {spec.name} asks for the GPU {spec.gpu!r}; this machine has none"
        return ""

    def mention(self, spec: FunctionSpec) -> str:
        """What is asked for and will be less, in a line; ``""`` when nothing is."""
        if spec.cpu > self.cores:
            return f"{spec.name} asks for {spec.cpu:g} CPUs; this machine has {self.cores}, so it runs with those"
        return ""


def this_machine() -> Machine:
    """Looked at once, before a server's loop runs."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2,
        gpus=sum(name.startswith("nvidia") and name[6:].isdigit() for name in os.listdir("/dev")),
    )
