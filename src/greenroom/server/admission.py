"""Which containers may start, by what the machine has: a pure function of what is asked for and what is taken."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Need(NamedTuple):
    """What a container asks for; what it doesn't name it gets as far as there is some, and waits for nothing."""

    cores: float = 0.0
    memory: int = 0
    """MiB."""


class Refusal(NamedTuple):
    """Why one has to wait."""

    place: int
    """Its place among those that wait."""
    resource: str
    """``cores`` or ``memory``."""
    free: float


def admit(waiting: Sequence[Need], held: Iterable[Need], capacity: Need) -> tuple[list[int], list[Refusal]]:
    """The places of those in ``waiting``, oldest first, that may start now, and why the others may not.

    Arrival order: while one waits for a resource, none behind it that asks for the same may overtake it.
    """
    taken = list(held)
    free = {
        "cores": capacity.cores - sum(need.cores for need in taken),
        "memory": float(capacity.memory - sum(need.memory for need in taken)),
    }
    short: set[str] = set()
    admitted: list[int] = []
    refusals: list[Refusal] = []
    for place, need in enumerate(waiting):
        asked = {"cores": need.cores, "memory": float(need.memory)}
        lacking = [name for name, amount in asked.items() if amount and (name in short or amount > free[name] + 1e-9)]
        if lacking:
            short.update(name for name, amount in asked.items() if amount)
            refusals.append(Refusal(place, lacking[0], max(0.0, free[lacking[0]])))
            continue
        for name, amount in asked.items():
            free[name] -= amount
        admitted.append(place)
    return admitted, refusals
