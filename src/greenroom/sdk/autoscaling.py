"""A function's numbers, seen and changed while it runs or is deployed."""

from typing import Any, NamedTuple

from greenroom.model.errors import InvalidError
from greenroom.sdk.channel import next_rid
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
    fields = {name: value for name, value in given.items() if value is not None}
    for name, value in fields.items():
        if (type(value) is not int and not (name == "scaledown_window" and type(value) is float)) or value < 0:
            raise InvalidError(f"update_autoscaler({name}={value!r}): a number that isn't negative is wanted")
    return UpdateAutoscaler(next_rid(), function_id, fields)


def stats_question(function_id: str) -> GetStats:
    """What to ask."""
    return GetStats(next_rid(), function_id)


def stats_of(answer: dict[str, Any]) -> FunctionStats:
    """What was answered."""
    return FunctionStats(answer["backlog"], answer["containers"])
