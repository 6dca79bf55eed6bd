"""The display of a running app: quiet and live on a terminal, plain lines elsewhere.

On a terminal, a block of status stands below what is printed: what is being created, which containers there are, a bar
for each ``.map``, and lines that containers have begun and not ended. It is drawn when something has changed, at most
ten times a second; a spinner turns only while containers start or end. Elsewhere there are no control codes, one line an
event, each written at once: what containers print on stdout, what we have to say on stderr.

rich draws the block. What is printed goes past it (see ``screen.py``): rich would take 30 µs a line in the client, beside
the data path, hold back the program's prompts until their line ends, and wrap what it prints.
"""

import os
import sys
import threading
import time
from typing import TextIO

from greenroom.sdk.builds import Builds, Said
from greenroom.sdk.lines import PARTIAL, LineAssembler
from greenroom.sdk.output import OutputSink
from greenroom.sdk.screen import Screen
from greenroom.sdk.status import Painter, Status
from greenroom.sdk.streams import is_terminal, writable

INTERVAL = 0.1
"""Seconds between two drawings of the block."""


def make_display(*, quiet: bool, timestamps: bool, live: bool = True) -> OutputSink:
    """The display that fits stdout: live on a terminal, lines elsewhere; ``live``: False leaves it at lines."""
    out, err = writable(sys.stdout), writable(sys.stderr)
    live = live and not quiet and is_terminal(out) and os.environ.get("TERM") != "dumb"
    return Display(out, err, live=live, quiet=quiet, timestamps=timestamps)


class Display:
    """See ``OutputSink``. One lock, shared with the screen; one thread, asleep while there is nothing to draw."""

    def __init__(self, out: TextIO, err: TextIO, *, live: bool, quiet: bool, timestamps: bool) -> None:
        self._screen = Screen(out, live=live, block=self._block, wake=self._touch)
        self._changed = threading.Condition(self._screen.lock)
        self._err = err
        self._live = live
        self._quiet = quiet
        self._timestamps = timestamps
        self._unicode = (getattr(out, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
        self._colour = live and not os.environ.get("NO_COLOR")
        self._assembler = LineAssembler()
        self._builds = Builds()
        self._build_lines = LineAssembler()
        self._spoken: set[str] = set()
        self._names: dict[str, str] = {}
        self._status = Status()
        self._painter: Painter | None = None
        self._dirty = False
        self._drawn_at = 0.0
        self._sleeping_until = 0.0
        self._closed = False
        self._screen.take_over()
        self._thread = threading.Thread(target=self._tend, name="greenroom-display", daemon=True)
        self._thread.start()

    # ---- events ----

    def app_creating(self, name: str) -> None:
        """See ``OutputSink``."""
        with self._changed:
            self._builds = Builds()  # of one that was broken off, nobody says the end
            self._status.building = []
        self._set_status(f"creating {name}", busy=True)

    def app_ready(self, name: str) -> None:
        """See ``OutputSink``."""
        self._set_status(name, busy=False)
        if not self._live:
            self._say("✓", f"{name} is ready")

    def app_stopping(self) -> None:
        """See ``OutputSink``."""
        self._set_status("stopping: exit hooks run", busy=True)

    def app_stopped(self) -> None:
        """See ``OutputSink``."""
        with self._changed:
            for container_id in self._assembler.open():
                self._print(container_id, self._assembler.end(container_id))
        self._set_status("", busy=False)
        if not self._live:
            self._say("✓", "app ended")

    def container_changed(self, container_id: str, function: str, state: str, reason: str) -> None:
        """See ``OutputSink``."""
        with self._changed:
            self._names[container_id] = function
            if not self._status.container(container_id, state):
                self._print(container_id, self._assembler.end(container_id))
            self._touch()
        if state == "FAILED":
            self._say("✗", f"{function} ({short(container_id)}) failed: {reason}", "31", always=True)

    def log(self, container_id: str, function: str, data: bytes) -> None:
        """See ``OutputSink``."""
        with self._changed:
            self._names[container_id] = function
            self._print(container_id, self._assembler.feed(container_id, data))
            if self._assembler.lingers(container_id):
                self._touch()
            elif self._assembler.due() is not None:
                self._wake_for_deadline()

    def image_step(self, image_id: str, number: int, count: int, text: str, state: str, seconds: float) -> None:
        """See ``OutputSink``."""
        with self._changed:
            lines = [Said(" ", line, "2") for line in self._build_lines.end(image_id)]
            lines += self._builds.step(image_id, number, count, text, state, seconds)
            self._status.building = list(self._builds.running.values())
            self._status.building_since = time.monotonic()
            begun = self._builds.running.get(image_id)
        for line in lines:
            self._say(line.mark, line.text, line.colour, always=line.always)
        if not self._live and begun is not None:
            self._say("•", begun)
        with self._changed:
            self._touch()

    def image_log(self, image_id: str, data: bytes) -> None:
        """See ``OutputSink``. On stderr where that is apart: stdout is the program's."""
        with self._changed:
            lines = self._build_lines.feed(image_id, data)
        for line in lines:
            self._say(" ", line, "2")

    def notice(self, text: str) -> None:
        """See ``OutputSink``."""
        self._say("!", text, "33", always=True)

    def served(self, name: str, url: str) -> None:
        """See ``OutputSink``."""
        self._say("•", f"{name} answers at {url}/", "36", always=True)

    def requested(self, text: str) -> None:
        """See ``OutputSink``."""
        self._say("•", text, "2", always=True)

    def map_started(self, key: str, name: str, total: int | None) -> None:
        """See ``OutputSink``."""
        with self._changed:
            self._status.map_started(key, name, total)
            self._touch()

    def map_progress(self, key: str, done: int, total: int | None) -> None:
        """See ``OutputSink``."""
        self._status.map_progress(key, done, total)
        if self._live and not self._dirty:
            with self._changed:
                self._touch()

    def map_ended(self, key: str) -> None:
        """See ``OutputSink``."""
        with self._changed:
            self._status.map_ended(key)
            self._touch()

    def close(self) -> None:
        """See ``OutputSink``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        with self._changed:
            for container_id in self._assembler.open():
                self._print(container_id, self._assembler.end(container_id))
        self._screen.give_back()

    # ---- lines ----

    def _print(self, container_id: str, lines: list[str]) -> None:
        if not lines:
            return
        self._spoken.add(container_id)
        prefix = (time.strftime("%H:%M:%S ") if self._timestamps else "") + self._speaker(container_id)
        if self._live:
            # What a container leaves switched on must not colour what others print.
            lines = [f"{line}\x1b[0m" if "\x1b[" in line else line for line in lines]
        self._screen.lines([prefix + line for line in lines])

    def _speaker(self, container_id: str) -> str:
        """Who speaks, where more than one does."""
        if len(self._spoken) < 2:
            return ""
        name = f"{self._names.get(container_id, '')} {short(container_id)}"
        return f"\x1b[36m{name}\x1b[0m | " if self._colour else f"{name} | "

    def _say(self, mark: str, text: str, colour: str = "", *, always: bool = False) -> None:
        """A line of our own: among the others on a terminal, else on stderr, so that stdout is the program's."""
        if self._quiet and not always:
            return
        line = f"{mark} {text}" if self._unicode or mark.isascii() else text
        if self._live:
            self._screen.lines([f"\x1b[{colour}m{line}\x1b[0m" if colour and self._colour else line])
            return
        with self._changed:
            try:
                print(line, file=self._err, flush=True)
            except (OSError, ValueError):
                return  # nobody reads it

    # ---- the block ----

    def _set_status(self, text: str, *, busy: bool) -> None:
        with self._changed:
            self._status.text, self._status.busy = text, busy
            self._touch()

    def _touch(self) -> None:
        """Something has changed; the lock is held."""
        if not self._dirty or self._screen.held_since is not None:
            self._dirty = True
            self._wake_for_deadline()

    def _wake_for_deadline(self) -> None:
        due = self._due()
        if due is not None and due < self._sleeping_until:
            self._sleeping_until = due
            self._changed.notify()

    def _due(self) -> float | None:
        """When the thread has something to do."""
        moments = [self._assembler.due()]
        if self._screen.held_since is not None:
            moments.append(self._screen.held_since + PARTIAL)
        if self._live and (self._dirty or self._status.turning):
            moments.append(self._drawn_at + INTERVAL)
        return min([moment for moment in moments if moment is not None], default=None)

    def _tend(self) -> None:
        if self._live:
            self._painter = Painter(self._screen.stream)
        with self._changed:
            while not self._closed:
                due = self._due()
                now = time.monotonic()
                if due is None or due > now:
                    self._sleeping_until = float("inf") if due is None else due
                    self._changed.wait(None if due is None else due - now)
                    continue
                if self._live and self._assembler.linger(now):
                    self._dirty = True
                for container_id, line in self._assembler.late(now):
                    self._print(container_id, [line])
                if self._screen.held_since is not None and self._screen.held_since + PARTIAL <= now:
                    self._screen.release()
                if self._live and now >= self._drawn_at + INTERVAL:
                    self._dirty = False
                    self._drawn_at = now
                    self._screen.draw()

    def _block(self, width: int) -> list[str]:
        if self._painter is None:
            return []
        lingering = self._assembler.lingering()
        self._spoken.update(container_id for container_id, _ in lingering)
        self._status.unfinished = [self._speaker(container_id) + line for container_id, line in lingering]
        return self._painter.paint(self._status, width)


def short(container_id: str) -> str:
    """A container's id, as people can tell it apart."""
    return container_id[:9]
