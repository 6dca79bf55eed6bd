"""``python -m greenroom.cli.serving FD``: one version of a program that ``greenroom serve`` serves.

It is told what to serve by a line of JSON, says ``{"app_id": …}`` once it answers requests, and ends when it is told to, or
when whoever tells it has gone.
"""

import contextlib
import json
import queue
import signal
import socket
import sys
import threading
from typing import Any, TextIO

import click

from greenroom.cli.failure import show_failure
from greenroom.cli.load import find_whole_app, import_target
from greenroom.cli.misuse import Misuse
from greenroom.model.errors import Error as GreenroomError
from greenroom.sdk.address import Address, configure
from greenroom.sdk.app import App
from greenroom.sdk.bundle import collect_files
from greenroom.sdk.output import use_sink
from greenroom.sdk.session import kill_current
from greenroom.wire.far import Far


class _Orders:
    """What it is told, heard by a thread of its own: until it serves, the main thread is the program's."""

    def __init__(self, reader: TextIO) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._interrupting = {"end", "superseded"}
        """Those that interrupt the main thread, once; it asks for the others by itself."""
        self._end: queue.SimpleQueue[float] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="greenroom-serving", daemon=True).start()

    def let_nothing_interrupt(self, *, but: str = "") -> None:
        """From now on."""
        with self._lock:
            self._interrupting &= {but}

    def wait(self) -> float:
        """Until it is told to end; the seconds that running requests may take."""
        return self._end.get()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # whoever tells it has gone
            for line in self._reader:
                self._take(json.loads(line))
        self._take({"end": 0.0})

    def _take(self, order: dict[str, Any]) -> None:
        if "kill" in order:
            with contextlib.suppress(GreenroomError, OSError):  # it has ended by itself
                kill_current()
            return
        if "end" in order:
            self._end.put(order["end"])
        with self._lock:
            if self._interrupting & set(order):
                self._interrupting.clear()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def main(fd: int) -> int:
    """Serve until told to end; the exit status."""
    channel = socket.socket(fileno=fd)
    reader, writer = (
        channel.makefile("r"),
        channel.makefile("w"),
    )  # one for both forgets what it has read when it writes
    told = json.loads(reader.readline())
    listens, token, role, far = told["address"]
    configure(Address(listens, token, role, Far(*far) if far is not None else None))
    path, _, name = told["target"].partition("::")
    sys.argv = [path]
    from greenroom.sdk.display import make_display

    orders = _Orders(reader)
    app: App | None = None
    with use_sink(make_display(quiet=False, timestamps=told["timestamps"], live=False)):
        try:
            app = find_whole_app(import_target(path, told["as_module"]), name, path)
            _say(writer, {"files": _files()})
            orders.let_nothing_interrupt(but="end")  # requests may be its own at any time
            app.start(replaces=told["replaces"])
            orders.let_nothing_interrupt()
        except Misuse as error:
            click.echo(f"greenroom: {error}", err=True)
            return 2
        except KeyboardInterrupt:
            if app is not None:
                app.stop()
            return 130
        except Exception as error:  # noqa: BLE001 - whatever the program raises
            show_failure(error)
            _say(writer, {"files": _files()})
            return 1
        _say(writer, {"app_id": app.app_id})
        drain = orders.wait()
        app.stop(said=not drain, drain=drain)
    return 0


def _files() -> list[str]:
    return sorted(collect_files("").values())


def _say(writer: TextIO, what: dict[str, Any]) -> None:
    print(json.dumps(what), file=writer, flush=True)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
