"""Removing a directory whatever its permissions say: user code may have changed them, bundles are read-only."""

import os
import shutil
import subprocess
from pathlib import Path


def remove_tree(directory: Path) -> None:
    """Remove it and everything below; what is already gone, or another user's, is passed over."""
    try:
        shutil.rmtree(directory, onerror=_make_removable)
    except RecursionError:  # some thousand directories one in another: rm minds no depth
        command = ["/bin/rm", "-rf", "--one-file-system", "--", os.fspath(directory)]
        subprocess.run(command, check=False, capture_output=True)


def remove_run(run: Path) -> None:
    """Remove a run directory whose lock is ours: at once, since the next server may make it anew before all of it has gone."""
    gone = run.with_name(f"{run.name}.{os.getpid()}")
    try:
        run.rename(gone)
    except OSError:
        return  # somebody else was faster
    remove_tree(gone)


def _make_removable(function: object, path: str, info: object) -> None:
    try:
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        return  # what can't be removed now is swept by a later worker
