"""Containers' output, which arrives as bytes cut anywhere, as lines."""

import codecs
import time

PARTIAL = 0.2
"""Seconds after which a line without its end is shown."""
REDRAWN = 2.0
"""Seconds between two states of a line that is drawn over itself again and again: a progress bar."""

LONG = 4096
"""Characters from which on an unfinished line is not kept whole any more."""

_decoder = codecs.getincrementaldecoder("utf-8")


class _Speaker:
    __slots__ = ("decoder", "due", "rest", "shown_at")

    def __init__(self) -> None:
        self.decoder = _decoder("replace")
        self.rest = ""
        self.due = 0.0
        self.shown_at = 0.0


class LineAssembler:
    """One for all containers of a display. Not for several threads at once."""

    def __init__(self) -> None:
        self._speakers: dict[str, _Speaker] = {}
        self._waiting: set[str] = set()
        self._lingering: dict[str, None] = {}

    def feed(self, container_id: str, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        speaker = self._speakers.get(container_id)
        if speaker is None:
            speaker = self._speakers[container_id] = _Speaker()
        text = speaker.decoder.decode(data)
        *lines, rest = (speaker.rest + text).split("\n")
        if not rest:
            speaker.rest = ""
            self._waiting.discard(container_id)
            self._lingering.pop(container_id, None)
        else:
            now = time.monotonic()
            if lines or not speaker.rest:
                speaker.due = now + PARTIAL
            if "\r" in rest:
                # Only the last state is kept; an "\r" at the end says that what comes next replaces it.
                rest = "\r" + final_state(rest) + ("\r" if rest.endswith("\r") else "")
                speaker.due = max(speaker.due, speaker.shown_at + REDRAWN)
            speaker.rest = rest
            if lines or len(rest) > LONG:
                self._lingering.pop(container_id, None)
            if container_id not in self._lingering:
                self._waiting.add(container_id)
        return [final_state(line) for line in lines]

    def due(self) -> float | None:
        """When the first unfinished line is to be shown, on the monotonic clock."""
        return min([self._speakers[key].due for key in self._waiting], default=None)

    def late(self, now: float) -> list[tuple[str, str]]:
        """Unfinished lines that have waited long enough, each with its container; what follows is a line of its own."""
        found = [key for key in self._waiting if self._speakers[key].due <= now]
        return [(key, self._take(key, now)) for key in found]

    def linger(self, now: float) -> bool:
        """Unfinished lines that have waited long enough, and aren't long, go to :meth:`lingering` until they end.

        Returns:
            Whether there are any.
        """
        due = [key for key in self._waiting if self._speakers[key].due <= now and len(self._speakers[key].rest) <= LONG]
        self._waiting.difference_update(due)
        self._lingering.update(dict.fromkeys(due))
        return bool(due)

    def lingers(self, container_id: str) -> bool:
        """Whether the unfinished line of that container is one of :meth:`lingering`."""
        return container_id in self._lingering

    def lingering(self) -> list[tuple[str, str]]:
        """Unfinished lines as they are now, each with its container."""
        return [(key, final_state(self._speakers[key].rest)) for key in self._lingering]

    def end(self, container_id: str) -> list[str]:
        """What a container that has ended left unfinished."""
        speaker = self._speakers.get(container_id)
        if speaker is None:
            return []
        speaker.rest += speaker.decoder.decode(b"", final=True)
        text = self._take(container_id, 0.0)
        del self._speakers[container_id]
        return [text] if text else []

    def open(self) -> list[str]:
        """Containers that have spoken and not ended."""
        return list(self._speakers)

    def _take(self, container_id: str, now: float) -> str:
        speaker = self._speakers[container_id]
        text, speaker.rest = final_state(speaker.rest), ""
        speaker.shown_at = now
        self._waiting.discard(container_id)
        self._lingering.pop(container_id, None)
        return text


def final_state(line: str) -> str:
    """Of what was drawn over itself with carriage returns, what was there last."""
    if "\r" not in line:
        return line
    return next((state for state in reversed(line.split("\r")) if state.strip()), "")
