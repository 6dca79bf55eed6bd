"""An input's life, as one table: queued, running in a container, and ended in one of four ways.

A running input goes back to the queue when it is to be tried again (it failed and has retries left) or when its
container was lost or asked to give it back. A queued one can be cancelled, or fail without having run (its container
never came up).
"""

from greenroom.model.errors import StateError
from greenroom.model.versions import StrEnum


class InputState(StrEnum):
    """Where an input is in its life."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


class InputEvent(StrEnum):
    """What can happen to an input."""

    DISPATCHED = "DISPATCHED"
    SUCCEED = "SUCCEED"
    FAIL = "FAIL"
    CANCEL = "CANCEL"
    TIME_OUT = "TIME_OUT"
    RETRY = "RETRY"
    REQUEUE = "REQUEUE"


_S = InputState
_E = InputEvent

TRANSITIONS: dict[InputState, dict[InputEvent, InputState]] = {
    _S.QUEUED: {_E.DISPATCHED: _S.RUNNING, _E.FAIL: _S.FAILED, _E.CANCEL: _S.CANCELLED},
    _S.RUNNING: {
        _E.SUCCEED: _S.SUCCEEDED,
        _E.FAIL: _S.FAILED,
        _E.CANCEL: _S.CANCELLED,
        _E.TIME_OUT: _S.TIMED_OUT,
        _E.RETRY: _S.QUEUED,
        _E.REQUEUE: _S.QUEUED,
    },
    _S.SUCCEEDED: {},
    _S.FAILED: {},
    _S.CANCELLED: {},
    _S.TIMED_OUT: {},
}

LIVE = frozenset(state for state, row in TRANSITIONS.items() if row)
"""The states from which an input can still move."""


def next_state(state: InputState, event: InputEvent) -> InputState:
    """The state that ``event`` leads to.

    Raises:
        StateError: ``state`` doesn't accept ``event``; nothing has changed.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise StateError(f"an input that is {state} does not accept {event}") from None
