"""A container's life, as one table.

A container is PENDING until a worker has room for it, STARTING until its agent speaks, ENTERING while user code is
imported and its enter hooks run. Only then does it get inputs: IDLE without one, RUNNING with some. Told to stop, it is
DRAINING while its inputs finish or are cancelled, and EXITING while exit hooks run, which the supervisor ends by SIGKILL
after the grace period. STOPPED and FAILED are the ends.

What holds: every live state accepts STOP and FAULT (so a container can always be stopped, and a fault always be told),
LOST leads to FAILED from everywhere, and from every state an end is reached by events that need no help of user code.
Deadlines stand beside the table, below.
"""

from greenroom.model.errors import StateError
from greenroom.model.versions import StrEnum


class ContainerState(StrEnum):
    """Where a container is in its life."""

    PENDING = "PENDING"
    STARTING = "STARTING"
    ENTERING = "ENTERING"
    IDLE = "IDLE"
    RUNNING = "RUNNING"
    DRAINING = "DRAINING"
    EXITING = "EXITING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


class ContainerEvent(StrEnum):
    """What can happen to a container."""

    PLACED = "PLACED"
    AGENT_CONNECTED = "AGENT_CONNECTED"
    ENTERED = "ENTERED"
    INPUT_STARTED = "INPUT_STARTED"
    INPUTS_DONE = "INPUTS_DONE"
    STOP = "STOP"
    FAULT = "FAULT"
    GRACE_EXPIRED = "GRACE_EXPIRED"
    RELEASED = "RELEASED"
    RELEASED_AFTER_FAULT = "RELEASED_AFTER_FAULT"
    LOST = "LOST"


_S = ContainerState
_E = ContainerEvent

TRANSITIONS: dict[ContainerState, dict[ContainerEvent, ContainerState]] = {
    _S.PENDING: {_E.PLACED: _S.STARTING, _E.STOP: _S.STOPPED, _E.FAULT: _S.FAILED, _E.LOST: _S.FAILED},
    _S.STARTING: {_E.AGENT_CONNECTED: _S.ENTERING, _E.STOP: _S.EXITING, _E.FAULT: _S.EXITING, _E.LOST: _S.FAILED},
    _S.ENTERING: {_E.ENTERED: _S.IDLE, _E.STOP: _S.EXITING, _E.FAULT: _S.EXITING, _E.LOST: _S.FAILED},
    _S.IDLE: {_E.INPUT_STARTED: _S.RUNNING, _E.STOP: _S.EXITING, _E.FAULT: _S.EXITING, _E.LOST: _S.FAILED},
    _S.RUNNING: {
        _E.INPUT_STARTED: _S.RUNNING,
        _E.INPUTS_DONE: _S.IDLE,
        _E.STOP: _S.DRAINING,
        _E.FAULT: _S.EXITING,
        _E.LOST: _S.FAILED,
    },
    _S.DRAINING: {
        _E.INPUTS_DONE: _S.EXITING,
        _E.GRACE_EXPIRED: _S.EXITING,
        _E.STOP: _S.DRAINING,
        _E.FAULT: _S.EXITING,
        _E.LOST: _S.FAILED,
    },
    _S.EXITING: {
        _E.RELEASED: _S.STOPPED,
        _E.RELEASED_AFTER_FAULT: _S.FAILED,
        _E.GRACE_EXPIRED: _S.EXITING,
        _E.STOP: _S.EXITING,
        _E.FAULT: _S.EXITING,
        _E.LOST: _S.FAILED,
    },
    _S.STOPPED: {},
    _S.FAILED: {},
}

LIVE = frozenset(state for state, row in TRANSITIONS.items() if row)
"""The states from which a container can still move."""

DEADLINES: dict[ContainerState, str] = {
    _S.STARTING: "the function's `startup_timeout`, then FAULT",
    _S.ENTERING: "what is left of its `startup_timeout`, then FAULT",
    _S.DRAINING: "by the reason of the stop, then GRACE_EXPIRED",
    _S.EXITING: "30 s (`GREENROOM_EXIT_GRACE`), then GRACE_EXPIRED: SIGKILL",
}
"""The states that time ends, and what the time is."""


def next_state(state: ContainerState, event: ContainerEvent) -> ContainerState:
    """The state that ``event`` leads to.

    Raises:
        StateError: ``state`` doesn't accept ``event``; nothing has changed.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise StateError(f"a container that is {state} does not accept {event}") from None
