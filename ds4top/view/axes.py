"""Ticks, their labels and the frame around a canvas, shared by the plots.

Ticks of a token axis are powers of two (K = 1,024); those of any other axis are 1, 2 or 5 times a
power of ten. A label is left out rather than squeezed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, log10

from ds4top.view.text import Charset, Part, Row, Span, clip, fit, pack, row, row_width

KI = 1024
LIMIT = 1e15
"""Values beyond this are no measurement; they are left out like unknown ones."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A value on an axis and what stands beside it."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows and columns of a picture are shared out."""

    title: bool
    plot_rows: int
    axis: bool
    labels: bool
    """Whether the labels of the horizontal axis have a row of their own, else they are on it."""


def layout(width: int, height: int, wants_title: bool) -> Layout:
    """What a picture of this size has room for: the plot keeps at least half of the rows."""
    title = wants_title and height >= 5
    labels = height >= 7 + (not wants_title)
    axis = height >= 2
    return Layout(title, max(height - title - axis - labels, 0), axis, labels)


def usable_scale(scale: float) -> float:
    """A scale of dots per unit, 0 where the range is so narrow or wide that it is none."""
    return scale if 1 / (LIMIT * LIMIT) < scale < LIMIT * LIMIT else 0.0


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that needs at most ``count`` steps."""
    if span <= 0 or count <= 0:
        return 1.0
    raw = span / count
    power = 10.0 ** floor(log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999999)


def value_ticks(low: float, high: float, rows: int) -> tuple[float, float, tuple[Tick, ...]]:
    """A range that holds ``low`` to ``high`` closely, and its ticks on round numbers.

    The range moves in fifths of a tick, so that it holds still while values come and go. It begins
    at zero when ``low`` is under a quarter of ``high``: then a fall is shown as it is.
    """
    count = min(max(rows // 3, 2), 6) if rows > 2 else 1
    if 0 <= low <= high * 0.25:
        low = 0.0
    if high - low <= max(abs(low), abs(high)) * 1e-9 + 1e-12:
        high = low + (abs(low) * 0.1 or 1.0)
    step = nice_step(high - low, count)
    low, high, indices = _ends(low, high, step)
    if len(indices) < 2 <= count:
        step = nice_step(step * 0.4, 1)
        low, high, indices = _ends(low, high, step)
    digits = max(-floor(log10(step) + 1e-9), 0)
    return low, high, tuple([Tick(i * step, f"{i * step:,.{digits}f}") for i in indices])


def _ends(low: float, high: float, step: float) -> tuple[float, float, range]:
    """The range in fifths of a step around two values, and the steps in it."""
    fine = step / 5
    low, high = floor(low / fine + 1e-9) * fine, ceil(high / fine - 1e-9) * fine
    return low, high, range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)


def token_label(tokens: float) -> str:
    """A tick of the context axis: ``512``, ``4K``, ``128K``, ``1M`` (K is 1,024 here)."""
    for letter, unit in (("M", KI * KI), ("K", KI)):
        if tokens >= unit:
            return f"{tokens / unit:g}{letter}"
    return f"{tokens:g}"


def token_ticks(low: float, high: float, cells: int, is_log: bool) -> tuple[Tick, ...]:
    """Ticks of a context axis over ``cells`` columns, as many as fit without touching."""
    if high <= low or cells <= 0:
        return ()
    if is_log:
        values = [2.0**k for k in range(ceil(log2(max(low, 1))), floor(log2(high)) + 1)]
        for stride in range(1, len(values) + 1):
            # From the right: the end of the window is what one looks for.
            ticks = tuple(Tick(v, token_label(v)) for v in reversed(values[::-stride]))
            if _fits(ticks, [log2(t.value / low) / log2(high / low) for t in ticks], cells):
                return ticks
        return ()
    step = 2.0 ** ceil(log2(max((high - low) / max(cells // 4, 1), 1)))
    while True:
        first = ceil(low / step)
        ticks = tuple(
            Tick(i * step, token_label(i * step)) for i in range(first, floor(high / step) + 1)
        )
        if _fits(ticks, [(t.value - low) / (high - low) for t in ticks], cells):
            return ticks
        step *= 2


def _fits(ticks: Sequence[Tick], places: Sequence[float], cells: int) -> bool:
    gap = 2 if cells >= 40 else 1
    free_from = -gap
    for tick, place in zip(ticks, places, strict=True):
        left = label_start(round(place * (cells - 1)), len(tick.label), cells)
        if left < free_from + gap or len(tick.label) > cells:
            return False
        free_from = left + len(tick.label)
    return True


def label_start(column: int, length: int, cells: int) -> int:
    """Where a label of ``length`` begins to stand centred under ``column`` and inside."""
    return max(min(column - (length - 1) // 2, cells - length), 0)


def gutter_width(ticks: Sequence[Tick], width: int) -> int:
    """Columns left of the plot: labels, a blank where there is room, and the axis itself."""
    longest = max((len(tick.label) for tick in ticks), default=0)
    blank = 1 if width >= 30 else 0
    wanted = longest + blank + 1
    return wanted if width >= wanted + 8 else 0


def with_value_axis(
    rows: Sequence[Row], marks: dict[int, str], gutter: int, charset: Charset
) -> list[Row]:
    """Canvas rows with the vertical axis and its labels (by row number) to their left."""
    if not gutter:
        return list(rows)
    line, tick = charset.axis[0], charset.axis[1]
    blank = max(gutter - 1 - max((len(text) for text in marks.values()), default=0), 0) and 1
    done = []
    for number, content in enumerate(rows):
        text = marks.get(number)
        label = ("" if text is None else text + " " * blank).rjust(gutter - 1)
        edge = (Span(label, "axis-label"), Span(line if text is None else tick, "axis"))
        done.append(edge[not label :] + content)
    return done


def base_rows(
    marks: Sequence[tuple[int, str]],
    cells: int,
    gutter: int,
    charset: Charset,
    own_row: bool,
    corner: str = "",
) -> list[Row]:
    """The horizontal axis over ``cells`` columns, its labels below it or (``own_row`` false) in it.

    ``marks`` are columns and labels; ``corner`` is the label of the lowest value, if it is there.
    """
    angle, flat, tick = charset.axis[2], charset.axis[3], charset.axis[4]
    marks = [(column, text) for column, text in marks if len(text) <= cells]
    line = [flat] * cells
    labels = [" "] * cells
    if own_row:
        for column, text in marks:
            line[column] = tick
            start = label_start(column, len(text), cells)
            labels[start : start + len(text)] = text
    lead = (corner.rjust(max(gutter - 1, 0)), "axis-label")
    axis: Row = row(lead, (angle, "axis")) if gutter else ()
    if own_row:
        below = row((" " * gutter, "axis-label"), ("".join(labels), "axis-label"))
        return [row(axis, ("".join(line), "axis")), below]
    parts: list[Part] = [axis]
    at = 0
    for column, text in marks:
        start = label_start(column, len(text), cells)
        parts += [(flat * (start - at), "axis"), (text, "axis-label")]
        at = start + len(text)
    return [row(*parts, (flat * (cells - at), "axis"))]


def title_row(
    title: str, notes: Sequence[Part], legend: Sequence[Row], width: int, charset: Charset
) -> Row:
    """Title and notes at the left, the legend at the right; the legend goes before the notes."""
    head = row((title, "title"))
    right = pack(legend, width - row_width(head) - 2, gap=2)
    room = width - row_width(right) - 2 * bool(right)
    left = clip(pack([head, *notes], room, gap=3) or head, max(room, 0), charset)
    return row(fit(left, width - row_width(right), "<", charset), right)
