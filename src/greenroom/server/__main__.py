"""``python -m greenroom.server``: what a client starts when there is no server, and what ``greenroom server`` becomes.

The worker is started first of all, so that it comes up beside this process rather than after it.
"""

import argparse
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl import SSLContext

    from greenroom.server.core import Server
    from greenroom.server.store.database import Database


GARBAGE = 10_000
"""Objects after which Python looks for cyclic garbage among them, instead of 700: calls that wait for the disk, or for their
containers, are many more than that and no garbage."""


def _open_store(server: "Server") -> "Database":
    from greenroom.model.errors import StoreError
    from greenroom.server.store.database import Database
    from greenroom.server.store.file import NAME

    try:
        return Database(server.home / NAME, server.loop, server.log)
    except StoreError as error:
        server.log(str(error))
        os._exit(1)  # its worker ends with it


def _certificate(server: "Server", certificate: str, key: str) -> "tuple[SSLContext, str]":
    """What programs on other machines are shown, and its fingerprint."""
    from greenroom.model.errors import InvalidError
    from greenroom.server.certificate import load, own

    try:
        return load(Path(certificate) if certificate else own(server.home), Path(key) if key else None)
    except (InvalidError, OSError) as error:
        server.log(str(error))
        os._exit(1)  # its worker ends with it


def _open_to_others(server: "Server", listener: socket.socket, shown: "tuple[SSLContext, str]") -> None:
    from greenroom.server.remote import Remote
    from greenroom.wire.far import Far

    host, port = listener.getsockname()[:2]
    server.remote = Remote(server, listener, shown[0])
    server.log(f"listens at {Far(host, port)} for programs with a client token; its certificate is {shown[1]}")


def _ready(server: "Server", listener: socket.socket) -> None:
    from greenroom.model import standing

    server.serve(listener, ephemeral=False)
    standing.publish(server.home, standing.Standing(server.socket_path, server.token, os.getpid()))
    server.log(f"ready; `greenroom deploy` and `greenroom run` of this user find it (process {os.getpid()})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="greenroom.server")
    parser.add_argument("--home", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--listen", type=int, required=True, metavar="FD")
    parser.add_argument("--lock", type=int, required=True, metavar="FD")
    parser.add_argument("--stay", type=int, default=-1, metavar="FD", help="the lock of the server that stays")
    parser.add_argument("--remote", type=int, default=-1, metavar="FD", help="for programs on other machines")
    parser.add_argument("--tls-cert", default="", metavar="FILE")
    parser.add_argument("--tls-key", default="", metavar="FILE")
    options = parser.parse_args()
    for number in (options.lock, options.listen, options.stay, options.remote):
        if number >= 0:
            os.set_inheritable(number, False)
    return options


def main() -> int:
    """Run one server until a signal ends it; or, unless it is to stay, until its last client has gone."""
    options = _options()
    home, stays = Path(options.home), options.stay >= 0

    # Whoever started us may have ignored it, which is inherited: then no child could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    from greenroom.server.spawn import spawn_worker

    worker = spawn_worker(options.home, options.run, options.lock, stays=stays)

    import asyncio

    from greenroom.wire.descriptors import allow_many

    allow_many()
    from greenroom.model import standing
    from greenroom.model.settings import settings_from_environment
    from greenroom.server.core import Server
    from greenroom.server.machine import this_machine

    machine = this_machine()
    gc.freeze()  # what was imported stays
    gc.set_threshold(GARBAGE)

    async def serve() -> None:
        server = Server(
            home=home,
            run=Path(options.run),
            server_id=options.id,
            token=(Path(options.run) / "token").read_text(),
            settings=settings_from_environment(),
            machine=machine,
            lock=options.lock,
        )
        store = _open_store(server) if stays else None
        listener = socket.socket(fileno=options.listen)
        shown = _certificate(server, options.tls_cert, options.tls_key) if options.remote >= 0 else None

        def ready() -> None:
            if shown is not None:
                _open_to_others(server, socket.socket(fileno=options.remote), shown)
            _ready(server, listener)

        server.install_signals()
        server.use_worker(*worker)
        if store is None:
            server.serve(listener, ephemeral=True)
        else:  # nobody is heard before it is known whom the last server had
            server.use_store(store, ready)
        await server.finished
        if stays:
            standing.withdraw(home)

    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())
    # Everything is released; what is left of the interpreter need not be taken apart piece by piece.
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
