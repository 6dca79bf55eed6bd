"""How a container's end is told, by what is known of it."""

import signal

import pytest

from greenroom.worker.ending import Known, reason
from greenroom.worker.scratch import Exit

NOTHING = Known(None, False, False, None, "", "", "", 30.0)
STARTED = NOTHING._replace(started=True)
BEGAN = STARTED._replace(agent_began=True)
OOM = "out of memory: limit 8 MiB"
KILL, SEGV = int(signal.SIGKILL), int(signal.SIGSEGV)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (NOTHING, "lost"),
        (BEGAN._replace(exit=Exit(0, False)), ""),
        (BEGAN._replace(exit=Exit(3, False), cause=OOM), "exit status 3"),
        (BEGAN._replace(exit=Exit(-SEGV, False)), "killed by signal 11 (SIGSEGV)"),
        (BEGAN._replace(exit=Exit(-KILL, False), cause=OOM), OOM),
        (BEGAN._replace(exit=Exit(-KILL, False), cause=OOM, killed="killed"), "killed"),
        (BEGAN._replace(exit=Exit(-KILL, True), killed="killed"), "its exit phase ran past its 30 s and was killed"),
        (STARTED, "its supervisor was killed"),
        (STARTED._replace(status=1 << 8), "its supervisor ended before the agent began: exit status 1"),
        (
            STARTED._replace(status=1 << 8, said="No module named greenroom"),
            "its supervisor ended before the agent began: exit status 1: No module named greenroom",
        ),
        (STARTED._replace(status=KILL), "its supervisor ended before the agent began: killed by signal 9 (SIGKILL)"),
        (STARTED._replace(status=KILL, cause=OOM), OOM),
        (STARTED._replace(status=KILL, cause=OOM, killed="killed"), "killed"),
        (BEGAN._replace(status=KILL, said="of the user's"), "its supervisor was killed"),
        (BEGAN._replace(status=SEGV), "its supervisor ended without a word: killed by signal 11 (SIGSEGV)"),
        (BEGAN._replace(status=1 << 8), "its supervisor ended without a word: exit status 1"),
    ],
)
def test_the_reason(known: Known, told: str) -> None:
    assert reason(known) == told
