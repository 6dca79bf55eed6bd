"""The server that ``app.run()`` starts when there is none: its run directory, its process, its end."""

import errno
import fcntl
import os
import select
import shutil
import socket
import sys
import time
from pathlib import Path

from greenroom.model.errors import ConnectionError, InvalidError
from greenroom.model.ids import new_id
from greenroom.model.settings import home_directory, own_environment, settings_from_environment
from greenroom.sdk.address import Address
from greenroom.sdk.streams import open_standard_descriptors
from greenroom.wire.connection import MAX_SOCKET_PATH

LOG_LIMIT = 1024**2
"""Bytes of the servers' own log from which on a new one is begun."""
END = 60.0
"""Seconds that a server may take to end; it needs milliseconds."""


class ServerProcess:
    """An ephemeral server. It takes connections as soon as this object is made: they wait until it is up."""

    def __init__(self) -> None:
        open_standard_descriptors()
        settings_from_environment()  # a wrong setting is told here, not in a log
        home = home_directory()
        server_id = new_id("sv")
        self._run = home / "run" / server_id[3:]
        path = self._run / "server.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise InvalidError(
                f"the state directory's path is too long for a Unix socket ({len(os.fsencode(path))} bytes of at most "
                f"{MAX_SOCKET_PATH}): {path}; set GREENROOM_HOME to a shorter one"
            )
        token = new_id("tk")
        try:
            listener, lock = self._prepare(path, token)
        except OSError as error:
            shutil.rmtree(self._run, ignore_errors=True)
            full = "free some space there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            raise InvalidError(
                f"can't write the state directory {home}: {error.strerror or error}; "
                f"{full}set GREENROOM_HOME to another directory"
            ) from None
        self.address = Address(str(path), token)
        with listener:
            self._pid = self._spawn(home, server_id, listener.fileno(), lock)
        os.close(lock)
        self._pidfd = os.pidfd_open(self._pid)

    def _prepare(self, path: Path, token: str) -> tuple[socket.socket, int]:
        self._run.mkdir(mode=0o700, parents=True)
        lock = os.open(self._run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        fd = os.open(self._run / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(token)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1024)
        return listener, lock

    def _spawn(self, home: Path, server_id: str, listener: int, lock: int) -> int:
        # -P: the working directory is the user's, and may hold a queue.py.
        command = [
            sys.executable, "-P", "-m", "greenroom.server",
            "--home", str(home), "--run", str(self._run), "--id", server_id,
            "--listen", str(listener), "--lock", str(lock),
        ]  # fmt: skip
        log = home / "server.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.old"))
        os.set_inheritable(listener, True)
        os.set_inheritable(lock, True)
        try:
            return os.posix_spawn(
                sys.executable,
                command,
                own_environment(),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        finally:
            os.set_inheritable(listener, False)
            os.set_inheritable(lock, False)

    def wait(self) -> None:
        """Until it has ended, which it does once its last client has gone.

        Raises:
            ConnectionError: it doesn't.
        """
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(END * 1000):
            raise ConnectionError(
                f"the server (process {self._pid}) does not end; see server.log in {self._run.parent.parent}"
            )
        os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._clear_up()

    def _clear_up(self) -> None:
        """The server removes its run directory; killed, it leaves that to its worker; killed too early to have one, to us."""
        limit = time.monotonic() + END
        while self._run.exists():
            try:
                lock = os.open(self._run / "lock", os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                return  # somebody is at it
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > limit:
                    return
                time.sleep(0.02)
            else:
                if not any((self._run / "containers").glob("*")):
                    shutil.rmtree(self._run, ignore_errors=True)
                return
            finally:
                os.close(lock)
