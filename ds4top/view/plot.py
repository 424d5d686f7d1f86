"""The plot of a rate against context: samples, curves, a bound and the point of now.

``PlotSpec`` says what is shown, ``draw_plot`` makes rows of it. The caller passes numbers, so
tokens per second and milliseconds per token are the same plot with another unit.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from math import inf, log2

from ds4top.view.axes import (
    LIMIT,
    base_rows,
    gutter_width,
    layout,
    title_row,
    token_ticks,
    usable_scale,
    value_ticks,
    with_value_axis,
)
from ds4top.view.canvas import Canvas
from ds4top.view.text import UNICODE, Charset, Part, Row, row, width_of

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Points:
    """Samples, one dot each."""

    name: str
    points: tuple[Point, ...]
    style: str = "plot-sample"


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points in the order of x; pass enough of them where it bends (``trace``)."""

    name: str
    points: tuple[Point, ...]
    style: str = "plot-own"
    dash: str = "solid"
    glyph: str = "-"
    """The character of the line in ASCII."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A horizontal line that values do not pass, and its label."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class PlotSpec:
    """What a plot shows; later points and curves lie over earlier ones.

    x is in tokens. A range that is ``None`` follows the data: x to powers of two, y to round
    numbers, without the outermost hundredth of the samples, which are drawn at the edge.
    """

    title: str
    unit: str
    """Of y, such as ``tok/s``; shown by itself where there is no room for the title."""
    points: tuple[Points, ...] = ()
    curves: tuple[Curve, ...] = ()
    bound: Bound | None = None
    live: Point | None = None
    live_label: str = ""
    notes: tuple[Part, ...] = ()
    """Short parts after the title: the window, the source."""
    is_log: bool = True
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    cursor_tokens: float | None = None
    empty: str = "no samples yet"


def trace(
    function: Callable[[float], float], low: float, high: float, steps: int = 96
) -> tuple[Point, ...]:
    """Points of a function of tokens from ``low`` to ``high``, evenly spread over the logarithm."""
    if not 0 < low < high:
        return ()
    ratio = (high / low) ** (1 / steps)
    xs = [low * ratio**step for step in range(steps)] + [high]
    return tuple((x, function(x)) for x in xs)


def draw_plot(
    spec: PlotSpec, width: int, height: int, charset: Charset = UNICODE
) -> tuple[Row, ...]:
    """The plot as ``height`` rows of exactly ``width`` cells."""
    if width <= 0 or height <= 0:
        return ((),) * max(height, 0)
    plan = layout(width, height, bool(spec.title))
    x_low, x_high = spec.x_range or _x_range(spec)
    x_low = max(x_low, 1.0) if spec.is_log else x_low
    x_high = max(x_high, x_low + 1.0)
    span = _y_span(spec, x_low, x_high, has_bound=plan.plot_rows >= 12)
    y_low, y_high, y_ticks = value_ticks(*(span or (0.0, 1.0)), plan.plot_rows)
    if span is None:
        y_ticks = ()
    gutter = gutter_width(y_ticks, width)
    cells = width - gutter
    field = _Field(spec, cells, plan.plot_rows, (x_low, x_high), (y_low, y_high), charset)
    picture = field.draw(span is not None, show_unit=not plan.title)
    marks = {field.dot_y(tick.value) // 4: tick.label for tick in y_ticks}
    rows = with_value_axis(picture, marks, gutter, charset)
    if plan.axis:
        x_ticks = token_ticks(x_low, x_high, cells, spec.is_log)
        places = [(field.dot_x(tick.value) // 2, tick.label) for tick in x_ticks]
        rows += base_rows(places, cells, gutter, charset, plan.labels)
    if plan.title:
        rows.insert(0, title_row(spec.title, spec.notes, _legend(spec, charset), width, charset))
    return tuple(rows)


def _legend(spec: PlotSpec, charset: Charset) -> list[Row]:
    entries: list[Row] = []
    if spec.live:
        entries.append(row((charset.live, "plot-live"), (" now", "axis-label")))
    entries += [
        row((charset.keys[curve.dash], curve.style), (f" {curve.name}", "axis-label"))
        for curve in reversed(spec.curves)
        if curve.points
    ]
    entries += [
        row((charset.keys["points"], cloud.style), (f" {cloud.name}", "axis-label"))
        for cloud in reversed(spec.points)
        if cloud.points
    ]
    return entries


def _all_points(spec: PlotSpec) -> Iterator[Point]:
    clouds = [cloud.points for cloud in spec.points] + [curve.points for curve in spec.curves]
    return chain(chain.from_iterable(clouds), (spec.live,) if spec.live else ())


def _x_range(spec: PlotSpec) -> tuple[float, float]:
    xs = [x for x, _ in _all_points(spec) if 0 < x < LIMIT]
    low, high = min(xs, default=64.0), max(xs, default=131_072.0)
    low = 2.0 ** int(log2(max(low, 1.0))) if spec.is_log else 0.0
    top = 2.0 ** int(log2(max(high, 1.0)))
    return low, max(top if top >= high else top * 2, low * 2, 2.0)


def _y_span(
    spec: PlotSpec, x_low: float, x_high: float, has_bound: bool
) -> tuple[float, float] | None:
    """Lowest and highest value to show, ``None`` where there is none."""
    if spec.y_range:
        return spec.y_range
    firm = [y for curve in spec.curves for x, y in curve.points if x_low <= x <= x_high]
    if spec.live:
        firm.append(spec.live[1])
    firm = [y for y in firm if -LIMIT < y < LIMIT]
    loose: list[float] = []
    for cloud in spec.points:
        some = cloud.points[:: len(cloud.points) // 400 + 1]
        loose += [y for x, y in some if x_low <= x <= x_high and -LIMIT < y < LIMIT]
    loose.sort()
    if loose:
        cut = len(loose) // 100
        firm += [loose[cut], loose[-1 - cut]]
    if not firm:
        return None
    low, high = min(firm), max(firm)
    # A bound far from the data would press the picture flat: then its label alone says where.
    if has_bound and spec.bound:
        if high < spec.bound.value <= high * 1.5:
            high = spec.bound.value
        elif low / 1.5 <= spec.bound.value < low:
            low = spec.bound.value
    return low, high


_Geometry = tuple[float, float, float, float, int, int, bool]
# Samples are only ever added, so the dots of the ones before are worth keeping: it is most of the
# work of a redraw. Nothing depends on what is kept but the time it takes. A tuple a sample would be
# a hundred bytes: they are kept as plain numbers.
_drawn: deque[tuple[array[float], _Geometry, set[tuple[int, int]]]] = deque()
_MOST_DRAWN = 2


def _flat(points: tuple[Point, ...]) -> array[float]:
    return array("d", chain.from_iterable(points))


def _recall(points: tuple[Point, ...], geometry: _Geometry) -> tuple[int, set[tuple[int, int]]]:
    """How many of the first points are drawn already, and their dots."""
    for before, place, dots in tuple(_drawn):
        size = len(before) // 2
        if place == geometry and 0 < size <= len(points) and _flat(points[:size]) == before:
            return size, set(dots)
    return 0, set()


def _remember(points: tuple[Point, ...], geometry: _Geometry, dots: set[tuple[int, int]]) -> None:
    if len(points) > 64:
        others = [each for each in tuple(_drawn) if each[1] != geometry]
        _drawn.clear()
        _drawn.extend([(_flat(points), geometry, dots), *others][:_MOST_DRAWN])


def _nearest(place: float, count: int) -> int:
    """The dot nearest to a place, one of the edge for what lies beyond."""
    return int(min(max(place, 0.0), max(count - 1, 0)) + 0.5)


class _Field:
    """The canvas of one plot and where values lie on it."""

    def __init__(
        self,
        spec: PlotSpec,
        cells: int,
        rows: int,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        charset: Charset,
    ) -> None:
        self.spec, self.charset = spec, charset
        curve_styles = [curve.style for curve in spec.curves]
        layers = ["plot-bound", *(cloud.style for cloud in spec.points), "plot-cursor"]
        glyphs = {"plot-bound": ".", "plot-cursor": "|"}
        glyphs |= {curve.style: curve.glyph for curve in spec.curves}
        names = tuple(dict.fromkeys(layers + curve_styles))
        self.canvas = Canvas(cells, rows, names, charset, glyphs)
        self.low, self.high = x_range
        self.y_low, self.y_high = y_range
        self.x_from = log2(max(self.low, 1.0)) if spec.is_log else self.low
        x_to = log2(max(self.high, 2.0)) if spec.is_log else self.high
        self.x_scale = (self.canvas.dots_wide - 1) / ((x_to - self.x_from) or 1.0)
        self.y_scale = (self.canvas.dots_high - 1) / ((self.y_high - self.y_low) or 1.0)
        self.x_scale = usable_scale(self.x_scale)
        self.y_scale = usable_scale(self.y_scale)

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (log2(x) if x > 0 else -inf) if self.spec.is_log else x
        return (across - self.x_from) * self.x_scale, (self.y_high - y) * self.y_scale

    def dot_x(self, x: float) -> int:
        return _nearest(self.place(x, 0.0)[0], self.canvas.dots_wide)

    def dot_y(self, y: float) -> int:
        return _nearest((self.y_high - y) * self.y_scale, self.canvas.dots_high)

    def samples(self, points: tuple[Point, ...]) -> set[tuple[int, int]]:
        """Dots of samples, each once; values beyond the range lie on the edge."""
        bottom, low, high = max(self.canvas.dots_high - 1, 0), self.low, self.high
        geometry = (low, high, self.y_low, self.y_high, self.canvas.width, bottom, self.spec.is_log)
        known, dots = _recall(points, geometry)
        fresh = points[known:] if known else points
        first, last = self.y_low, self.y_high
        top, y_scale, left, scale = last, self.y_scale, self.x_from, self.x_scale
        across = log2 if self.spec.is_log else float
        dots |= {
            (int((across(x) - left) * scale + 0.5), int((top - y) * y_scale + 0.5))
            for x, y in fresh
            if low <= x <= high and first <= y <= last
        }
        dots |= {(self.dot_x(x), 0) for x, y in fresh if low <= x <= high and last < y < LIMIT}
        dots |= {(self.dot_x(x), bottom) for x, y in fresh if low <= x <= high and y < first}
        _remember(points, geometry, dots)
        return dots

    def draw(self, has_values: bool, show_unit: bool) -> tuple[Row, ...]:
        spec, canvas = self.spec, self.canvas
        if not has_values:
            text = spec.empty
            start = (canvas.width - width_of(text)) // 2
            canvas.label(max(start, 0), max(canvas.height - 1, 0) // 2, text, "dim")
            return canvas.rows()
        for cloud in spec.points:
            canvas.dots(cloud.style, self.samples(cloud.points))
        if spec.cursor_tokens is not None and self.low <= spec.cursor_tokens <= self.high:
            x = self.dot_x(spec.cursor_tokens)
            canvas.line("plot-cursor", ((x, 0), (x, canvas.dots_high - 1)), "dashed")
        for curve in spec.curves:
            places = [self.place(x, y) for x, y in curve.points]
            canvas.line(curve.style, places, curve.dash)
        self._bound()
        self._live()
        if show_unit and spec.unit:
            self._first_free(spec.unit, ((canvas.width - len(spec.unit), 0), (1, 0)), "axis-label")
        return canvas.rows()

    def _bound(self) -> None:
        bound, canvas = self.spec.bound, self.canvas
        if bound is None or not -LIMIT < bound.value < LIMIT:
            return
        text = f" {bound.label}"
        right, bottom = canvas.width - len(text), canvas.height - 1
        if bound.value > self.y_high:
            self._first_free(text, ((right, 0),), "plot-bound")
            return
        if bound.value < self.y_low:
            self._first_free(text, ((right, bottom), (0, bottom)), "plot-bound")
            return
        y = self.dot_y(bound.value)
        canvas.line("plot-bound", ((0, y), (canvas.dots_wide - 1, y)), "dotted")
        if len(text) <= canvas.width // 2:
            live = self._live_cell()
            # The point of now is not drawn into the words.
            is_there = live is not None and live[1] == y // 4 and live[0] >= right
            canvas.label(0 if is_there else right, y // 4, text, "plot-bound")

    def _live_cell(self) -> tuple[int, int] | None:
        if self.spec.live is None:
            return None
        tokens, value = self.spec.live
        if not (self.low <= tokens <= self.high and -LIMIT < value < LIMIT):
            return None
        return self.dot_x(tokens) // 2, self.dot_y(value) // 4

    def _live(self) -> None:
        cell = self._live_cell()
        if cell is None:
            return
        x, y = cell
        self.canvas.label(x, y, self.charset.live, "plot-live")
        text = self.spec.live_label
        if text:
            right, left = x + 2, x - len(text) - 1
            beside = ((right, y), (left, y), (right, y - 1), (left, y + 1), (left, y - 1))
            spots = (*beside, (right, y + 1), (right, y - 2), (left, y + 2), (x, y - 1), (x, y + 1))
            self._first_free(text, spots, "plot-live")

    def _first_free(self, text: str, spots: tuple[tuple[int, int], ...], style: str) -> None:
        for x, y in spots:
            if self.canvas.is_free(x, y, len(text)):
                self.canvas.label(x, y, text, style)
                return
