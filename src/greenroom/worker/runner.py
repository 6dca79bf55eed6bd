"""One container, from what it needs to nothing left: acquired in order, released in reverse.

A container ends when its supervisor has: that is what a runner waits for. A supervisor that was killed leaves an agent
that notices, runs its exit hooks and ends; the runner waits for that too, then ends what is left.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from greenroom.model.errors import ExecutionError
from greenroom.model.settings import Settings
from greenroom.model.spec import Limits
from greenroom.wire.begin import write_begin
from greenroom.wire.ledger import Entries, make_ledger, read_ledger
from greenroom.wire.messages import Begin, ContainerEnded, ContainerLog, ContainerStarted, StartContainer
from greenroom.wire.payload import INLINE_ONLY, Payload
from greenroom.worker.bundle import Bundles
from greenroom.worker.output import Output
from greenroom.worker.processes import kill
from greenroom.worker.sandbox.base import Descriptors, Launch, Sandbox, Sandboxes
from greenroom.worker.scratch import Scratch
from greenroom.worker.watch import FileWatch

SLACK = 5.0
"""Seconds beyond all the grace that a container may have."""
HELD_BACK = 1 << 20
"""Bytes on their way to the server from which on output stays in its files."""
LOST = "lost"
"""What became of a container of which a new worker finds nothing."""


def backstop(settings: Settings) -> float:
    """Seconds after which a container that nobody looks after must have gone by itself."""
    return settings.cancel_grace + settings.exit_grace + SLACK


class Resource(Protocol):
    """Something that a container has while it lives."""

    def acquire(self) -> None:
        """Get it; raises OSError, and then nothing is held."""

    def release(self) -> None:
        """Give it back; called once for each acquire, in a thread, whatever has happened to it."""


class Place(Protocol):
    """The worker around a container."""

    run: Path
    logs: Path
    settings: Settings
    sandboxes: Sandboxes
    bundles: Bundles
    watch_fd: int
    files: FileWatch

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Tell the server."""

    @property
    def backlog(self) -> int:
        """Bytes that the server hasn't taken; 0 when it has gone."""

    def ended(self, runner: "Runner") -> None:
        """Nothing of it is left."""


class Runner:
    """Starts one container, waits for its end, clears up."""

    def __init__(self, place: Place, container_id: str, log_offset: int = 0) -> None:
        self.container_id = container_id
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._scratch = Scratch(place.run / "containers", container_id, place.logs)
        self._output = Output(self._scratch.output, self._send_log, log_offset)
        self._sandbox: Sandbox | None = None
        self._acquired: list[Resource] = []
        self._unwatch: Callable[[], None] | None = None
        self._awaited = 0
        """The process whose end is awaited: the supervisor, or after it another that is left."""
        self._pidfd = -1
        self._ledger = -1
        self._supervised = False
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._killed = ""
        self._over = False

    # ---- beginning ----

    def start(self, message: StartContainer, payloads: list[Payload]) -> None:
        """Acquire everything and start the sandbox; what can't be is told the server in one line."""
        try:
            self._acquire(self._scratch)
            self._acquire(self._output)
        except OSError as error:
            self._refuse(error)
            return
        if not message.bundle:
            self._launch(message, payloads, None)
            return
        unpacked = self._place.bundles.directory(message.bundle)
        if unpacked.done():
            self._bundle_ready(message, payloads, unpacked)
        else:
            unpacked.add_done_callback(lambda done: self._bundle_ready(message, payloads, done))

    def _acquire(self, resource: Resource) -> None:
        resource.acquire()
        self._acquired.append(resource)

    def _bundle_ready(self, message: StartContainer, payloads: list[Payload], done: "asyncio.Future[Path]") -> None:
        try:
            code = done.result()
        except ExecutionError as error:
            self._refuse(error)
        else:
            self._launch(message, payloads, code)

    def _launch(self, message: StartContainer, payloads: list[Payload], code: Path | None) -> None:
        if self._killed:
            self._release(self._killed, started=False)
            return
        place = self._place
        launch = Launch(
            container_id=self.container_id,
            directory=self._scratch.directory,
            run=place.run,
            output=self._scratch.output,
            asked=message.environment,
            code=code,
            backstop=backstop(place.settings),
            limits=Limits(*message.limits),
        )
        seen: dict[str, Any] = {
            "code": place.sandboxes.code(code) if code is not None else "",
            "socket": place.sandboxes.socket(message.begin["socket"]),
        }
        if place.sandboxes.inline_only:
            seen |= {"inline_limit": INLINE_ONLY, "max_payload": min(INLINE_ONLY, message.begin["max_payload"])}
        begin = Begin(**{**message.begin, **seen}, sizes=[])
        try:
            self._sandbox = place.sandboxes.sandbox(launch)
            self._acquire(self._sandbox)
            self._ledger = make_ledger()
            with _Open(write_begin(begin, payloads)) as begin_fd, _Open(self._scratch.open_notes()) as notes:
                self._sandbox.start(
                    Descriptors(begin_fd, self._ledger, notes, place.watch_fd), self._started, self._failed
                )
        except (OSError, ValueError) as error:  # ValueError: a variable's name or value that no process can have
            self._refuse(error)

    def _started(self, pid: int) -> None:
        """The sandbox has a supervisor."""
        self._awaited = pid
        try:
            self._pidfd = os.pidfd_open(pid)
            self._scratch.note_supervisor(pid)
        except ProcessLookupError:
            self._look_for_rest()  # it has ended already
            return
        except OSError as error:
            self._refuse(error)
            return
        self._supervised = True
        enter = self._sandbox.enter() if self._sandbox is not None else []
        self._place.send(ContainerStarted(self.container_id, pid, enter))
        self._follow()
        if self._killed:
            self.kill()

    def _failed(self, reason: str) -> None:
        """The sandbox could not start it."""
        self._release(self._killed or f"could not start: {reason}", started=False)

    def _refuse(self, error: Exception) -> None:
        """It could not start; nothing of it stays."""
        what = str(error)
        if isinstance(error, OSError):
            what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        if self._awaited:
            self._kill_everything()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._awaited, 0)
            # An agent that its supervisor forked in that very moment.
            self._kill_everything()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._release(f"could not start: {what}", started=False)

    def adopt(self) -> bool:
        """Take over a container of the worker before this one; False when nothing of it is left."""
        if not self._scratch.directory.is_dir():
            return False
        self._sandbox = self._place.sandboxes.left(self.container_id, self._scratch.directory)
        self._sandbox.adopt()
        self._acquired = [self._scratch, self._sandbox]
        try:
            self._output.acquire()
            self._acquired.append(self._output)
        except OSError as error:
            self._killed = f"its output can't be read: {error.strerror}"
        identity = self._scratch.supervisor()
        if not self._supervise(identity.pid if identity is not None else self._sandbox.supervisor()):
            self._look_for_rest()
        elif self._killed:
            self.kill()
        return True

    def _supervise(self, pid: int | None) -> bool:
        """Follow a supervisor of the worker before; False when there is none any more."""
        if pid is None:
            return False
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False  # it ended just now
        self._awaited, self._supervised = pid, True
        self._follow_rest()
        return True

    def _follow(self) -> None:
        if self._output in self._acquired:
            self._unwatch = self._place.files.add(self._scratch.output, self._output_grew)
            self._output_grew()
        self._loop.add_reader(self._pidfd, self._awaited_ended)

    # ---- living ----

    def _send_log(self, data: bytes) -> None:
        self._place.send(ContainerLog(self.container_id, []), [data])

    def _output_grew(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._place.backlog >= HELD_BACK or not self._output.forward(HELD_BACK):
            self._flush = self._loop.call_later(0.02, self._output_grew)

    def kill(self, reason: str = "killed") -> None:
        """SIGKILL everything of it, now. Its supervisor does that, and writes down the end; it has little time to."""
        self._killed = self._killed or reason
        self._arm(SLACK, self._kill_everything)
        if self._supervised:
            with contextlib.suppress(ProcessLookupError):  # it ends just now
                assert self._sandbox is not None
                self._sandbox.end(self._pidfd)
        elif self._awaited:
            self._kill_everything()

    def kill_after(self, seconds: float) -> None:
        """Kill it when it isn't gone by then."""
        if self._timer is None:
            reason = f"it was not gone after {seconds:g} s and was killed"
            self._arm(seconds, lambda: self.kill(reason))

    def _arm(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, callback)

    def _kill_everything(self) -> None:
        for pid in self._processes():
            kill(pid)

    def _processes(self) -> list[int]:
        return self._sandbox.processes() if self._sandbox is not None else []

    # ---- ending ----

    def _awaited_ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        try:
            os.waitpid(self._awaited, os.WNOHANG)
        except ChildProcessError:
            pass  # no child of this worker's
        self._supervised = False
        self._look_for_rest()

    def _look_for_rest(self) -> None:
        """The supervisor has gone, in order; or it was killed, and the agent runs its exit hooks now."""
        left = self._processes() if self._scratch.exit() is None else []
        if left and self._sandbox is not None and self._supervise(self._sandbox.supervisor()):
            # Its start was under way when the worker before died.
            if self._killed:
                self.kill(self._killed)
            return
        while left:
            agent = self._scratch.agent()
            if agent not in left and self._scratch.was_started():
                self._killed = self._killed or "its supervisor was killed"
            if self._killed:
                for pid in left:
                    kill(pid)
            else:
                self.kill_after(backstop(self._place.settings))
            self._awaited = agent if agent in left else left[0]
            try:
                self._pidfd = os.pidfd_open(self._awaited)
            except ProcessLookupError:
                left = self._processes()
                continue
            self._follow_rest()
            return
        self._drain()

    def _follow_rest(self) -> None:
        if self._unwatch is None:
            self._follow()
        else:
            self._loop.add_reader(self._pidfd, self._awaited_ended)

    def _drain(self) -> None:
        """Send the rest of its output, no faster than the server takes it; then it has ended."""
        if self._output in self._acquired and (self._place.backlog >= HELD_BACK or not self._output.forward(HELD_BACK)):
            self._loop.call_later(0.02 if self._place.backlog >= HELD_BACK else 0, self._drain)
            return
        self._release(*self._how_it_ended())

    def _how_it_ended(self) -> tuple[str, bool]:
        """The reason, and whether it had started."""
        ended = self._scratch.exit()
        if ended is None:
            if not self._scratch.was_started():
                return LOST, False
            return self._killed or self._cause() or "its supervisor was killed", True
        if ended.deadline_expired:
            return f"its exit phase ran past its {self._place.settings.exit_grace:g} s and was killed", True
        if ended.code < 0:
            return self._killed or self._cause() or f"killed by {signal_name(-ended.code)}", True
        return f"exit status {ended.code}" if ended.code else "", True

    def _cause(self) -> str:
        return self._sandbox.cause() if self._sandbox is not None else ""

    def _release(self, reason: str, started: bool) -> None:
        """Give everything back, in a thread, since user code may have left much to remove; then it has ended."""
        if self._over:
            return
        self._over = True
        for timer in (self._timer, self._flush):
            if timer is not None:
                timer.cancel()
        if self._unwatch is not None:
            self._unwatch()
        acquired, self._acquired = self._acquired, []

        def release() -> None:
            for resource in reversed(acquired):
                resource.release()

        released = self._loop.run_in_executor(None, release)
        released.add_done_callback(lambda done: self._released(done, reason, started))

    def _released(self, done: "asyncio.Future[None]", reason: str, started: bool) -> None:
        if (
            error := done.exception()
        ) is not None:  # what could not be removed is swept later; that it has ended is true
            print(f"greenroom worker: {self.container_id} left something: {error!r}", file=sys.stderr, flush=True)
        entries = Entries(-1, [])
        ledger, self._ledger = self._ledger, -1
        if ledger >= 0:
            entries = read_ledger(ledger)
            os.close(ledger)
        finished = [seq for seq, _ in entries.results]
        self._place.send(
            ContainerEnded(self.container_id, reason, started, entries.begun, finished, []),
            [payload for _, payload in entries.results],
        )
        self._place.ended(self)


class _Open:
    """A descriptor, for ``with``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)


def signal_name(number: int) -> str:
    """``signal 11 (SIGSEGV)``; real-time signals have no name."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
