"""A function's numbers, seen and changed while it runs or is deployed."""

from typing import Any, NamedTuple

from greenroom.model.errors import InvalidError
from greenroom.sdk.channel import next_rid
from greenroom.sdk.options import read_scaling
from greenroom.wire.deploy_messages import GetStats, UpdateAutoscaler

_FIELDS = ("min_containers", "max_containers", "buffer_containers", "scaledown_window")


class FunctionStats(NamedTuple):
    """What a function has just now."""

    backlog: int
    """Inputs that wait."""
    num_total_runners: int
    """Containers, those that start or end included."""


def update_of(function_id: str, given: dict[str, Any]) -> UpdateAutoscaler:
    """What to ask; raises :class:`InvalidError`."""
    if unknown := sorted(set(given) - set(_FIELDS)):
        raise InvalidError(f"update_autoscaler() knows no {', '.join(unknown)}; it takes {', '.join(_FIELDS)}")
    return UpdateAutoscaler(next_rid(), function_id, read_scaling("update_autoscaler()", given))


def stats_question(function_id: str) -> GetStats:
    """What to ask."""
    return GetStats(next_rid(), function_id)


def stats_of(answer: dict[str, Any]) -> FunctionStats:
    """What was answered."""
    return FunctionStats(answer["backlog"], answer["containers"])
