"""Clearing up after others: servers and workers that died without a word."""

import fcntl
import os
import time
from pathlib import Path

from greenroom.worker.bundle import remove_abandoned, remove_unused
from greenroom.worker.cgroups import LeftGroups, Unavailable, group_name, home_mark, read_layout, runs_with_groups
from greenroom.worker.processes import RUN, kill, marked_processes
from greenroom.worker.removal import remove_run

LOGS = 500
"""Ended containers whose output is kept."""
LOGS_ROOM = 256 * 1024**2
"""Bytes of disk that it takes at the most."""
BEING_MADE = 60.0
"""Seconds that a run directory may be incomplete, since its server may be about to start."""


def sweep(home: Path, patience: float) -> list[str]:
    """Remove what servers that no longer live have left under ``home``; the names of the runs that were removed.

    A live server holds a lock on its run directory's ``lock``. The containers of one that died run their exit hooks now:
    they have ``patience`` seconds from when a sweep first finds them, then the next sweep kills them. Only processes marked
    as that run's, or in its control groups, are touched.
    """
    remove_abandoned(home / "code")
    remove_unused(home / "code")
    drop_old_logs(home / "logs")
    removed = [run.name for run in (home / "run").glob("*") if _Leftover(home, run).clear(patience)]
    _remove_groups_without_run(home)
    return removed


def drop_old_logs(logs: Path, most: int = LOGS, room: int = LOGS_ROOM) -> None:
    """Keep what the latest containers printed: ``most`` files at the most, which take ``room`` bytes of disk at the most."""
    found = [(path.stat(), path) for path in logs.glob("*.log")]
    for number, (stat, path) in enumerate(sorted(found, key=lambda pair: -pair[0].st_mtime)):
        room -= stat.st_blocks * 512
        if number >= most or room < 0:
            path.unlink(missing_ok=True)


class _Leftover:
    """A run directory that may be one."""

    def __init__(self, home: Path, run: Path) -> None:
        self._run = run
        self._groups: LeftGroups | None = None
        try:
            self._groups = LeftGroups(read_layout(Path("/proc/self/mountinfo").read_text()), group_name(home, run))
        except Unavailable:
            pass  # then it has none

    def clear(self, patience: float) -> bool:
        """Whether it was one and is gone."""
        run = self._run
        try:
            lock = os.open(run / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return _age(run) > BEING_MADE and self._remove()
        except OSError:
            return False  # another user's; not ours to judge
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock), os.stat(run / "lock")):
                return False  # another one took it away, and the next server has made it anew
            # Who makes a run directory takes the lock before anything else is put there.
            if not (run / "token").exists() and _age(run) < BEING_MADE:
                return False
            if left := self._processes():
                found = run / "stale"
                if not found.exists():
                    found.touch()
                if _age(found) < patience:
                    return False
                for pid in left:
                    kill(pid)
            elif any(_age(ledger) < patience for ledger in [*run.glob("ended/*"), *run.glob("containers/*/ledger")]):
                return False  # its next server may be on its way, and has to know of these
            return self._remove()
        except (BlockingIOError, FileNotFoundError):
            return False  # its server lives, or it has gone
        finally:
            os.close(lock)

    def _processes(self) -> list[int]:
        return [*marked_processes({RUN: str(self._run)}), *(self._groups.processes() if self._groups else [])]

    def _remove(self) -> bool:
        if self._groups is not None:
            self._groups.remove()
        remove_run(self._run)
        return True


def _remove_groups_without_run(home: Path) -> None:
    """Empty groups of runs whose directory somebody has removed, or the whole home."""
    try:
        layout = read_layout(Path("/proc/self/mountinfo").read_text())
    except Unavailable:
        return
    mark = home_mark(home)
    for name in runs_with_groups(layout):
        owner, _, run = name.partition("-")
        groups = LeftGroups(layout, name)
        if owner == mark and not (home / "run" / run).exists() and not groups.processes():
            groups.remove()
        elif owner != mark and groups.are_nobodys():
            groups.remove_empty()


def _age(path: Path) -> float:
    """Seconds since it was last written to; 0 when it has gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
