"""``python -m greenroom.worker``: what a server starts beside itself."""

import argparse
import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from greenroom.model.settings import settings_from_environment
from greenroom.wire.descriptors import allow_many
from greenroom.worker.worker import Worker


def main() -> None:
    """Work until the server says so, or has gone."""
    parser = argparse.ArgumentParser(prog="greenroom.worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--lock", type=int, required=True, help="held, so that nobody else clears up while we live")
    parser.add_argument("--stays", action="store_true", help="when the server dies, the next one has the containers")
    options = parser.parse_args()
    os.set_inheritable(options.lock, False)
    os.chdir("/")  # the client's directory may go, and must not be kept from going
    allow_many()
    # The server ends us, by a word or by closing the socket: not a signal meant for it. (Ignored by a handler, which,
    # unlike SIG_IGN, containers don't inherit.)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: None)
    # Whoever started the server may have ignored it, which is inherited; then nothing could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    async def work() -> None:
        sock = socket.socket(fileno=options.fd)
        sock.set_inheritable(False)
        lock = options.lock if options.stays else -1
        await Worker(sock, options.home, options.run, settings_from_environment(), lock).finished
        # Everything is released; threads that still sweep need not be waited for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    asyncio.run(work())


if __name__ == "__main__":
    main()
