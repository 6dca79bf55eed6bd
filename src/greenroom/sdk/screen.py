"""A stream that a program shares with the lines of its containers and, on a terminal, with a status block below both.

The program's ``sys.stdout`` goes through here for as long as a display is there, and comes out byte for byte: nothing is
wrapped, held or interpreted. While the program is in the middle of a line (a prompt, dots, a progress bar of its own),
the block is away and containers' lines wait a little; then, on a terminal, they go above the unfinished line, which is
written again. So they do at once while ``input()`` waits for an answer.

The cursor rests at the block's beginning, so clearing it is one control sequence, and what a child process writes
straight to the terminal lands there too.
"""

import builtins
import os
import re
import shutil
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from greenroom.model.errors import ExecutionError
from greenroom.sdk.streams import is_terminal

CLEAR = "\x1b[J"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_KEPT = 2000
"""Characters of an unfinished line that are remembered: more than a terminal is wide."""
AT_ONCE = 0.02
"""Seconds since the block was drawn last, from which on it is drawn again together with a line."""


class Screen:
    """Writes to ``stream``; every method takes :attr:`lock`, which its owner may share.

    Args:
        live: the stream is a terminal that can have a block.
        block: the block's lines as they are now, each no wider than so many columns.
        wake: called when the owner should draw, or :meth:`release`, before long.
    """

    def __init__(
        self, stream: TextIO, *, live: bool, block: Callable[[int], list[str]], wake: Callable[[], None]
    ) -> None:
        self.lock = threading.RLock()
        self.held_since: float | None = None
        """When the first line that waits for the program's own line to end came."""
        self.stream = stream
        self._live = live
        self._wake = wake
        self._block = block
        self._drawn = False
        self._drawn_at = 0.0
        self._unfinished = ""
        """What the program has printed of its own line so far, as far as it can still be seen."""
        self._asking = False
        self._aside = False
        self._lost: Exception | None = None
        """Why nothing can be written any more."""
        self._held: list[str] = []
        self._replaced: dict[str, ProgramStream] = {}
        self._input: Callable[[object], str] = builtins.input
        self._asker: Callable[..., str] | None = None

    # ---- the program's own output ----

    def take_over(self) -> None:
        """Put ourselves in the place of ``sys.stdout`` where that is our stream, and of ``sys.stderr`` on a terminal."""
        if sys.stdout is self.stream:
            self._replace("stdout", sys.stdout)
        if self._live and sys.stderr is not None and is_terminal(sys.stderr):
            self._replace("stderr", sys.stderr)
        if self._replaced and self._live and sys.stdin is not None and is_terminal(sys.stdin):
            self._input = builtins.input
            self._asker = self._ask
            builtins.input = self._asker
        _screens.add(self)

    def _replace(self, name: str, stream: TextIO) -> None:
        self._replaced[name] = ProgramStream(self, stream)
        setattr(sys, name, self._replaced[name])

    def give_back(self) -> None:
        """Everything as it was; what is held is written.

        Raises:
            ExecutionError: something could not be written, and not since nobody reads it any more.
        """
        with self.lock:
            self.release()
            self._erase()
            self._live = False
        self.restore_streams()
        _screens.discard(self)
        if isinstance(self._lost, OSError) and not isinstance(self._lost, BrokenPipeError):
            raise ExecutionError(f"can't write what containers print: {self._lost.strerror or self._lost}")

    def restore_streams(self) -> None:
        """``sys.stdout``, ``sys.stderr`` and ``input`` as they were, unless the program has replaced them since."""
        if self._asker is not None and builtins.input is self._asker:
            builtins.input = self._input  # type: ignore[assignment]
        for name, stream in self._replaced.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, stream.original)

    def program(self, stream: TextIO, text: str) -> int:
        """What the program prints; raises what its stream raises."""
        with self.lock:
            clear = CLEAR if self._drawn else ""
            self._drawn = False
            stream.write(clear + text)
            if self._live or "\n" in text:
                stream.flush()
            self._unfinished = visible((self._unfinished + text).rpartition("\n")[2])
            if not self._unfinished:
                self._aside = False
                self.release()
                self._redraw_soon()
        return len(text)

    def _ask(self, prompt: object = "", /) -> str:
        """``input()``, with its prompt below whatever containers print meanwhile."""
        text = str(prompt)
        editing = "readline" in sys.modules  # it has to know the prompt
        with self.lock:
            self.release()
            if not editing:
                self.program(self.stream, text)
            else:
                self._unfinished = visible((self._unfinished + text).rpartition("\n")[2])
            self._erase()
            self._asking = True
        try:
            answer = self._input(text if editing else "")
        except BaseException:  # Ctrl-C, the end of input: the line has not been ended
            with self.lock:
                self._asking = False
                if self._unfinished:
                    self.program(self.stream, "\n")
            raise
        with self.lock:
            self._asking = self._aside = False
            self._unfinished = ""
            self._redraw_soon()
        return answer

    def step_aside(self) -> None:
        """Somebody writes past us (``input()``, a child process): no block until the program prints a whole line."""
        with self.lock:
            self._aside = True
            self._erase()

    # ---- lines of others ----

    def lines(self, lines: Iterable[str]) -> None:
        """Whole lines, above the block; they wait for the program's own line to end."""
        with self.lock:
            if self._unfinished and not self._asking:
                self._held += lines
                if self._held and self.held_since is None:
                    self.held_since = time.monotonic()
                    self._wake()
                return
            self._put("".join([line + "\n" for line in lines]))

    def _put(self, text: str) -> None:
        """Whole lines: above the program's unfinished one, or below it where it can't be written again."""
        if not text:
            return
        unfinished = self._unfinished
        known = self._live and (self._asking or not self._aside)
        if not unfinished:
            self._write(text)
        elif known and columns_of(unfinished) < shutil.get_terminal_size().columns:
            self._write("\r" + CLEAR + text + unfinished)
        elif self._asking:
            self._write("\n" + text + unfinished)
        else:
            self._unfinished = ""
            self._write("\n" + text)
        self._redraw_soon()

    def release(self) -> None:
        """Write the lines that wait."""
        with self.lock:
            held, self._held, self.held_since = self._held, [], None
            self._put("".join([line + "\n" for line in held]))

    # ---- the block ----

    def draw(self) -> None:
        """Draw the block, where there is room for one now."""
        with self.lock:
            if not self._live or self._unfinished or self._aside or self._asking:
                return
            width, height = shutil.get_terminal_size()
            rows = self._block(width)[-max(1, height - 1) :]
            if not rows:
                self._erase()
                return
            up = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
            self._write(NO_WRAP + "\n".join(rows) + WRAP + "\r" + up)
            self._drawn = True
            self._drawn_at = time.monotonic()

    def _redraw_soon(self) -> None:
        if self._live:
            if time.monotonic() - self._drawn_at >= AT_ONCE:
                self.draw()
            else:
                self._wake()

    def _erase(self) -> None:
        if self._drawn:
            self._write("")

    def _write(self, text: str) -> None:
        if self._lost is not None:
            return
        if self._drawn:
            self._drawn = False
            text = CLEAR + text
        try:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.stream.encoding
                self.stream.write(text.encode(encoding, "replace").decode(encoding))
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._lost = error  # told at the end; meanwhile the program's own print tells the program


def visible(line: str) -> str:
    """Of a line that isn't finished, what is there after its carriage returns."""
    return line[line.rstrip("\r").rfind("\r") + 1 :][-_KEPT:]


def columns_of(text: str) -> int:
    """How wide it is on a terminal, at most."""
    return sum(1 if character.isascii() else 2 for character in _COLOUR.sub("", text))


class ProgramStream:
    """Stands in for ``sys.stdout`` or ``sys.stderr``."""

    def __init__(self, screen: Screen, original: TextIO) -> None:
        self.original = original
        self._screen = screen

    def write(self, text: str) -> int:
        """As a text stream's."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        return self._screen.program(self.original, text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As a text stream's."""
        self.write("".join(lines))

    def flush(self) -> None:
        """As a text stream's."""
        with self._screen.lock:
            self.original.flush()

    def fileno(self) -> int:
        """Whoever asks is going to write there himself."""
        self._screen.step_aside()
        return self.original.fileno()

    @property
    def buffer(self) -> Any:
        """For bytes."""
        self._screen.step_aside()
        return self.original.buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


_screens: "weakref.WeakSet[Screen]" = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked child: the thread that draws isn't here, and another may have held the lock."""
    for screen in list(_screens):
        screen.restore_streams()
    _screens.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
