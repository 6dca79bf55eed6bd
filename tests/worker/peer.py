"""The server's end of the wire, held by a test: a real worker process on one side, its real containers on the other."""

import fcntl
import hashlib
import io
import os
import shutil
import signal
import socket
import tarfile
import textwrap
import time
from pathlib import Path

from greenroom.model.settings import Settings
from greenroom.model.spec import FunctionSpec, Limits, MethodSpec
from greenroom.server.spawn import spawn_worker
from greenroom.wire import messages as m
from greenroom.wire.connection import BlockingConnection
from tests.conftest import wait_for

SETTINGS = Settings(exit_grace=2.0, cancel_grace=0.5, sandbox="process")
PATIENCE = 30.0
NO_LIMITS = Limits()

PROGRAM = """
import os, signal, subprocess, sys, time
import greenroom

class Model:
    @greenroom.enter()
    def enter(self):
        {enter}

    @greenroom.method()
    def call(self):
        pass

    @greenroom.exit()
    def leave(self):
        {exit}
"""


def program(enter: str = "pass", exit: str = "pass") -> str:
    """A class with these two hooks."""
    return PROGRAM.format(enter=_body(enter), exit=_body(exit))


def _body(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip(), " " * 8).lstrip()


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


class Agent:
    """One container's two connections."""

    def __init__(self, data: BlockingConnection, control: BlockingConnection) -> None:
        self.data = data
        self.control = control

    def until(self, kind: type, timeout: float = PATIENCE):
        """The next message of that kind on the data connection; others before it are dropped."""
        while True:
            message, _ = self.data.receive(timeout)
            if isinstance(message, kind):
                return message

    def stop(self) -> None:
        self.data.send(m.Stop("the test says so"))

    def close(self) -> None:
        self.data.close()
        self.control.close()


class Peer:
    """A run directory, a listening socket, a worker."""

    def __init__(self, home: Path, settings: Settings = SETTINGS, name: str = "test") -> None:
        self.home = home
        self.settings = settings
        self.run = home / "run" / name
        self.run.mkdir(parents=True, mode=0o700)
        self.code = home / "code"
        self.code.mkdir(exist_ok=True)
        self._lock = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.run / "token").write_text("t")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.run / "server.sock"))
        self.listener.listen(64)
        self.logs: dict[str, bytes] = {}
        self.agents: list[Agent] = []
        self.pid = 0
        self.start_worker()

    def start_worker(self) -> None:
        sock, self.pid = spawn_worker(str(self.home), str(self.run), self._lock, self.settings.environment())
        self.worker = BlockingConnection(sock)
        self.until(m.WorkerReady)

    # ---- containers ----

    def bundle(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        if not (path := self.code / f"{digest}.tar").exists():
            path.write_bytes(data)
        return digest

    def start(
        self,
        container_id: str,
        source: str,
        environment: dict[str, str] | None = None,
        bundle: str | None = None,
        limits: Limits = NO_LIMITS,
        reconnect: float = 0.0,
    ) -> None:
        """Ask for a container whose program is ``source``; ``reconnect``: seconds for which it may do without a server."""
        if bundle is None:
            bundle = self.bundle(tar_of({"program.py": source.encode()}))
        spec = FunctionSpec("fu-1", "ap-1", "Model", True, "program", "Model", [MethodSpec("call")])
        begin = {
            "container_id": container_id,
            "token": f"token of {container_id}",
            "socket": str(self.run / "server.sock"),
            "app_id": "ap-1",
            "spec": spec.to_json(),
            "code": "",
            "exit_grace": self.settings.exit_grace,
            "cancel_grace": self.settings.cancel_grace,
            "max_payload": self.settings.max_payload,
            "inline_limit": self.settings.inline_limit,
            "reconnect": reconnect,
        }
        self.worker.send(
            m.StartContainer(container_id, begin, environment or {}, bundle, list(limits), {}, []), [b"", b""]
        )

    def agent(self) -> Agent:
        """The next container that connects."""
        self.listener.settimeout(PATIENCE)
        channels = {}
        for _ in range(2):
            connection = BlockingConnection(self.listener.accept()[0])
            hello, _ = connection.receive(PATIENCE)
            channels[hello.channel] = connection
            connection.send(m.Welcome("sv-test", self.settings.max_payload, self.settings.inline_limit))
        agent = Agent(channels["data"], channels["control"])
        self.agents.append(agent)
        return agent

    def entered(self) -> Agent:
        """The next container that connects, once it is ready."""
        agent = self.agent()
        agent.until(m.Entered)
        return agent

    def until(self, kind: type, container_id: str = "", timeout: float = PATIENCE):
        """The worker's next message of that kind (about that container); logs on the way are kept."""
        while True:
            message, payloads = self.worker.receive(timeout)
            if isinstance(message, m.ContainerLog):
                self.logs[message.container_id] = self.logs.get(message.container_id, b"") + payloads[0]
            if isinstance(message, kind) and container_id in ("", getattr(message, "container_id", "")):
                return message

    def ended(self, container_id: str = "", timeout: float = PATIENCE) -> m.ContainerEnded:
        return self.until(m.ContainerEnded, container_id, timeout)

    def log_until(self, container_id: str, text: bytes) -> None:
        """Until that container has printed ``text``."""
        while text not in self.logs.get(container_id, b""):
            self.until(m.ContainerLog, container_id)

    def directory(self, container_id: str) -> Path:
        return self.run / "containers" / container_id

    # ---- ends ----

    def kill_worker(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._reap()
        self.worker.close()

    def hang_up(self) -> None:
        """As the server's SIGKILL looks from outside."""
        self.listener.close()
        for agent in self.agents:
            agent.close()
        self.worker.close()
        os.close(self._lock)
        self._lock = -1

    def worker_ended(self) -> None:
        """Wait for it."""
        self._reap()

    def shut_down(self) -> None:
        """End the worker in order, and do the server's part of the end."""
        self.worker_ended()
        assert (self.run / "lock").exists()
        shutil.rmtree(self.run)

    def _reap(self) -> None:
        pid, self.pid = self.pid, 0
        wait_for(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, what="the worker ends")

    def close(self) -> None:
        """End what is left of it."""
        if self._lock >= 0:
            self.hang_up()
        if self.pid:
            self._reap()


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether that process runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, timeout: float = 10.0) -> None:
    wait_for(lambda: not alive(pid), timeout, f"process {pid} ends")


def now() -> float:
    return time.monotonic()
