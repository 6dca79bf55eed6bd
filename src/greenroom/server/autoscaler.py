"""How many containers a pool should have: a pure function of what is seen and what is wished."""

import math
from typing import NamedTuple


class Policy(NamedTuple):
    """What the function's author asked for."""

    min_containers: int = 0
    max_containers: int = 200
    buffer_containers: int = 0
    """Containers to have beyond the need while there is any."""
    target_inputs: int = 1
    """Inputs that one container should have at once."""


class Sample(NamedTuple):
    """What a pool looks like now."""

    queued: int
    running: int
    seconds_per_input: float | None = None
    """How long inputs take, by the latest that ended and by those that run; None: none has ended yet."""
    seconds_to_start: float = 0.5
    """How long a container takes until it is ready."""


def desired_containers(sample: Sample, policy: Policy) -> int:
    """Containers that the pool should have, those starting included.

    One for each ``target_inputs`` of demand; but no more than can each do, of what is to be done, as much as a start
    costs: ten thousand inputs of 30 µs are over before a second container is up. Between the policy's bounds always.
    """
    demand = sample.queued + sample.running
    needed = math.ceil(demand / policy.target_inputs)
    if sample.seconds_per_input is not None and sample.seconds_to_start > 0:
        work = demand * sample.seconds_per_input / policy.target_inputs
        worthwhile = work / sample.seconds_to_start
        if worthwhile < needed:
            needed = math.ceil(worthwhile)
    if demand:
        needed = max(needed, 1) + policy.buffer_containers
    return max(policy.min_containers, min(needed, policy.max_containers))


class Peak:
    """The most that was seen in the last window at least, and in the last two at the most."""

    def __init__(self) -> None:
        self._before = self._now = 0

    @property
    def value(self) -> int:
        """It."""
        return max(self._before, self._now)

    def note(self, seen: int) -> None:
        """So many are there now."""
        self._now = max(self._now, seen)

    def turn(self) -> None:
        """A window is over."""
        self._before, self._now = self._now, 0


def prefetch_depth(seconds_per_input: float | None) -> int:
    """Inputs to hand at once to a container that runs them one by one: about 10 ms of work, and one while unknown.

    Those that wait behind a slow one are asked back (``Revoke``), so this is about throughput alone.
    """
    if seconds_per_input is None:
        return 1
    return max(1, min(256, int(0.010 / max(seconds_per_input, 1e-6))))


def smoothed(previous: float | None, seen: float) -> float:
    """The estimate of a duration after one more was seen: rises at once, falls by a fifth of the difference."""
    if previous is None or seen > previous:
        return seen
    return previous + (seen - previous) * 0.2
