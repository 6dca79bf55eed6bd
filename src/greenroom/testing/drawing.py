"""Pictures of traces: SVG, written by hand, readable on a light and on a dark page."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from greenroom.testing.simulation import Moment, Trace, Track

WIDTH = 760
LEFT, RIGHT, TOP, BOTTOM = 62, 150, 54, 46
"""Margins; the legends stand in the right one."""
HEIGHT = 104
"""Of one panel."""
GAP = 30
COLORS = ("#2a78d6", "#eb6834", "#1baf7a", "#8a63d2", "#c98500")
STYLE = """
    .page { fill: #ffffff } text { fill: #24292f; font: 12px system-ui, sans-serif } .soft { fill: #57606a }
    .title { font-size: 15px; font-weight: 600 } .panel { font-weight: 600 } .grid { stroke: #d8dee4 } .axis { stroke: #8c959f }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117 } text { fill: #e6edf3 } .soft { fill: #9198a1 } .grid { stroke: #2d333b } .axis { stroke: #6e7681 }
    }"""


class Series(NamedTuple):
    """One line or layer."""

    name: str
    color: str
    values: Sequence[float]
    """One at each moment."""


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    unit: str
    series: Sequence[Series]
    stacked: bool = False
    whole: bool = False
    """Its values are numbers of things."""
    points: Sequence[tuple[str, str, Sequence[tuple[float, float]]]] = ()
    """In the place of series: of each kind the name, the colour, and ``(time, value)`` of each."""


def draw(trace: "Trace", title: str, *, by_function: bool = False) -> str:
    """See ``Trace.svg``."""
    if by_function:
        panels = [_inputs(trace), _waits(trace), _containers_by_function(trace)]
    else:
        panels = [_load(trace), _inputs(trace), _containers(trace)]
    heading, *more = title.split("\n")
    first = TOP + 16 * len(more)
    height = first + len(panels) * (HEIGHT + GAP) - GAP + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"  <title>{escape(heading)}</title>",
        f"  <style>{STYLE}\n  </style>",
        f'  <rect class="page" width="{WIDTH}" height="{height}"/>',
        f'  <text class="title" x="{LEFT}" y="22">{escape(heading)}</text>',
    ]
    for number, line in enumerate(more):
        parts.append(f'  <text class="soft" x="{LEFT}" y="{40 + 16 * number}">{escape(line)}</text>')
    times = [moment.at for moment in trace.tracks[0].moments]
    for number, panel in enumerate(panels):
        last = number == len(panels) - 1
        parts += _panel(panel, first + number * (HEIGHT + GAP), times, trace.seconds, last=last)
    return "\n".join([*parts, "</svg>", ""])


# ---- what is shown ----


def _load(trace: "Trace") -> Panel:
    """Inputs that come and that end, each second, over a window that evens out a single one."""
    width = max(trace.seconds / 30, trace.step)
    series: list[Series] = []
    for number, (name, track) in enumerate(_named(trace)):
        series.append(Series(f"{name}come", COLORS[2 * number], _rate(trace, track, lambda m: m.arrived, width)))
        series.append(Series(f"{name}end", COLORS[2 * number + 1], _rate(trace, track, lambda m: m.finished, width)))
    return Panel("Load", "inputs/s", series)


def _rate(trace: "Trace", track: "Track", count: "Callable[[Moment], int]", width: float) -> list[float]:
    back = max(1, round(width / trace.step))
    counts = [0] * back + [count(moment) for moment in track.moments]
    return [(now - then) / (back * trace.step) for then, now in zip(counts, counts[back:], strict=False)]


def _inputs(trace: "Trace") -> Panel:
    series: list[Series] = []
    for number, (name, track) in enumerate(_named(trace)):
        if not name:
            series.append(Series("running", COLORS[0], [m.running for m in track.moments]))
        color = COLORS[2 * number] if name else COLORS[1]
        series.append(Series(f"{name}waiting", color, [m.waiting for m in track.moments]))
    return Panel("Inputs", "how many", series, whole=True)


def _waits(trace: "Trace") -> Panel:
    points = [
        (track.load.name, COLORS[2 * number], [(result.at, result.waited) for result in track.results])
        for number, track in enumerate(trace.tracks)
    ]
    return Panel("From the call to its result", "s, at the time of the result", [], points=points)


def _containers(trace: "Trace") -> Panel:
    def total(count: "Callable[[Moment], int]") -> list[float]:
        return [float(sum(map(count, moments))) for moments in zip(*(t.moments for t in trace.tracks), strict=True)]

    layers = [
        Series("busy", COLORS[0], total(lambda m: m.busy)),
        Series("idle", COLORS[2], total(lambda m: m.idle)),
        Series("ending", COLORS[3], total(lambda m: m.ending)),
        Series("starting", COLORS[1], total(lambda m: m.starting)),
    ]
    return Panel("Containers", "how many", [layer for layer in layers if any(layer.values)], stacked=True, whole=True)


def _containers_by_function(trace: "Trace") -> Panel:
    layers: list[Series] = []
    for number, track in enumerate(trace.tracks):
        ready = [float(m.busy + m.idle + m.ending) for m in track.moments]
        layers.append(Series(track.load.name, COLORS[2 * number], ready))
    return Panel("Containers that are ready", "how many", layers, stacked=True, whole=True)


def _named(trace: "Trace") -> "list[tuple[str, Track]]":
    """Tracks, with what their series' names begin with where there are several."""
    several = len(trace.tracks) > 1
    return [(f"{track.load.name} " if several else "", track) for track in trace.tracks]


# ---- how it is drawn ----


def _panel(panel: Panel, top: float, times: Sequence[float], seconds: float, *, last: bool) -> list[str]:
    values = _stack(panel.series) if panel.stacked else [list(series.values) for series in panel.series]
    highest = max((value for line in values for value in line), default=0.0)
    highest = max([highest, *(value for _, _, points in panel.points for _, value in points)])
    ticks = _ticks(highest, whole=panel.whole)
    scale = HEIGHT / ticks[-1]
    width = WIDTH - LEFT - RIGHT

    def x(at: float) -> float:
        return LEFT + width * at / seconds

    def y(value: float) -> float:
        return top + HEIGHT - value * scale

    unit = f'<tspan class="soft" font-weight="400">({panel.unit})</tspan>'
    parts = [f'  <text class="panel" x="{LEFT}" y="{top - 8:g}">{panel.title} {unit}</text>']
    for tick in ticks:
        parts.append(f'  <line class="grid" x1="{LEFT}" x2="{LEFT + width}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'  <text class="soft" x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for at in _ticks(seconds, 8):
        if at > seconds:
            continue
        parts.append(f'  <line class="grid" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{top:g}" y2="{top + HEIGHT:g}"/>')
        if last:
            parts.append(
                f'  <text class="soft" x="{x(at):.1f}" y="{top + HEIGHT + 16:g}" text-anchor="middle">{at:g}</text>'
            )
    if last:
        middle = LEFT + width / 2
        parts.append(
            f'  <text class="soft" x="{middle:g}" y="{top + HEIGHT + 34:g}" text-anchor="middle">time (s)</text>'
        )
    below = [0.0] * len(times)
    for series, line in zip(panel.series, values, strict=True):
        points = _steps(times, line, x, y)
        if panel.stacked:
            back = _steps(times, below, x, y)[::-1]
            parts.append(f'  <path fill="{series.color}" fill-opacity="0.85" d="M{" L".join(points + back)}Z"/>')
            below = line
        else:
            parts.append(f'  <path fill="none" stroke="{series.color}" stroke-width="1.8" d="M{" L".join(points)}"/>')
    for _, color, dots in panel.points:
        marks = "".join(f"M{x(at):.1f},{y(value):.1f}h0" for at, value in dots)
        parts.append(f'  <path fill="none" stroke="{color}" stroke-width="4" stroke-linecap="round" d="{marks}"/>')
    parts.append(f'  <line class="axis" x1="{LEFT}" x2="{LEFT + width}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    # A stack is read from above.
    named = [(series.name, series.color) for series in panel.series] + [point[:2] for point in panel.points]
    for number, (name, color) in enumerate(named[::-1] if panel.stacked else named):
        at = top + 6 + number * 18
        parts.append(f'  <rect fill="{color}" x="{LEFT + width + 14}" y="{at - 5:g}" width="14" height="10" rx="2"/>')
        parts.append(f'  <text x="{LEFT + width + 34}" y="{at + 4:g}">{escape(name)}</text>')
    return parts


def _stack(series: Sequence[Series]) -> list[list[float]]:
    """Each layer's upper edge."""
    edges: list[list[float]] = []
    below = [0.0] * (len(series[0].values) if series else 0)
    for layer in series:
        below = [low + value for low, value in zip(below, layer.values, strict=True)]
        edges.append(below)
    return edges


def _steps(
    times: Sequence[float], values: Sequence[float], x: Callable[[float], float], y: Callable[[float], float]
) -> list[str]:
    """A line that stays until it changes: corners alone."""
    points: list[str] = []
    for place, (at, value) in enumerate(zip(times, values, strict=True)):
        if place and value != values[place - 1]:
            points.append(f"{x(at):.1f},{y(values[place - 1]):.1f}")
        if not place or value != values[place - 1] or place == len(times) - 1:
            points.append(f"{x(at):.1f},{y(value):.1f}")
    return points


def _ticks(highest: float, most: int = 4, *, whole: bool = False) -> list[float]:
    """Round numbers from 0 up to at least ``highest``."""
    if highest <= (1 if whole else 0):
        return [0.0, 1.0]
    raw = highest / most
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(
        magnitude * nice
        for nice in (1, 2, 2.5, 5, 10)
        if magnitude * nice >= raw - 1e-12 and (not whole or magnitude * nice % 1 == 0)
    )
    return [step * number for number in range(math.ceil(highest / step - 1e-9) + 1)]
