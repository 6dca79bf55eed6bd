"""The worker as a whole: what the server says, and the end."""

import asyncio
import fcntl
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from greenroom.model.errors import ProtocolError
from greenroom.model.ids import BUILD
from greenroom.model.settings import Settings
from greenroom.wire import messages as m
from greenroom.wire.image_messages import DropImage, MakeImage
from greenroom.wire.loop_connection import LoopConnection, Turn
from greenroom.wire.output_messages import HoldOutput, LeaveOutput
from greenroom.wire.payload import Payload
from greenroom.wire.returning_messages import Settled
from greenroom.worker import ledgers
from greenroom.worker.bundle import Bundles
from greenroom.worker.ending import LOST
from greenroom.worker.images.builder import Builder
from greenroom.worker.images.prune import prune
from greenroom.worker.images.store import Layers
from greenroom.worker.place import backstop
from greenroom.worker.processes import kill
from greenroom.worker.removal import remove_run
from greenroom.worker.runner import Runner
from greenroom.worker.sandbox.base import Making, Sandboxes
from greenroom.worker.sandbox.choose import choose
from greenroom.worker.sweep import sweep
from greenroom.worker.watch import FileWatch

LOOK = 0.5
"""Seconds between two looks for the server that has the containers next."""
FORCED = 3600.0
"""Seconds after which a layer that is made anew each time, and that nobody uses, is removed."""


class Worker:
    """One worker. Must be made on a running loop."""

    def __init__(self, sock: socket.socket, home: Path, run: Path, settings: Settings, lock: int = -1) -> None:
        """``lock``: of the run directory of a server that stays: should it die, the next one may have it, and the containers."""
        self.run = run
        self.logs = home / "logs"
        self.settings = settings
        self.sandboxes: Sandboxes = choose(settings, home, run)
        self.bundles = Bundles(home / "code")
        self.layers = Layers(home / "layers")
        self.making: Making | None = None
        loop = asyncio.get_running_loop()
        self.files = FileWatch(loop)
        self.finished: asyncio.Future[None] = loop.create_future()
        # Containers hold the read end: that the write end closes tells their supervisors that this process has gone.
        self.watch_fd, self._alive = os.pipe2(os.O_CLOEXEC)
        self._loop = loop
        self._runners: dict[str, Runner] = {}
        self._builders: dict[str, Builder] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._left_building: set[str] = set()
        """Containers that made layers for the worker before this one."""
        self._ending = False
        self._abandoned = False
        self._lock = lock
        self._left_until = 0.0
        self._handed_over = False
        self._connection = LoopConnection(sock, Turn(loop), self._on_message, self._on_closed)
        self._handlers: dict[type, Callable[[Any, list[Payload]], None]] = {
            m.StartContainer: self._start,
            m.SignalContainer: self._signal,
            m.Adopt: self._adopt,
            m.Shutdown: self._shutdown,
            MakeImage: self._make_image,
            DropImage: self._drop_image,
            HoldOutput: self._hold_output,
            LeaveOutput: self._leave_output,
            Settled: self._settled,
        }
        self.send(m.WorkerReady(self.sandboxes.name, self.sandboxes.lacks, self.sandboxes.keeps_limits,
                                self.sandboxes.inline_only))  # fmt: skip
        threading.Thread(
            target=_sweep, args=(home, backstop(settings), self.layers), name="greenroom-sweep", daemon=True
        ).start()

    def send(self, message: Any, payloads: list[Payload] | None = None) -> None:
        """Tell the server; one that has gone misses it."""
        self._connection.send(message, payloads)

    @property
    def backlog(self) -> int:
        """Bytes that the server hasn't taken; 0 when it has gone."""
        return 0 if self._connection.closed else self._connection.backlog

    def ended(self, runner: Runner) -> None:
        """Nothing is left of that container."""
        self._runners.pop(runner.container_id, None)
        if runner.container_id in self._left_building:
            self._left_building.discard(runner.container_id)
            self._loop.run_in_executor(None, self.layers.sweep)  # nothing writes into what it was to be any more
        self._maybe_finish()

    def _on_message(self, message: Any, payloads: list[Payload]) -> None:
        handler = self._handlers.get(type(message))
        if handler is None:
            raise ProtocolError(f"{type(message).__name__} is not for a server to say")
        handler(message, payloads)

    def _start(self, message: m.StartContainer, payloads: list[Payload]) -> None:
        runner = self._runners[message.container_id] = Runner(self, message.container_id)
        runner.start(message, payloads)

    def _signal(self, message: m.SignalContainer, payloads: list[Payload]) -> None:
        runner = self._runners.get(message.container_id)
        if runner is None:
            return
        if message.action == "kill":
            runner.kill()
        else:
            runner.kill_after(message.seconds)

    def _hold_output(self, message: HoldOutput, payloads: list[Payload]) -> None:
        source = self._runners.get(message.source_id) or self._builders.get(message.source_id)
        if source is not None:
            source.hold_output(message.held)

    def _leave_output(self, message: LeaveOutput, payloads: list[Payload]) -> None:
        for container_id, runner in self._runners.items():
            if message.container_id in ("", container_id):
                runner.leave_output()

    def _adopt(self, message: m.Adopt, payloads: list[Payload]) -> None:
        ledgers.forget_others(self.run, [container_id for container_id, _ in message.containers])
        for container_id, offset in message.containers:
            if (told := ledgers.told_before(self.run, container_id)) is not None:
                self.send(*told)
            runner = self._runners[container_id] = Runner(self, container_id, offset, told=told is not None)
            if not runner.adopt():
                del self._runners[container_id]
                if told is None:
                    self.send(m.ContainerEnded(container_id, LOST, False))
        for stray in self._find_strays():
            if message.patience and stray.container_id not in self._left_building:
                stray.kill_after(message.patience)
            else:
                stray.kill()

    def _find_strays(self) -> list[Runner]:
        """Look after containers of this run that nobody has told of; those that haven't ended by now."""
        found = []
        for directory in (self.run / "containers").glob("*"):
            if directory.name not in self._runners:
                stray = self._runners[directory.name] = Runner(self, directory.name)
                if not stray.adopt():
                    del self._runners[directory.name]
                elif directory.name in self._runners:
                    found.append(stray)
                    if directory.name.startswith(f"{BUILD}-"):
                        self._left_building.add(directory.name)
        return found

    def _settled(self, message: Settled, payloads: list[Payload]) -> None:
        ledgers.settled(self.run, message.container_id)

    def _make_image(self, message: MakeImage, payloads: list[Payload]) -> None:
        self._builders[message.image_id] = Builder(self, message, payloads)

    def _drop_image(self, message: DropImage, payloads: list[Payload]) -> None:
        if (builder := self._builders.pop(message.image_id, None)) is not None:
            self._close_builder(builder)

    def _close_builder(self, builder: Builder) -> None:
        task = builder.close()
        self._closing.add(task)
        task.add_done_callback(self._builder_closed)

    def _builder_closed(self, task: "asyncio.Task[None]") -> None:
        self._closing.discard(task)
        self._maybe_finish()

    def _close_builders(self) -> None:
        builders, self._builders = list(self._builders.values()), {}
        for builder in builders:
            self._close_builder(builder)

    def _shutdown(self, message: m.Shutdown, payloads: list[Payload]) -> None:
        self._ending = True
        self._close_builders()
        for runner in list(self._runners.values()):
            runner.kill("the server shut down")
        self._maybe_finish()

    def _on_closed(self, reason: str) -> None:
        """The server has gone. Containers notice by themselves; what they leave is ours to clear."""
        if self._ending:
            return
        self._ending = True
        self._close_builders()
        if self._lock >= 0 and any([*(self.run / "containers").glob("*"), *(self.run / "ended").glob("*")]):
            self._leave()
        else:
            self._abandon()

    def _leave(self) -> None:
        """Another server may come, with a worker of its own: containers are left as they are."""
        for runner in self._runners.values():
            runner.leave()
        self.sandboxes.stand_down()
        self._left_until = self._loop.time() + self.settings.reconnect_window
        self._look_for_successor()

    def _look_for_successor(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        if self._loop.time() < self._left_until:
            self._loop.call_later(LOOK, self._see_successor)
        else:
            self._see_successor()

    def _see_successor(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            theirs = os.stat(self.run / "lock").st_ino != os.fstat(self._lock).st_ino
        except BlockingIOError:
            theirs = True
        except FileNotFoundError:
            self._outlast()
            return
        if theirs:
            self._handed_over = True
            self._runners.clear()
            self._maybe_finish()
            return
        if self._loop.time() < self._left_until:
            self._look_for_successor()
            return
        self._runners.clear()
        self._abandon()

    def _outlast(self) -> None:
        """Somebody has removed the run directory: no server can be found there, so containers end by themselves. Their control
        groups are still ours to clear."""
        try:
            left = [pid for runner in self._runners.values() for pid in runner.left()]
        except OSError:  # no descriptor is free, say: perhaps there will be
            self._loop.call_later(LOOK, self._see_successor)
            return
        if left and self._loop.time() >= self._left_until + backstop(self.settings):
            for pid in left:
                kill(pid)
        if left:
            self._loop.call_later(LOOK, self._see_successor)
            return
        self._runners.clear()
        self._maybe_finish()

    def _abandon(self) -> None:
        """No other server has come: containers end by themselves, and what they leave is cleared up."""
        self._abandoned = True
        self._find_strays()  # of a worker before this one, which the server had no time to tell of
        for runner in list(self._runners.values()):
            runner.hold_output(False)  # nobody will say so any more
            runner.kill_after(backstop(self.settings))
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        if not self._ending or self._runners or self._closing or self.finished.done():
            return
        if self._abandoned:
            remove_run(self.run)
        self.sandboxes.close(handed_over=self._handed_over)
        self.files.close()
        self._connection.close()
        self.finished.set_result(None)


def _sweep(home: Path, patience: float, layers: Layers) -> None:
    try:
        layers.sweep()
        prune(layers, FORCED, forced_only=True)
        sweep(home, patience)
    except (OSError, RecursionError) as error:
        print(f"greenroom worker: can't clear up {home}: {error}", file=sys.stderr, flush=True)
