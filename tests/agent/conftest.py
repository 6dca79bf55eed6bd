"""A supervisor with a real agent below it, and no worker: the test is the server."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.model.spec import FunctionSpec, MethodSpec
from greenroom.wire import messages as m
from greenroom.wire.begin import Begin, write_begin
from greenroom.wire.connection import BlockingConnection
from greenroom.wire.lasting import make_lasting
from greenroom.wire.ledger import make_ledger
from tests.conftest import wait_for
from tests.worker.peer import Agent

ROOM = 1024


class Pair:
    """A supervisor and its agent, with the ends of everything they hold."""

    def __init__(
        self,
        home: Path,
        source: str,
        *,
        exit_grace: float = 2.0,
        backstop: float = 60.0,
        needs_loop: bool = False,
        batch_size: int = 0,
        max_inputs: int = 1,
        reconnect: float = 0.0,
    ) -> None:
        self.run = home / "run" / "test"
        self.directory = self.run / "containers" / "ta-1"
        (self.directory / "home").mkdir(parents=True)
        (self.directory / "notes").write_text(" " * 2 * ROOM)
        notes = os.open(self.directory / "notes", os.O_WRONLY)
        self.lock = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        (home / "code").mkdir()
        (home / "code" / "program.py").write_text(source)
        self.listen()
        spec = FunctionSpec(
            "fu-1",
            "ap-1",
            "Model",
            True,
            "program",
            "Model",
            [MethodSpec("call", is_async=needs_loop)],
            needs_loop=needs_loop,
            batch_size=batch_size,
            max_inputs=max_inputs,
        )
        begin = write_begin(
            Begin(
                container_id="ta-1",
                token="t",
                socket=str(self.run / "server.sock"),
                app_id="ap-1",
                spec=spec.to_json(),
                code=str(home / "code"),
                exit_grace=exit_grace,
                cancel_grace=0.5,
                max_payload=1 << 30,
                inline_limit=1 << 20,
                sizes=[],
                reconnect=reconnect,
            ),
            [b"", b""],
        )
        self.ledger = make_lasting(str(self.directory / "ledger")) if reconnect else make_ledger()
        watch, self.worker = os.pipe2(os.O_CLOEXEC)
        self.output = (self.directory / "output").open("w+b")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "greenroom.agent"),
                *("--begin", str(begin), "--ledger", str(self.ledger), "--notes", str(notes), "--watch", str(watch)),
                *("--dir", str(self.directory), "--backstop", str(backstop)),
            ],
            pass_fds=(begin, self.ledger, notes, watch),
            stdout=self.output,
            stderr=self.output,
            cwd=self.directory / "home",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        os.close(begin)
        os.close(notes)
        os.close(watch)
        self.agent: Agent | None = None

    def listen(self) -> None:
        """Be a server, the next one perhaps."""
        (self.run / "server.sock").unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.run / "server.sock"))
        self.listener.listen()

    def connected(self, count: int = 2) -> Agent:
        """Its connections, and no word from us yet."""
        return self._connections(count, None)

    def welcomed(self) -> Agent:
        """The agent, which starts up now, or goes on."""
        return self._connections(2, m.Welcome("sv-test", 1 << 20, 1 << 30))

    def _connections(self, count: int, welcome: m.Welcome | None) -> Agent:
        self.listener.settimeout(30)
        channels = {}
        for _ in range(count):
            connection = BlockingConnection(self.listener.accept()[0])
            hello, _ = connection.receive(30)
            if welcome is not None:
                connection.send(welcome)
            channels[hello.channel] = connection
        self.agent = Agent(channels.get("data", connection), channels.get("control", connection))
        return self.agent

    def entered(self) -> Agent:
        agent = self.welcomed()
        agent.until(m.Entered)
        return agent

    def agent_pid(self) -> int:
        return int(wait_for(lambda: (self.directory / "notes").read_text()[:ROOM].strip()))

    def ended(self) -> dict:
        """How it ended, once it has."""
        assert self.process.wait(30) == 0
        return json.loads((self.directory / "notes").read_text()[ROOM:])

    def printed(self) -> bytes:
        self.output.seek(0)
        return self.output.read()

    def worker_dies(self) -> None:
        os.close(self.worker)
        self.worker = -1

    def server_dies(self, *, lock: bool = True) -> None:
        """``lock``: nobody is left who holds the run directory's."""
        self.listener.close()
        if self.agent is not None:
            self.agent.close()
        if lock:
            os.close(self.lock)
            self.lock = -1

    def close(self) -> None:
        if self.lock >= 0:
            self.server_dies()
        if self.worker >= 0:
            self.worker_dies()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
        self.process.wait(30)
        os.close(self.ledger)
        self.output.close()


@pytest.fixture
def pair(home: Path) -> Iterator:
    made: list[Pair] = []

    def make(source: str, **options: float) -> Pair:
        made.append(Pair(home, source, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
