"""Clearing up after others: servers and workers that died without a word."""

import fcntl
import os
import time
from pathlib import Path

from greenroom.worker.bundle import remove_abandoned, remove_unused
from greenroom.worker.processes import RUN, kill, marked_processes
from greenroom.worker.removal import remove_tree

BEING_MADE = 60.0
"""Seconds that a run directory may be incomplete, since its server may be about to start."""


def sweep(home: Path, patience: float) -> list[str]:
    """Remove what servers that no longer live have left under ``home``; the names of the runs that were removed.

    A live server holds a lock on its run directory's ``lock``. The containers of one that died run their exit hooks now:
    they have ``patience`` seconds from when a sweep first finds them, then the next sweep kills them. Only processes marked
    as that run's are touched.
    """
    remove_abandoned(home / "code")
    remove_unused(home / "code")
    return [run.name for run in (home / "run").glob("*") if _sweep_run(run, patience)]


def _sweep_run(run: Path, patience: float) -> bool:
    try:
        lock = os.open(run / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return _age(run) > BEING_MADE and _remove(run)
    except OSError:
        return False  # another user's; not ours to judge
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who makes a run directory takes the lock before anything else is put there.
        if not (run / "token").exists() and _age(run) < BEING_MADE:
            return False
        if left := marked_processes({RUN: str(run)}):
            found = run / "stale"
            if not found.exists():
                found.touch()
            if _age(found) < patience:
                return False
            for pid in left:
                kill(pid)
        return _remove(run)
    except BlockingIOError:
        return False  # its server lives
    finally:
        os.close(lock)


def _age(path: Path) -> float:
    """Seconds since it was last written to; 0 when it has gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(run: Path) -> bool:
    remove_tree(run)
    return True
