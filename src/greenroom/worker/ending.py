"""How a container ended, in words: a pure function of what is known of it."""

import os
import signal
from typing import NamedTuple

from greenroom.worker.scratch import Exit

LOST = "lost"
"""What became of a container of which a new worker finds nothing."""
KILLED = "its supervisor was killed"


class Known(NamedTuple):
    """What is known of an end."""

    exit: Exit | None
    """How the agent ended, where its supervisor could write that down."""
    started: bool
    """It had a supervisor."""
    agent_began: bool
    """The supervisor noted its agent."""
    status: int | None
    """The supervisor's wait status; None where it was another process's child."""
    killed: str
    """Why the worker killed it; ``""``: it didn't."""
    cause: str
    """Why the kernel did, as far as the sandbox knows; else ``""``."""
    said: str
    """The last line of its output."""
    exit_grace: float
    """Seconds."""


def reason(known: Known) -> str:
    """One line, ``""`` for an orderly end."""
    ended = known.exit
    if ended is None:
        if not known.started:
            return LOST
        return known.killed or known.cause or _supervisors_end(known)
    if ended.deadline_expired:
        return f"its exit phase ran past its {known.exit_grace:g} s and was killed"
    if ended.code < 0:
        return known.killed or known.cause or f"killed by {signal_name(-ended.code)}"
    return f"exit status {ended.code}" if ended.code else ""


def _supervisors_end(known: Known) -> str:
    """Of a supervisor that wrote nothing down."""
    if known.status is None:
        return KILLED
    code = os.waitstatus_to_exitcode(known.status)
    how = f"exit status {code}" if code >= 0 else f"killed by {signal_name(-code)}"
    if not known.agent_began:
        said = f": {known.said}" if known.said else ""
        return f"its supervisor ended before the agent began: {how}{said}"
    return KILLED if code == -signal.SIGKILL else f"its supervisor ended without a word: {how}"


def signal_name(number: int) -> str:
    """``signal 11 (SIGSEGV)``; real-time signals have no name."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
