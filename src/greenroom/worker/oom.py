"""Which of the kernel's kills for want of memory explains a container's end.

A group's count of them never falls: that of a child long ago is in it when something else kills the agent. So the count
is looked at soon after each kill. Where the agent lives then, it outlived all of them, and only later ones count.

What can't be told apart: a child's kill in the last tenth of a second before something else killed the agent; with version
1, a kill because the whole machine had no more, which nobody is told of; and any, where events can't be had.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable

from greenroom.worker.cgroups import Cgroup
from greenroom.worker.processes import is_dying, number_inside
from greenroom.worker.watch import FileWatch

SETTLED = 0.1
"""Seconds after which a kill is in the count: version 1 tells of it before it is done."""
LOOKS = 30
"""Times that a kill is looked for which is not in the count by then: on a busy machine it takes its time."""


class Kills:
    """One container's. For the loop's thread, but for :meth:`close`.

    ``agent``: its process id as it sees it itself, once it is known. ``files``: for version 2.
    """

    def __init__(self, group: Cgroup, agent: Callable[[], int | None], files: FileWatch | None) -> None:
        self.outlived = 0
        """Kills that explain no end any more."""
        self._group = group
        self._agent = agent
        self._files = files
        self._loop = asyncio.get_running_loop()
        self._event = -1
        self._unwatch: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looks = 0

    def watch(self) -> None:
        """Be told of kills, where that can be, and look at those until now."""
        with contextlib.suppress(OSError):  # then the first kill explains every later end
            if self._files is not None:
                self._unwatch = self._files.add(self._group.kills_file, self._told)
            else:
                self._event = self._group.kill_events()
                self._loop.add_reader(self._event, self._heard)
        self._happened()

    def _heard(self) -> None:
        os.eventfd_read(self._event)
        self._told()

    def _told(self) -> None:
        self._looks = LOOKS
        self._happened()

    def _happened(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(SETTLED, self.look)

    def look(self) -> None:
        """Whether the agent has outlived what was killed until now."""
        self._timer = None
        with contextlib.suppress(OSError):  # there is no descriptor left to look with; perhaps at the next kill
            count = self._group.kills()
            if count == self.outlived and self._looks:
                self._looks -= 1
                self._happened()
                return
            self._looks = 0
            # In this order, so that a kill of the agent between the two is not among those that it outlived.
            if count > self.outlived and self._agent_lives():
                self.outlived = count

    def _agent_lives(self) -> bool:
        number = self._agent()
        agents = [pid for pid in self._group.processes() if number is not None and number_inside(pid) == number]
        return any(not is_dying(pid) for pid in agents)

    def close(self) -> None:
        """No more of them. From any thread."""
        self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._event >= 0:
            self._loop.remove_reader(self._event)
            os.close(self._event)
            self._event = -1
