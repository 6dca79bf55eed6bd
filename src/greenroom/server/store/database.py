"""The threads that write and read the database, and what happens when its disk fails.

**Group commit.** One thread writes. It takes all the changes that wait, makes them in one transaction and commits that
once, so that a sync of the disk costs as much for a hundred callers as for one; nobody is told before it is over.

**Failure.** Once a commit has failed, nothing is known about what the disk has of the log. So all of that batch fail, and
what comes next fails at once, until the file was closed, opened again, its log moved into it whole, a commit of ours has
worked, and all of it was read. That is tried again and again, ever more rarely. Reading goes on meanwhile.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from greenroom.model.errors import NotFoundError, StoreError
from greenroom.server.store.file import check, connect, flush, hold, identity, open_database, probe, roll_back
from greenroom.server.store.file import release as release_lock

T = TypeVar("T")

FIRST_RETRY = 0.1
"""Seconds after a failed commit until the file is tried again; twice as long each time."""
LAST_RETRY = 5.0
READ_RETRY = 1.0
"""Seconds until what a server can't begin without is asked for again."""
LONGEST_QUERY = 0.2
"""Seconds that a retry waits for the query that runs; the next one waits again."""
LONGEST_WORD = 0.001
"""Seconds that the answer of a query waits for those of others."""
_OF_ONE_CHANGE = {
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_TOOBIG,
}
"""SQLite's errors that are about a statement; all others are about the file, the disk or the memory."""


class _Job(NamedTuple):
    """A change or a query, and who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    then: Callable[[Future[Any]], None]
    done: Future[Any]


class Database:
    """The database at ``path``, for one server. Opening it takes a while: do so before the loop serves anybody.

    Raises:
        StoreError: another server has it, or it can't be used.
    """

    def __init__(
        self, path: Path, loop: asyncio.AbstractEventLoop, say: Callable[[str], None] = lambda text: None
    ) -> None:
        """``say`` is called on the loop with a line when commits begin to fail, and when they work again."""
        self.path = path
        self.pending = 0
        """Changes and queries whose ``then`` hasn't been called."""
        self.problem = ""
        """Why nothing can be committed now; ``""``: it can."""
        self.commits = 0
        """Transactions committed so far."""
        self._loop = loop
        self._say = say
        self._lock = hold(path)
        try:
            self._writer = open_database(path)
            try:
                self._reader = connect(path, read_only=True)
            except sqlite3.Error as error:
                self._writer.close()
                raise StoreError(f"can't read {path}: {error}") from None
        except BaseException:
            release_lock(self._lock)
            raise
        self._file = identity(path)
        self._closed = False
        self._then_closed: Callable[[], None] | None = None
        self._changes: SimpleQueue[_Job | None] = SimpleQueue()
        self._queries: SimpleQueue[_Job | None] = SimpleQueue()
        self._reading = threading.Lock()
        """Held during a query: it would keep the log from being moved."""
        self._reads = threading.Thread(target=self._read_all, name="greenroom-store-read", daemon=True)
        self._writes = threading.Thread(target=self._write_all, name="greenroom-store", daemon=True)
        self._reads.start()
        self._writes.start()

    # ---- on the loop ----

    def write(self, change: Callable[[sqlite3.Connection], T], then: Callable[[Future[T]], None]) -> None:
        """Make ``change`` durable, after those that were asked for before; ``then`` is called on the loop.

        ``change`` runs in another thread, and may raise: then nothing of it is kept, and ``then`` gets that. A
        :class:`StoreError`: it could not be kept, and may be asked for again.
        """
        self._put(self._changes, change, then)

    def read(self, query: Callable[[sqlite3.Connection], T], then: Callable[[Future[T]], None]) -> None:
        """Ask, in another thread, for what is committed by the time; commits go on meanwhile."""
        self._put(self._queries, query, then)

    def read_at_last(
        self, query: Callable[[sqlite3.Connection], T], then: Callable[[Future[T]], None], *, said: str = ""
    ) -> None:
        """As :meth:`read`, asked again while the file can't be read: what a server can't go on without. ``said``: why, the last time."""

        def answered(done: Future[T]) -> None:
            error = done.exception()
            if not isinstance(error, StoreError) or self._closed:
                then(done)
                return
            if str(error) != said:
                self._say(f"{error}; it is tried again until it can")
            self._loop.call_later(READ_RETRY, partial(self.read_at_last, query, then, said=str(error)))

        self.read(query, answered)

    def close(self, then: Callable[[], None] = lambda: None) -> None:
        """Take nothing more; ``then`` is called once all that waits has been done and told, and the file is closed."""
        assert not self._closed, "closed twice"
        self._closed = True
        self._then_closed = then
        self._queries.put(None)
        self._changes.put(None)

    def _put(
        self,
        queue: "SimpleQueue[_Job | None]",
        work: Callable[[sqlite3.Connection], T],
        then: Callable[[Future[T]], None],
    ) -> None:
        self.pending += 1
        job = _Job(work, then, Future())
        if self._closed:
            job.done.set_exception(StoreError("the store is closed: the server is ending"))
            self._loop.call_soon(self._told, [job])
        else:
            queue.put(job)

    def _told(self, jobs: list[_Job]) -> None:
        for job in jobs:
            self.pending -= 1
            try:
                job.then(job.done)
            except Exception as error:  # noqa: BLE001 - the others are told all the same
                self._loop.call_exception_handler({"message": "told of a commit", "exception": error})

    # ---- in the threads ----

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            if not self._loop.is_closed():  # else nobody is left to be told
                raise

    def _write_all(self) -> None:
        delay, due = FIRST_RETRY, 0.0
        more = True
        while more:
            batch, more = _waiting(self._changes, due - time.monotonic() if self.problem else None)
            if self.problem and time.monotonic() >= due and not self._recovered():
                delay = min(delay * 2, LAST_RETRY)
                due = time.monotonic() + delay
            if not batch:
                continue
            if not self.problem:
                self._commit(batch)
                if self.problem:
                    delay = FIRST_RETRY
                    due = time.monotonic() + delay
            else:
                _refuse(batch, self.problem)
            self._tell(self._told, batch)
        self._reads.join()
        self._reader.close()
        with suppress(sqlite3.Error):  # what is committed is in the log, at least
            self._writer.close()
        release_lock(self._lock)
        if self._then_closed is not None:
            self._tell(self._then_closed)

    def _commit(self, batch: list[_Job]) -> None:
        """All of ``batch`` in one transaction; on failure none of it, and a problem."""
        results: list[tuple[Any, Exception | None]] = []
        try:
            self._check_place()
            self._writer.execute("BEGIN IMMEDIATE")
            results = [self._change(job) for job in batch]
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            roll_back(self._writer)
            self.problem = f"{self.path} can't be written: {error}"
            self._tell(self._say, f"{self.problem}; what must be kept is refused until it can")
            _refuse(batch, self.problem)
            return
        self.commits += 1
        for job, (value, raised) in zip(batch, results, strict=True):
            if raised is None:
                job.done.set_result(value)
            else:
                job.done.set_exception(raised)

    def _check_place(self) -> None:
        """Raise ``sqlite3.Error`` where the next server would not find what is committed."""
        if identity(self.path) != self._file:
            raise sqlite3.OperationalError("it was moved or removed while the server runs: put it back")

    def _change(self, job: _Job) -> tuple[Any, Exception | None]:
        """One change, whole or not at all; raises ``sqlite3.Error`` where the whole transaction is lost."""
        self._writer.execute("SAVEPOINT change")
        try:
            value, raised = job.work(self._writer), None
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not _is_of_one_change(error):
                raise
            value, raised = None, error
            self._writer.execute("ROLLBACK TO change")  # fails where SQLite has rolled back all of it
        self._writer.execute("RELEASE change")
        return value, raised

    def _recovered(self) -> bool:
        """Whether the file works again, opened anew; see the module's text."""
        if not self._reading.acquire(timeout=LONGEST_QUERY):
            return False
        try:
            self._check_place()
            # Where it works, the log of the failed commit is gone before anybody could take it for a good one.
            with suppress(sqlite3.Error):
                flush(self._writer)
            self._writer.close()
            self._writer = connect(self.path)
            flush(self._writer)
        except sqlite3.Error as error:
            self.problem = f"{self.path} can't be written: {error}"
            return False
        finally:
            self._reading.release()
        try:
            probe(self._writer)
            check(self._writer)
        except sqlite3.Error as error:
            self.problem = f"{self.path} can't be written: {error}"
            return False
        self.problem = ""
        self._tell(self._say, f"{self.path} can be written again")
        return True

    def _read_all(self) -> None:
        """All the queries that wait see one moment; those who asked are told together, unless that takes long."""
        more = True
        while more:
            batch, more = _waiting(self._queries)
            with self._reading:
                told, since = 0, time.monotonic()
                for number, job in enumerate(batch, 1):
                    self._answer(job)
                    if time.monotonic() - since > LONGEST_WORD or number == len(batch):
                        self._tell(self._told, batch[told:number])
                        told, since = number, time.monotonic()
                roll_back(self._reader)

    def _answer(self, job: _Job) -> None:
        try:
            if not self._reader.in_transaction:
                self._reader.execute("BEGIN")
            job.done.set_result(job.work(self._reader))
        except sqlite3.Error as error:
            job.done.set_exception(StoreError(f"{self.path} can't be read: {error}"))
            roll_back(self._reader)
        except UnicodeEncodeError as error:  # half a character, in a name that somebody asks for
            job.done.set_exception(NotFoundError(f"{error.object!r:.100} is no text, and names nothing"))
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            job.done.set_exception(error)


def _waiting(jobs: "SimpleQueue[_Job | None]", timeout: float | None = None) -> tuple[list[_Job], bool]:
    """All that wait, at least one unless ``timeout`` seconds pass; whether more may come."""
    batch: list[_Job] = []
    with suppress(Empty):
        job = jobs.get(timeout=None if timeout is None else max(timeout, 0.0))
        while job is not None:
            batch.append(job)
            job = jobs.get_nowait()
        return batch, False
    return batch, True


def _refuse(batch: list[_Job], reason: str) -> None:
    for job in batch:
        job.done.set_exception(StoreError(reason))


def _is_of_one_change(error: sqlite3.Error) -> bool:
    """Python's own errors, such as one about the number of parameters, have no code."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _OF_ONE_CHANGE
