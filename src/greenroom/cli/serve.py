"""``greenroom serve``: a program's web endpoints, until Ctrl-C; each saved edit is the next version.

Every version is imported in a process of its own (``serving.py``). This one keeps the server up, watches the files, and
says who begins and who ends.
"""

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from greenroom.cli.misuse import Misuse
from greenroom.cli.namespace import namespace_option
from greenroom.cli.sandboxes import choose_sandbox, sandbox_options
from greenroom.cli.signals import Signals
from greenroom.model.settings import own_environment
from greenroom.sdk import session as sessions
from greenroom.sdk.address import address
from greenroom.sdk.streams import warn


@click.command()
@click.option("--no-reload", is_flag=True, help="Serve the files as they are now, whatever is saved.")
@click.option("--timestamps", is_flag=True, help="Begin lines of containers with the time.")
@click.option("-m", "as_module", is_flag=True, help="TARGET is a module, such as pkg.mod.")
@sandbox_options
@namespace_option
@click.argument("target", metavar="TARGET", type=click.Path())
@click.pass_context
def serve(
    ctx: click.Context, no_reload: bool, timestamps: bool, as_module: bool, sandbox: str, runtime: str, target: str
) -> None:
    """Serve a program's web endpoints until Ctrl-C: TARGET is FILE.py or
    pkg.mod, with ::app where it has several. A saved edit is served as soon as
    it can be, without a failed request; one that can't be leaves the version
    before.

    Exit status: 0; 1 nothing could be served; 2 misuse; 130 Ctrl-C.
    """
    path = target.partition("::")[0]
    if not as_module and (path.endswith(".py") or os.sep in path) and not os.path.isfile(path):
        raise Misuse(f"there is no file {path}")  # no edit makes one of a mistyped name
    choose_sandbox(ctx, sandbox, runtime)
    os.environ.setdefault("GREENROOM_WEB_LOG", "20")
    options = {"target": target, "as_module": as_module, "timestamps": timestamps}
    session = sessions.open_session()
    versions = _Versions(options, reload=not no_reload)
    with Signals(versions.kill) as signals:
        try:
            status = versions.serve()
        except KeyboardInterrupt:
            status = signals.status or 130
        finally:
            signals.program_ended()
            versions.stop()
            sessions.close_session(session)
    ctx.exit(status)


class _Version:
    """A process that serves the program as it was when it began."""

    def __init__(self, options: dict[str, Any], replaces: str, said: "Said", watched: threading.Event) -> None:
        ours, theirs = socket.socketpair()
        told = {**options, "replaces": replaces, "address": address()}
        self._reader, self._writer = ours.makefile("r"), ours.makefile("w")
        ours.close()
        command = [sys.executable, "-m", "greenroom.cli.serving", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, env=own_environment(), pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()
        self.app_id = ""
        """Once it serves."""
        self.imported = False
        watched.wait()  # what is saved from its import on is noticed
        self._tell(told)
        threading.Thread(target=self._listen, args=(said,), name="greenroom-version", daemon=True).start()

    def _listen(self, said: "Said") -> None:
        for line in self._reader:
            said.put((self, json.loads(line)))
        said.put((self, {"ended": self._process.wait()}))

    def _tell(self, what: dict[str, Any]) -> None:
        try:
            print(json.dumps(what), file=self._writer, flush=True)
        except OSError:
            pass  # it has ended by itself

    def stop(self, drain: float) -> None:
        """Let it end: what runs may go on for so long (s), then exit hooks."""
        self._tell({"end": drain})

    def supersede(self) -> None:
        """There is a newer one: it is given up, while it is imported; later it may have requests to answer."""
        self._tell({"superseded": True})

    def kill(self) -> None:
        """Its containers end without exit hooks; a program that can't be interrupted ends too."""
        self._tell({"kill": True})
        if not self.app_id:
            self._process.kill()

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()


Said = queue.Queue[tuple[_Version | None, dict[str, Any]]]
"""Who said what; None: files were saved."""
LOOK = 100
"""Milliseconds in which a change is waited for, until it is said that there is none."""
DRAIN = 10.0
"""Seconds that requests of the version before may take to finish."""


class _Versions:
    """All of one ``serve``."""

    def __init__(self, options: dict[str, Any], *, reload: bool) -> None:
        self._options = options
        self._reload = reload
        self._said: Said = queue.Queue()
        self._alive: list[_Version] = []
        self._serving: _Version | None = None
        self._coming: _Version | None = None
        self._changed = False
        self._broken = False
        """The files as they were last couldn't be served."""
        path = options["target"].partition("::")[0]
        self._files = {os.path.abspath(path)}
        """What they are made of, as far as is known."""
        self._unjudged: set[str] = set()
        """Saved while the version that is imported hasn't said whether it is made of them."""
        self._here = Path(path).absolute().parent if os.path.isfile(path) else Path.cwd()
        self._stop = threading.Event()
        self._watched = threading.Event()
        """Files are, if they are at all."""

    def serve(self) -> int:
        """Until interrupted; the exit status."""
        if self._reload:
            threading.Thread(target=self._watch, name="greenroom-watch", daemon=True).start()
        else:
            self._watched.set()
        self._begin()
        while True:
            version, what = self._said.get()
            if version is None:
                self._saved(set(what["saved"]))
            elif (status := self._heard(version, what)) is not None:
                return status

    def stop(self) -> None:
        """Until all have ended in order."""
        self._stop.set()
        for version in self._alive:
            version.stop(0.0)
        for version in self._alive:
            version.wait()

    def kill(self) -> None:
        """All containers end without exit hooks; from any thread."""
        for version in list(self._alive):
            version.kill()

    def _saved(self, names: set[str]) -> None:
        if self._coming is not None and not self._coming.imported:
            self._unjudged |= names
        # What isn't imported changes nothing; while the program can't be imported, nobody knows what that would be.
        self._changes(name for name in names if name in self._files or (self._broken and name.endswith(".py")))

    def _changes(self, names: Iterable[str]) -> None:
        if changed := sorted(names):
            warn(f"• {os.path.relpath(changed[0], self._here)} was saved")
            self._changed = True
            if self._coming is not None:
                self._coming.supersede()
            self._begin()

    def _begin(self) -> None:
        """Import the files as they are now, unless an earlier version is still under way."""
        if self._coming is None:
            self._changed = False
            self._unjudged.clear()
            before = self._serving.app_id if self._serving is not None else ""
            self._coming = _Version(self._options, before, self._said, self._watched)
            self._alive.append(self._coming)

    def _heard(self, version: _Version, what: dict[str, Any]) -> int | None:
        if "files" in what:
            version.imported = True
            self._files.update(what["files"])
            unjudged, self._unjudged = self._unjudged, set()
            self._changes(unjudged & self._files)
        if "app_id" in what:
            version.app_id = what["app_id"]
            before, self._serving, self._coming = self._serving, version, None
            self._broken = False
            if before is not None:
                before.stop(DRAIN)
        if "ended" in what:
            self._alive.remove(version)
            if version is self._serving:
                return int(what["ended"]) or 1
            if version is self._coming:
                self._coming = None
                if self._serving is None and not self._reload:
                    return int(what["ended"]) or 1
                if not self._changed:
                    self._broken = True
                    warn(_STAYS if self._serving is not None else _WAITS)
        if self._changed:
            self._begin()
        return None

    def _watch(self) -> None:
        from watchfiles import watch

        told = watch(self._here, stop_event=self._stop, raise_interrupt=False, yield_on_timeout=True, rust_timeout=LOOK)
        try:
            for changes in told:
                self._watched.set()  # by the first time that nothing has changed
                if changes:
                    self._said.put((None, {"saved": [name for _, name in changes]}))
        except OSError as error:
            warn(f"! edits aren't noticed: {error}")
        finally:
            self._watched.set()


_STAYS = "the version before it goes on"
_WAITS = "waiting for the next edit"
