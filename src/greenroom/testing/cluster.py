"""The cluster: see the package."""

import asyncio
import atexit
import contextlib
import fcntl
import functools
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from greenroom.model.errors import InvalidError
from greenroom.model.ids import new_id
from greenroom.model.settings import Settings
from greenroom.sdk.address import Address, configure, configured
from greenroom.server.core import Server
from greenroom.server.machine import this_machine
from greenroom.server.spawn import spawn_worker
from greenroom.server.store.database import Database
from greenroom.server.store.file import NAME
from greenroom.testing.clock import HeldClock
from greenroom.worker.removal import remove_tree

T = TypeVar("T")


@functools.cache
def _kept(maker: int, sandbox: str) -> Path:
    """Where programs' files stay that a cluster has unpacked and compiled: the next one's program is mostly the same.

    Args:
        maker: the process; one that it forks, which may be another user's, has its own.
        sandbox: as in the settings: root's plain processes can write what is read-only in a container.
    """
    directory = Path(tempfile.mkdtemp(prefix="gr-code-"))
    atexit.register(lambda: remove_tree(directory) if os.getpid() == maker else None)
    return directory


class Cluster:
    """A server in a thread of this process, and a worker; ``app.run()`` uses it while it is entered.

    Args:
        hold: the server's clock stands still until ``clock.advance(seconds)``.
        settings: as ``GREENROOM_*`` would set them.
        home: a state directory that stays, with the images that have been built in it; else one of its own. Its path must
            be short: a socket's has at most 107 bytes.
    """

    def __init__(self, *, hold: bool = False, settings: Settings | None = None, home: Path | None = None) -> None:
        self.settings = settings or Settings()
        self._stays = home is not None
        self.home = home or Path(tempfile.mkdtemp(prefix="gr-"))
        self.run = self.home / "run" / new_id("test")
        self.clock = HeldClock()
        self._machine = this_machine()
        self._hold = hold
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._before: Address | None = None
        self._asking = threading.Lock()
        self._asked: set[Future[Any]] = set()
        """What waits for an answer from the server's thread."""
        self._over = False
        """Its loop has ended, and answers nothing any more."""
        self._thread = threading.Thread(target=self._main, name="greenroom-cluster", daemon=True)

    def __enter__(self) -> "Cluster":
        self.run.mkdir(parents=True, mode=0o700)
        if not self._stays:
            (self.home / "code").mkdir()
            for found in _kept(os.getpid(), self.settings.sandbox).iterdir():
                (self.home / "code" / found.name).symlink_to(found)
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            self._clear()
            raise self._failed
        assert self._server is not None
        self._before = configured()
        configure(Address(self._server.socket_path, self._server.token))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        configure(self._before)
        with contextlib.suppress(InvalidError):  # it was told to end before
            self.on_server(lambda server: server.shut_down("the test is over"))
        self._thread.join()
        self._clear()

    def _clear(self) -> None:
        if not self._stays:
            self._keep_code()
        remove_tree(self.run if self._stays else self.home)

    def _keep_code(self) -> None:
        """Archives and what was compiled; not what images copy or bind (``.files``), nor anything half-made."""
        kept = _kept(os.getpid(), self.settings.sandbox)
        for made in (self.home / "code").glob("[0-9a-f]*"):
            if made.is_symlink() or made.suffix not in ("", ".tar"):
                continue
            with contextlib.suppress(OSError):  # another cluster was faster
                mode = made.stat().st_mode
                made.chmod(mode | 0o200)  # or its owner can't move a directory
                made.rename(kept / made.name)
                (kept / made.name).chmod(mode)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            with self._asking:
                self._over = True
            for answer in list(self._asked):
                answer.cancel()

    async def _serve(self) -> None:
        lock = -1
        try:
            lock = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._loop = asyncio.get_running_loop()
            self.clock.attach(self._loop)
            server = self._server = Server(
                home=self.home,
                run=self.run,
                server_id="sv-test",
                token=new_id("tk"),
                settings=self.settings,
                machine=self._machine,
                lock=lock,
                clock=self.clock if self._hold else None,
            )
            # Its own: several clusters may share a home, for its images.
            opening = functools.partial(Database, self.run / NAME, self._loop, server.log)
            store = await self._loop.run_in_executor(None, opening)
            server.use_worker(*spawn_worker(str(self.home), str(self.run), lock, self.settings.environment()))
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(server.socket_path)
            listener.listen(1024)
            server.serve(listener, ephemeral=False)
            restored: asyncio.Future[None] = self._loop.create_future()
            server.use_store(store, lambda: restored.set_result(None))
            await restored
        except BaseException as error:  # noqa: BLE001 - raised where the cluster is entered
            self._failed = error
            return
        finally:
            self._ready.set()
        await server.finished
        os.close(lock)

    def on_server(self, what: Callable[[Server], T]) -> T:
        """Do something on the server's own thread; its result, or what it raised.

        Raises:
            InvalidError: the cluster isn't entered, or its end has come.
        """
        loop, server = self._loop, self._server
        if loop is None or server is None:
            raise InvalidError("the cluster isn't up: use it inside `with Cluster() as cluster:`")
        answer: Future[T] = Future()

        def go() -> None:
            try:
                answer.set_result(what(server))
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                answer.set_exception(error)

        try:
            with self._asking:
                if self._over:
                    raise CancelledError
                self._asked.add(answer)
                loop.call_soon_threadsafe(go)  # RuntimeError: it was closed this very moment
            return answer.result()
        except (CancelledError, RuntimeError):
            if answer.done() and not answer.cancelled():
                raise  # what was done on the server raised it
            raise InvalidError("the cluster has ended: use it inside its `with` block") from None
        finally:
            self._asked.discard(answer)

    def containers(self) -> list[dict[str, Any]]:
        """Records of the containers that live."""
        return self.on_server(
            lambda server: [c.record(server.id) for c in server.lifecycle.containers.by_id.values() if c.live]
        )

    def ended(self) -> list[dict[str, Any]]:
        """Records of those that have ended, oldest first."""
        import json

        self.wait_until(lambda: not self.on_server(lambda server: server.disk.pending))
        records = [json.loads(file.read_text()) for file in (self.home / "containers").glob("*.json")]
        return sorted(records, key=lambda record: record["created_at"])

    def wait_until(self, condition: Callable[[], T], timeout: float = 30.0) -> T:
        """Until ``condition()`` is true; its value. Raises AssertionError after ``timeout`` real seconds."""
        limit = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > limit:
                raise AssertionError(f"not so within {timeout:g} s; containers: {self.containers()}")
            time.sleep(0.005)
        return value
