"""What stands below a program's output on a terminal: a bar for each ``.map``, and one line of what the app does.

Drawn by rich, which is imported by the thread that draws, once something is to be drawn.
"""

import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import TaskID

BARS = 8
"""Progress bars shown at once."""

# Whether a container that is up has an input right now changes thousands of times a second, and isn't told.
_WORDS = {"PENDING": "pending", "STARTING": "starting", "ENTERING": "entering", "IDLE": "ready",
          "RUNNING": "ready", "DRAINING": "draining", "EXITING": "exiting"}  # fmt: skip


class _Map:
    """The progress of one ``.map``."""

    __slots__ = ("began", "done", "name", "task", "total")

    def __init__(self, name: str, total: int | None) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self.began = time.monotonic()
        self.task: TaskID | None = None


class Status:
    """What is known of the app, and how it looks. Not for several threads at once, but for :meth:`map_progress`."""

    def __init__(self) -> None:
        self.text = ""
        self.busy = False
        """The app starts or ends."""
        self.building: list[str] = []
        """Steps of images that are being made."""
        self.building_since = 0.0
        self.unfinished: list[str] = []
        """Lines that containers have begun, with their colours."""
        self._states: dict[str, str] = {}
        self._maps: dict[str, _Map] = {}

    def container(self, container_id: str, state: str) -> bool:
        """A container has entered a state; whether it is still there."""
        if state not in _WORDS:
            self._states.pop(container_id, None)
            return False
        self._states[container_id] = _WORDS[state]
        return True

    def map_started(self, key: str, name: str, total: int | None) -> None:
        """A ``.map()`` begins."""
        self._maps[key] = _Map(name, total)

    def map_progress(self, key: str, done: int, total: int | None) -> None:
        """So many of its inputs have ended."""
        entry = self._maps.get(key)
        if entry is not None:
            entry.done, entry.total = done, total

    def map_ended(self, key: str) -> None:
        """It is over."""
        self._maps.pop(key, None)

    @property
    def turning(self) -> bool:
        """It looks other from moment to moment: a spinner turns while something starts or ends, a map's clock goes on."""
        return bool(self._maps) or self.spinning

    @property
    def spinning(self) -> bool:
        """Something starts or ends."""
        return bool(self.text) and (self.busy or any(word != "ready" for word in self._states.values()))

    @property
    def maps(self) -> list[_Map]:
        """Those that run, the oldest first."""
        return list(self._maps.values())

    @property
    def line(self) -> str:
        """The app, and how many containers of it are in which state."""
        counts: dict[str, int] = {}
        for word in self._states.values():
            counts[word] = counts.get(word, 0) + 1
        if self.building:
            more = f" and {len(self.building) - 1} more" if len(self.building) > 1 else ""
            return f"{self.building[0]}{more} · {time.monotonic() - self.building_since:.0f} s"
        active = ", ".join(f"{counts[word]} {word}" for word in dict.fromkeys(_WORDS.values()) if word in counts)
        return self.text + (f" · containers: {active}" if active else "")


class Painter:
    """Makes a terminal's lines of a :class:`Status`."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.spinner import Spinner

        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._progress = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
        )
        ascii_only = self._console.options.ascii_only
        self._spinner = Spinner("line" if ascii_only else "dots")
        self._still = "*" if ascii_only else "●"

    def paint(self, status: Status, width: int) -> list[str]:
        """The lines, each at most ``width`` columns, with colours; none when there is nothing to say."""
        from rich.console import Group
        from rich.text import Text

        rows: list[RenderableType] = [Text.from_ansi(line) for line in status.unfinished[-BARS:]]
        maps = status.maps
        self._follow(maps[:BARS])
        if maps:
            rows.append(self._progress.get_renderable())
        if len(maps) > BARS:
            rows.append(Text(f"  and {len(maps) - BARS} more"))
        if status.text:
            mark = self._spinner.render(time.monotonic()) if status.spinning else Text(self._still)
            assert isinstance(mark, Text)
            rows.append(Text.assemble(mark, f" {status.line}"))
        if not rows:
            return []
        with self._console.capture() as painted:
            self._console.print(Group(*rows), width=width, no_wrap=True, overflow="crop", crop=True)
        return [line.rstrip() for line in painted.get().splitlines()]

    def _follow(self, maps: list[_Map]) -> None:
        """The bars as the maps are now."""
        current = {entry.task for entry in maps}
        for task in self._progress.task_ids:
            if task not in current:
                self._progress.remove_task(task)
        for entry in maps:
            if entry.task is None:
                entry.task = self._progress.add_task(entry.name, total=entry.total)
                self._progress.tasks[-1].start_time = entry.began
            self._progress.update(entry.task, completed=entry.done, total=entry.total)
