"""Starting a worker: kept apart, and light, since the server does it before it imports anything."""

import os
import socket
import sys

from greenroom.model.settings import own_environment


def spawn_worker(
    home: str, run: str, lock: int, settings: dict[str, str] | None = None, *, stays: bool = False
) -> tuple[socket.socket, int]:
    """Start a worker in a session of its own; our end of the socket pair to it, and its process id.

    ``lock``: descriptor of the run directory's lock, which the worker holds too, while there is anything to clear up.
    ``settings``: environment variables beside this process's own. ``stays``: its server does; should that die, the next one
    has its containers.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.set_inheritable(True)
        fd = str(theirs.fileno())
        # -P: the working directory is the user's, and may hold a queue.py.
        command = [
            sys.executable,
            "-P",
            "-m",
            "greenroom.worker",
            "--fd",
            fd,
            "--home",
            home,
            "--run",
            run,
            "--lock",
            str(lock),
            *(["--stays"] if stays else []),
        ]
        os.set_inheritable(lock, True)
        pid = os.posix_spawn(
            sys.executable,
            command,
            {**own_environment(), **(settings or {})},
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True,
        )
        os.set_inheritable(lock, False)
    return ours, pid
