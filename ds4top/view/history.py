"""A chart of values over the last minutes or hours.

Its columns are fixed spans of absolute time, so the picture moves on by one whole column when a
column's time is over and holds still in between; the labels of the time axis never change.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor

from ds4top.view.axes import (
    LIMIT,
    base_rows,
    gutter_width,
    layout,
    title_row,
    usable_scale,
    value_ticks,
    with_value_axis,
)
from ds4top.view.canvas import Canvas
from ds4top.view.text import UNICODE, Charset, Part, Row, row, width_of

Reading = tuple[float, float | None]
"""Seconds on any clock, and the value then (``None``: not known)."""

_PICK: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "last": lambda values: values[-1],
}
_HOUR_S = 3600
_TIME_STEPS_S = (
    *(5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(hours * _HOUR_S for hours in (1, 2, 3, 6, 12, 24)),
)


@dataclass(frozen=True, slots=True)
class Track:
    """Readings in the order of time."""

    name: str
    points: tuple[Reading, ...]
    style: str = "plot-own"
    pick: str = "mean"
    """Which reading speaks for a dot: ``mean``, ``min``, ``max`` or ``last``."""
    fill: bool = False
    """Whether the area under the line is filled."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A horizontal line at a limit, drawn where it lies inside the range."""

    value: float
    label: str
    style: str = "plot-bound"


@dataclass(frozen=True, slots=True)
class HistorySpec:
    """What a history chart shows: the ``span_s`` seconds before ``now_s``."""

    title: str
    unit: str
    now_s: float
    span_s: float
    tracks: tuple[Track, ...]
    marks: tuple[Mark, ...] = ()
    notes: tuple[Part, ...] = ()
    y_range: tuple[float, float] | None = None
    gap_s: float = 5.0
    """Readings further apart than this (and than two dots) are not joined: a hole is shown. With
    ``inf`` only what is not known is one."""
    empty: str = "no history yet"


def draw_history(
    spec: HistorySpec, width: int, height: int, charset: Charset = UNICODE
) -> tuple[Row, ...]:
    """The chart as ``height`` rows of exactly ``width`` cells."""
    if width <= 0 or height <= 0:
        return ((),) * max(height, 0)
    plan = layout(width, height, bool(spec.title))
    span = _value_span(spec)
    low, high, ticks = value_ticks(*(span or (0.0, 1.0)), plan.plot_rows)
    ticks = ticks if span else ()
    gutter = gutter_width(ticks, width)
    cells = width - gutter
    canvas = _canvas(spec, cells, plan.plot_rows, charset)
    scale = usable_scale((canvas.dots_high - 1) / ((high - low) or 1.0))
    area_scale = usable_scale(canvas.height / ((high - low) or 1.0))

    def dot_y(value: float) -> int:
        return int(min(max((high - value) * scale, 0.0), max(canvas.dots_high - 1, 0)) + 0.5)

    if span is None:
        start = max((cells - width_of(spec.empty)) // 2, 0)
        canvas.label(start, max(canvas.height - 1, 0) // 2, spec.empty, "dim")
    else:
        for mark in spec.marks:
            if low <= mark.value <= high:
                y = dot_y(mark.value)
                canvas.line(mark.style, ((0, y), (canvas.dots_wide - 1, y)), "dotted")
        for track in spec.tracks:
            columns = cells if track.fill else canvas.dots_wide
            for piece in _pieces(spec, track, columns):
                if track.fill:
                    _fill(canvas, track.style, [(x, (y - low) * area_scale) for x, y in piece])
                else:
                    places = [(x, dot_y(value)) for x, value in piece]
                    canvas.line(track.style, places if len(places) > 1 else places * 2)
        for mark in spec.marks:
            if low <= mark.value <= high and len(mark.label) <= cells // 3:
                canvas.label(1, dot_y(mark.value) // 4, mark.label, mark.style)
    marks = {dot_y(tick.value) // 4: tick.label for tick in ticks}
    rows = with_value_axis(canvas.rows(), marks, gutter, charset)
    if plan.axis:
        rows += base_rows(time_marks(spec.span_s, cells), cells, gutter, charset, plan.labels)
    if plan.title:
        legend = [
            row((charset.keys["solid"], track.style), (f" {track.name}", "axis-label"))
            for track in spec.tracks
            if track.name
        ]
        rows.insert(0, title_row(spec.title, spec.notes, legend, width, charset))
    return tuple(rows)


def time_marks(span_s: float, cells: int) -> list[tuple[int, str]]:
    """Columns and labels of a time axis that ends now: ``10 m`` … ``now``."""
    for step in _TIME_STEPS_S:
        count = floor(span_s / step)
        labels = [_ago(step * index) for index in range(count, -1, -1)]
        room = cells * step / span_s if span_s > 0 else 0
        if 3 <= cells >= count and room >= max(map(len, labels)) + 4:
            return [
                (round((cells - 1) * (1 - step * index / span_s)), label)
                for index, label in zip(range(count, -1, -1), labels, strict=True)
            ]
    return [(cells - 1, "now")] if cells >= 3 else []


def _ago(age_s: float) -> str:
    if age_s == 0:
        return "now"
    if age_s > 90 and age_s % 60:
        return f"{age_s / 60:g} m"
    for unit_s, letter in ((_HOUR_S, "h"), (60, "m"), (1, "s")):
        if age_s >= unit_s and age_s % unit_s == 0:
            return f"{age_s / unit_s:g} {letter}"
    return f"{age_s / 60:g} m"


def _canvas(spec: HistorySpec, cells: int, rows: int, charset: Charset) -> Canvas:
    styles = [mark.style for mark in spec.marks] + [track.style for track in spec.tracks]
    glyphs = {mark.style: "." for mark in spec.marks}
    return Canvas(cells, rows, tuple(dict.fromkeys(styles)), charset, glyphs)


def _value_span(spec: HistorySpec) -> tuple[float, float] | None:
    since = spec.now_s - spec.span_s
    values = [
        value
        for track in spec.tracks
        for at, value in track.points
        if at >= since and value is not None and -LIMIT < value < LIMIT
    ]
    if not values:
        return None
    return spec.y_range or (min(values), max(values))


def _pieces(spec: HistorySpec, track: Track, columns: int) -> list[list[tuple[int, float]]]:
    """Runs of (column, value) without a hole in them; ``columns`` of cells or of dots."""
    if spec.span_s <= 0 or columns < 2:
        return []
    column_s = spec.span_s / columns
    cell_s = column_s if track.fill else column_s * 2
    # The right edge is the end of the column of cells that now lies in.
    begin = (floor(spec.now_s / cell_s) + 1) * cell_s - spec.span_s
    buckets: dict[int, list[float]] = {}
    holes: list[int] = []
    start = bisect_left(track.points, begin, key=lambda reading: reading[0])
    for at, value in track.points[start:]:
        column = int((at - begin) / column_s)
        if not 0 <= column < columns:
            continue
        if value is None or not -LIMIT < value < LIMIT:
            holes.append(column)
        else:
            buckets.setdefault(column, []).append(value)
    pick = _PICK[track.pick]
    reach = max(spec.gap_s / column_s, 2.0)
    ends = {hole for hole in holes if hole not in buckets}
    pieces: list[list[tuple[int, float]]] = []
    before: int | None = None
    for column in sorted(buckets.keys() | ends):
        if column in ends:
            before = None
            continue
        if before is None or column - before > reach:
            pieces.append([])
        pieces[-1].append((column, pick(buckets[column])))
        before = column
    return pieces


def _fill(canvas: Canvas, style: str, heights: list[tuple[int, float]]) -> None:
    for (x0, h0), (x1, h1) in pairwise([*heights, heights[-1]]):
        for x in range(x0, max(x1, x0 + 1)):
            canvas.area(style, x, h0 + (h1 - h0) * (x - x0) / ((x1 - x0) or 1))
