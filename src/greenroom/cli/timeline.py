"""A container's record as lines that a person reads: where its time went, above all until it was ready."""

import time
from typing import Any, NamedTuple

BAR = 32
"""Columns of a bar."""

_PHASES = {
    "PENDING": "queued",
    "STARTING": "starting: process up, agent connects",
    "ENTERING": "entering",
    "IDLE": "idle",
    "RUNNING": "running",
    "DRAINING": "draining",
    "EXITING": "exiting",
}


class _Row(NamedTuple):
    began: float
    seconds: float
    what: str
    reason: str
    step: bool
    """A hook, an import or a constructor, within a phase."""


def timeline(record: dict[str, Any], now: float | None = None) -> list[str]:
    """The lines below a container's headline.

    Args:
        now: seconds since 1970 at which a container that lives is looked at.
    """
    events = record["events"]
    ended = record["state"] in ("STOPPED", "FAILED")
    end = events[-1]["at"] if ended else max(events[-1]["at"], time.time() if now is None else now)
    ready = next((event["at"] for event in events if event["event"] == "ENTERED"), None)
    rows = _rows(events, end)
    if ready is None:
        return _section("never ready" if ended else "not ready yet", rows, rows[0].began, end)
    lines = _section(f"ready after {duration(ready - events[0]['at'])}", [r for r in rows if r.began < ready],
                     events[0]["at"], ready)  # fmt: skip
    count = record["inputs_done"]
    title = f"then {duration(end - ready)}, {count} input{'' if count == 1 else 's'}"
    return [*lines, "", *_section(title, [r for r in rows if r.began >= ready], ready, end)]


def _rows(events: list[dict[str, Any]], end: float) -> list[_Row]:
    """Phases, each followed by the steps within it."""
    rows: list[_Row] = []
    phases = [event["at"] for event in events if event["event"] != "HOOK"]
    phase, number = events[0]["at"], 0
    for event in events:
        if event["event"] == "HOOK":
            began = max(phase, event["at"] - event["seconds"])
            rows.append(_Row(began, event["seconds"], event["name"], event["reason"], step=True))
            continue
        phase = event["at"]
        number += 1
        what = _PHASES.get(event["state"])
        if what is not None:
            until = phases[number] if number < len(phases) else end
            rows.append(_Row(phase, until - phase, what, event["reason"], step=False))
        else:
            rows.append(_Row(phase, 0.0, event["state"].lower(), event["reason"], step=False))
    return rows


def _section(title: str, rows: list[_Row], start: float, end: float) -> list[str]:
    total = max(end - start, 1e-6)
    lines = [title]
    for row in rows:
        left = min(BAR - 1, max(0, int((row.began - start) / total * BAR)))
        bar = " " * left + ("░" if row.step else "█") * max(1, min(BAR - left, round(row.seconds / total * BAR)))
        note = f"  {row.reason}" if row.reason else ""
        what = f"  {row.what}" if row.step else row.what
        lines.append(f"{'+' + duration(row.began - start):>10}  {duration(row.seconds):>8}  {bar:<{BAR}}  {what}{note}")
    return lines


def duration(seconds: float) -> str:
    """As people read it: three digits or so, with a unit."""
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
