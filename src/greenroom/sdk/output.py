"""Where an app's events go to be seen: a sink that a display implements, installed by ``enable_output()``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from greenroom.sdk.streams import warn


class OutputSink(Protocol):
    """Told what happens; from any thread."""

    def app_creating(self, name: str) -> None:
        """An app is about to run."""

    def app_ready(self, name: str) -> None:
        """Its functions can be called."""

    def container_changed(self, container_id: str, function: str, state: str, reason: str) -> None:
        """A container has entered a state."""

    def log(self, container_id: str, function: str, data: bytes) -> None:
        """A container printed; bytes cut anywhere."""

    def image_step(self, image_id: str, number: int, count: int, text: str, state: str, seconds: float) -> None:
        """A step of an image is ``running``, ``waiting``, ``cached``, ``done`` or ``failed``."""

    def image_log(self, image_id: str, data: bytes) -> None:
        """The step that runs has printed; bytes cut anywhere."""

    def notice(self, text: str) -> None:
        """One line that a person should read."""

    def served(self, name: str, url: str) -> None:
        """A web endpoint answers there."""

    def requested(self, text: str) -> None:
        """A line about a request from the web."""

    def map_started(self, key: str, name: str, total: int | None) -> None:
        """A ``.map()`` begins; ``total`` inputs, where that is known."""

    def map_progress(self, key: str, done: int, total: int | None) -> None:
        """So many inputs of it have ended."""

    def map_ended(self, key: str) -> None:
        """It is over."""

    def app_stopping(self) -> None:
        """Containers are told to end."""

    def app_stopped(self) -> None:
        """They have."""

    def close(self) -> None:
        """Leave the terminal as it was."""


_sink: OutputSink | None = None


def current_sink() -> OutputSink | None:
    """The sink that is installed."""
    return _sink


def say(text: str) -> None:
    """One line that a person should read, display or not."""
    if _sink is not None:
        _sink.notice(text)
    else:
        warn(f"greenroom: {text}")


@contextmanager
def use_sink(sink: OutputSink) -> Iterator[None]:
    """Install a sink for a while."""
    global _sink
    before, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = before
        sink.close()


@contextmanager
def enable_output(show_progress: bool = True, *, timestamps: bool = False) -> Iterator[None]:
    """Show what the apps that run meanwhile do: containers, their output, progress.

    Args:
        show_progress: False shows the containers' own output alone.
        timestamps: begin each of its lines with the time.
    """
    from greenroom.sdk.display import make_display

    with use_sink(make_display(quiet=not show_progress, timestamps=timestamps)):
        yield
