"""One container, from its start to nothing left.

A container ends when its supervisor has: that is what a runner waits for. A supervisor that was killed leaves an agent
that notices, runs its exit hooks and ends; the runner waits for that too, then ends what is left.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable

from greenroom.wire.lasting import End, Left
from greenroom.wire.messages import ContainerLog, ContainerStarted, StartContainer
from greenroom.wire.payload import Payload
from greenroom.worker.ending import Known, reason
from greenroom.worker.guard import guarded, own_error
from greenroom.worker.held import Held
from greenroom.worker.ledgers import ended
from greenroom.worker.output import Output
from greenroom.worker.place import SLACK, Place, backstop
from greenroom.worker.processes import kill
from greenroom.worker.scratch import Scratch
from greenroom.worker.start import Start

HELD_BACK = 1 << 20
"""Bytes on their way to the server from which on output stays in its files."""
AGAIN = 0.02
"""Seconds until the next look at what can only be looked at."""


class Runner:
    """Starts one container, waits for its end, clears up."""

    def __init__(self, place: Place, container_id: str, log_offset: int = 0, *, told: bool = False) -> None:
        """``told``: its end has been; what is left of it is to be cleared up."""
        self.container_id = container_id
        self._place = place
        self._loop = asyncio.get_running_loop()
        scratch = Scratch(place.run / "containers", container_id, place.logs)
        self._held = Held(scratch, Output(scratch.output, self._send_log, log_offset))
        self._unwatch: Callable[[], None] | None = None
        self._awaited = 0
        """The process whose end is awaited: the supervisor, or after it another that is left."""
        self._pidfd = -1
        self._supervised = False
        self._started = False
        """There was a supervisor."""
        self._status: int | None = None
        """The supervisor's wait status, once it has ended and if it was this process's child."""
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._output_waits = False
        """Whoever is to see it doesn't read."""
        self._output_left = False
        """Its end doesn't wait for that."""
        self._killed = ""
        self._at_once = ""
        """Why it ends without any of what an ordinary end does; ``""``: it doesn't."""
        self._kill_from = self._gone_by = 0.0
        self._broken = 0
        """Errors of our own."""
        self._over = False
        self._told = False
        self._told_before = told

    # ---- beginning ----

    def start(self, message: StartContainer, payloads: list[Payload]) -> None:
        """Acquire everything and start the sandbox; what can't be is told the server in one line."""
        Start(self._place, self._held, message, payloads, self).begin()

    def still_wanted(self) -> bool:
        """See :class:`greenroom.worker.start.Outcome`."""
        if self._killed and not self._at_once:
            self._release(self._killed, started=False)
        return not self._killed and not self._over

    @guarded
    def started(self, pid: int) -> None:
        """See :class:`greenroom.worker.start.Outcome`."""
        self._awaited, self._started = pid, True
        if self._at_once:
            return  # it is looked for by another road
        try:
            self._pidfd = os.pidfd_open(pid)
            self._held.scratch.note_supervisor(pid)
        except ProcessLookupError:
            self._look_for_rest()  # it has ended already
            return
        except OSError as error:
            self.refused(error)
            return
        self._supervised = True
        enter = self._held.sandbox.enter() if self._held.sandbox is not None else []
        self._place.send(ContainerStarted(self.container_id, pid, enter))
        self._follow()
        if self._killed:
            self.kill()

    @guarded
    def failed(self, reason: str) -> None:
        """See :class:`greenroom.worker.start.Outcome`."""
        self._end_at_once(self._killed or (reason if self._started else f"could not start: {reason}"))

    @guarded
    def refused(self, error: Exception) -> None:
        """See :class:`greenroom.worker.start.Outcome`."""
        what = str(error)
        if isinstance(error, OSError):
            what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        self._started = False
        self._end_at_once(f"could not start: {what}")

    def adopt(self) -> bool:
        """Take over a container of the worker before this one; False when nothing of it is left."""
        if not self._held.scratch.directory.is_dir():
            return False
        self._take_over()
        return True

    @guarded
    def _take_over(self) -> None:
        held = self._held
        self._started = True  # until it is known: what can't be taken over has been started by somebody
        held.adopt(self._place.sandboxes.left(self.container_id, held.scratch.directory))
        self._started = held.scratch.was_started()
        try:
            held.acquire(held.output)
        except OSError as error:
            self._killed = f"its output can't be read: {error.strerror}"
        identity = held.scratch.supervisor()
        if not self._supervise(identity.pid if identity is not None else self._looks_like_supervisor()):
            self._look_for_rest()
        elif self._killed:
            self.kill()

    def _looks_like_supervisor(self) -> int | None:
        return self._held.sandbox.supervisor() if self._held.sandbox is not None else None

    def _supervise(self, pid: int | None) -> bool:
        """Follow a supervisor of the worker before; False when there is none any more."""
        if pid is None:
            return False
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False  # it ended just now
        self._awaited, self._supervised, self._started = pid, True, True
        self._follow()
        return True

    def _follow(self) -> None:
        """Be told when the awaited process has ended, and meanwhile of its output."""
        if self._unwatch is None and self._held.has_output:
            self._unwatch = self._place.files.add(self._held.scratch.output, self._output_grew)
            self._output_grew()
        self._loop.add_reader(self._pidfd, self._awaited_ended)

    def _unfollow(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    @guarded
    def leave(self) -> None:
        """Let go of it as it is: another worker takes it over."""
        self._over = self._told = True
        self._unfollow()
        for timer in (self._timer, self._flush):
            if timer is not None:
                timer.cancel()
        if self._unwatch is not None:
            self._unwatch()
        if self._held.has_output:
            self._held.output.release()
        self._held.ledger.close()

    def left(self) -> list[int]:
        """Its processes, of which some may still end by themselves; raises OSError."""
        return self._held.processes()

    # ---- living ----

    def _send_log(self, data: bytes) -> None:
        self._place.send(ContainerLog(self.container_id, []), [data])

    @guarded
    def _output_grew(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if not self._output_waits and not self._forward():
            self._flush = self._loop.call_later(AGAIN, self._output_grew)

    @guarded
    def hold_output(self, held: bool) -> None:
        """Leave what it prints in its file, and let its end wait for that; or hand it on again."""
        self._output_waits = held
        if self._unwatch is not None and not self._over:
            self._output_grew()

    def leave_output(self) -> None:
        """What is held back then stays in its file for good."""
        self._output_left = True

    def _forward(self) -> bool:
        """Hand output on, no faster than the server takes it; whether that was all."""
        if self._output_waits:
            return self._output_left
        return self._output_goes and self._held.output.forward(HELD_BACK)

    @property
    def _output_goes(self) -> bool:
        return not self._output_waits and self._place.backlog < HELD_BACK

    @guarded
    def kill(self, reason: str = "killed") -> None:
        """SIGKILL everything of it, now. Its supervisor does that, and writes down the end; it has little time to."""
        self._killed = self._killed or reason
        if self._at_once:
            return
        self._arm(SLACK, self._kill_everything)
        if self._supervised:
            self._end_supervisor()
        elif self._awaited:
            self._kill_everything()

    def _end_supervisor(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ends just now
            assert self._held.sandbox is not None
            self._held.sandbox.end(self._pidfd)

    @guarded
    def kill_after(self, seconds: float) -> None:
        """Kill it when it isn't gone by then."""
        if self._timer is None and not self._at_once:
            reason = f"it was not gone after {seconds:g} s and was killed"
            self._arm(seconds, lambda: self.kill(reason))

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, callback)

    @guarded
    def _kill_everything(self) -> None:
        for pid in self._held.processes():
            kill(pid)

    # ---- ending ----

    @guarded
    def _awaited_ended(self) -> None:
        self._unfollow()
        self._reap()
        self._supervised = False
        self._look_for_rest()

    def _reap(self) -> None:
        """The awaited process has ended; its status is kept if it was the supervisor, and this process's child."""
        if not self._awaited:
            return
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self._awaited, os.WNOHANG)
            if pid and self._status is None:
                self._status = status

    def _look_for_rest(self) -> None:
        """The supervisor has gone, in order; or it was killed, and the agent runs its exit hooks now."""
        scratch = self._held.scratch
        left = self._held.processes() if scratch.exit() is None else []
        if left and self._supervise(self._looks_like_supervisor()):
            # Its start was under way when the worker before died.
            if self._killed:
                self.kill(self._killed)
            return
        while left:
            agent = scratch.agent()
            # One that makes a layer owes no exit hooks, and nobody will know how it ended.
            if self._started and (agent not in left or self._place.making is not None):
                self._killed = self._killed or self._reason()
            if self._killed:
                for pid in left:
                    kill(pid)
            else:
                self.kill_after(backstop(self._place.settings))
            self._awaited = agent if agent in left else left[0]
            try:
                self._pidfd = os.pidfd_open(self._awaited)
            except ProcessLookupError:
                left = self._held.processes()
                continue
            self._follow()
            return
        self._drain()

    @guarded
    def _drain(self) -> None:
        """Send the rest of its output; then it has ended."""
        if self._over:
            return
        if self._held.has_output and not self._forward():
            self._loop.call_later(0 if self._output_goes else AGAIN, self._drain)
            return
        self._release(self._reason(), self._started)

    def _reason(self) -> str:
        scratch, sandbox = self._held.scratch, self._held.sandbox
        return reason(
            Known(
                exit=scratch.exit(),
                started=self._started,
                agent_began=scratch.agent() is not None,
                status=self._status,
                killed=self._killed,
                cause=sandbox.cause() if sandbox is not None else "",
                said=self._held.output.last_line() if self._held.has_output else "",
                exit_grace=self._place.settings.exit_grace,
            )
        )

    def broke(self, error: Exception) -> None:
        """An error of our own in a callback: it costs this container, and no other.

        Whatever failed may fail again. So its end does less than an ordinary one, and less with each error on the way.
        """
        self._broken += 1
        line = own_error(self.container_id, error)
        if self._told:
            return
        if self._broken == 1:
            self._killed = line if self._started else f"could not start: {line}"
        if self._over or self._broken > 2:
            self._tell(self._killed, self._started, Left())
        elif self._broken == 2:
            self._release(self._killed, self._started)
        else:
            self._end_at_once(self._killed)

    @guarded
    def _end_at_once(self, reason: str) -> None:
        """Kill it, wait until it has gone, and give everything back, without any more of what an ordinary end does."""
        if self._at_once or self._over:
            return
        self._killed = self._at_once = reason
        now = self._loop.time()
        self._kill_from, self._gone_by = now, now + SLACK
        if self._supervised:
            self._kill_from += SLACK / 2  # it ends what user code hid as well
            self._end_supervisor()
        self._supervised = False
        self._unfollow()
        self._until_gone()

    @guarded
    def _until_gone(self) -> None:
        now = self._loop.time()
        left: list[int] | None = None
        with contextlib.suppress(OSError):  # no descriptor is free, say: perhaps there will be
            left = self._held.processes()
        if left != [] and now < self._gone_by:
            if left and (self._awaited not in left or now >= self._kill_from):
                for pid in left:
                    kill(pid)
            self._loop.call_later(AGAIN, self._until_gone)
            return
        self._reap()
        self._release(self._at_once, self._started)

    @guarded
    def _release(self, reason: str, started: bool) -> None:
        """Give everything back, in a thread, since user code may have left much to remove; then it has ended."""
        if self._over:
            return
        self._over = True
        self._unfollow()
        for timer in (self._timer, self._flush):
            if timer is not None:
                timer.cancel()
        if self._unwatch is not None:
            self._unwatch()
        self._held.ledger.set_aside(reason, started)
        released = self._loop.run_in_executor(None, self._held.release)
        released.add_done_callback(lambda done: self._released(done, reason, started))

    @guarded
    def _released(self, done: "asyncio.Future[list[Exception]]", reason: str, started: bool) -> None:
        for error in done.result():  # what could not be removed is swept later; that it has ended is true
            with contextlib.suppress(OSError):  # a log that is full, or that nobody reads
                print(f"greenroom worker: {self.container_id} left something: {error!r}", file=sys.stderr, flush=True)
        self._tell(reason, started, self._held.left)

    def _tell(self, reason: str, started: bool, left: Left) -> None:
        """It has ended: the last that is said of it, once."""
        if not self._told_before:
            self._place.send(*ended(self.container_id, End(reason, started), left))
        self._told = True
        self._place.ended(self)
