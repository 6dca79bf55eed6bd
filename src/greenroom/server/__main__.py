"""``python -m greenroom.server``: what a client starts when there is no server.

The worker is started first of all, so that it comes up beside this process rather than after it.
"""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path


def main() -> int:
    """Run one server until its last client has gone, or a signal ends it."""
    parser = argparse.ArgumentParser(prog="greenroom.server")
    parser.add_argument("--home", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--listen", type=int, required=True, metavar="FD")
    parser.add_argument("--lock", type=int, required=True, metavar="FD")
    options = parser.parse_args()

    # Whoever started us may have ignored it, which is inherited: then no child could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    from greenroom.server.spawn import spawn_worker

    os.set_inheritable(options.lock, False)
    os.set_inheritable(options.listen, False)
    worker = spawn_worker(options.home, options.run, options.lock)

    import asyncio

    from greenroom.wire.descriptors import allow_many

    allow_many()
    from greenroom.model.settings import settings_from_environment
    from greenroom.server.core import Server
    from greenroom.server.machine import this_machine

    machine = this_machine()

    async def serve() -> None:
        server = Server(
            home=Path(options.home),
            run=Path(options.run),
            server_id=options.id,
            token=(Path(options.run) / "token").read_text(),
            settings=settings_from_environment(),
            machine=machine,
            lock=options.lock,
        )
        server.install_signals()
        server.use_worker(*worker)
        server.serve(socket.socket(fileno=options.listen), ephemeral=True)
        await server.finished

    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())
    # Everything is released; what is left of the interpreter need not be taken apart piece by piece.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
