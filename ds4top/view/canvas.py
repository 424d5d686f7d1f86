"""A grid of dots, two by four to a cell, drawn with braille or with ASCII.

A cell has one style: that of the highest layer with a dot in it, and only that layer's dots are
drawn, so that a line stays thin where it crosses a cloud of samples.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from itertools import pairwise
from math import ceil, isfinite

from ds4top.view.text import UNICODE, Charset, Row, Span, clean, width_of

_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_BRAILLE = "".join(chr(0x2800 + bits) for bits in range(256))
_UPPER, _LOWER = 0x1B, 0xE4
_ASCII = "".join(
    ":" if bits & _UPPER and bits & _LOWER else "'" if bits & _UPPER else "." if bits else " "
    for bits in range(256)
)
# A run of one style may reach over blank cells: that saves a change of colour on either side.
_RUNS = re.compile(rb"([^\0])(?:\0*\1)*|\0+", re.DOTALL)
_MAX_STYLES = 255

DASHES = {"solid": (1, 0), "dashed": (3, 2), "dotted": (1, 3)}
"""Dots on and dots off along a line, by the name of the dash."""


class Canvas:
    """Dots of named layers on ``width`` x ``height`` cells; anything outside is left out.

    ``layers`` are style names, the lowest first. ``glyphs`` gives a layer the one character that
    stands for it in ASCII, where dots cannot tell two lines apart.
    """

    def __init__(
        self,
        width: int,
        height: int,
        layers: Sequence[str],
        charset: Charset = UNICODE,
        glyphs: dict[str, str] | None = None,
    ) -> None:
        self.width, self.height = max(width, 0), max(height, 0)
        self.dots_wide, self.dots_high = self.width * 2, self.height * 4
        self._charset = charset
        self._layers = tuple(layers)
        self._glyphs = glyphs or {}
        self._masks: dict[str, dict[int, int]] = {name: {} for name in self._layers}
        self._areas: dict[str, dict[int, str]] = {}
        self._labels: list[tuple[int, str, str]] = []

    def dots(self, layer: str, dots: Iterable[tuple[int, int]]) -> None:
        """Sets dots; ``(0, 0)`` is the upper left one."""
        mask = self._masks[layer]
        width, wide, high = self.width, self.dots_wide, self.dots_high
        for x, y in dots:
            if 0 <= x < wide and 0 <= y < high:
                cell = (y >> 2) * width + (x >> 1)
                mask[cell] = mask.get(cell, 0) | _BITS[x & 1][y & 3]

    def line(self, layer: str, points: Sequence[tuple[float, float]], dash: str = "solid") -> None:
        """A line through points in dots, which may lie outside."""
        on, off = DASHES[dash]
        period = on + off
        right, bottom = self.dots_wide - 1, self.dots_high - 1
        found: list[tuple[int, int]] = []
        for start, end in pairwise(points):
            clipped = _clip_line(start, end, right, bottom)
            if clipped is None:
                continue
            x0, y0, x1, y1 = clipped
            across, down = x1 - x0, y1 - y0
            steps = ceil(max(abs(across), abs(down))) or 1
            across, down = across / steps, down / steps
            dots = [
                (int(x0 + across * step + 0.5), int(y0 + down * step + 0.5))
                for step in range(steps + 1)
            ]
            if off:
                # The dash counts by place, not along the line: pieces of one curve join well.
                axis = 0 if abs(across) >= abs(down) else 1
                dots = [dot for dot in dots if dot[axis] % period < on]
            found += dots
        self.dots(layer, found)

    def area(self, layer: str, x: int, height: float) -> None:
        """Fills a column of cells from the bottom up to ``height`` cells, in solid blocks."""
        if not 0 <= x < self.width or self.height < 1:
            return
        blocks = self._charset.spark
        steps = min(max(round(height * len(blocks)), 1), self.height * len(blocks))
        full, part = divmod(steps, len(blocks))
        cells = self._areas.setdefault(layer, {})
        bottom = (self.height - 1) * self.width + x
        for up in range(full):
            cells[bottom - up * self.width] = blocks[-1]
        if part:
            cells[bottom - full * self.width] = blocks[part - 1]

    def label(self, x: int, y: int, text: str, style: str) -> None:
        """Text over the dots, from cell ``(x, y)`` to the right; one-cell characters only."""
        text = clean(text, self._charset)
        if width_of(text) != len(text):
            text = "?" * len(text)
        if 0 <= y < self.height and x < self.width:
            text = text[max(-x, 0) : self.width - x]
            self._labels.append((y * self.width + max(x, 0), text, style))

    def is_free(self, x: int, y: int, width: int) -> bool:
        """Whether a label of ``width`` cells would be inside and cover no dot and no label."""
        if not (0 <= y < self.height and x >= 0 and x + width <= self.width):
            return False
        cells = range(y * self.width + x, y * self.width + x + width)
        if any(cell in mask for mask in self._taken() for cell in cells):
            return False
        return not any(
            start < cells.stop and cells.start < start + len(text)
            for start, text, _ in self._labels
        )

    def _taken(self) -> tuple[Container[int], ...]:
        return (*self._masks.values(), *self._areas.values())

    def rows(self) -> tuple[Row, ...]:
        """The picture, each row exactly ``width`` cells wide."""
        names = list(dict.fromkeys((*self._layers, *(style for *_, style in self._labels))))
        number = {name: index + 1 for index, name in enumerate(names[:_MAX_STYLES])}
        chars = [" "] * (self.width * self.height)
        styles = bytearray(len(chars))
        for name in self._layers:
            table = self._table(name)
            style = number[name]
            for cell, char in self._areas.get(name, {}).items():
                chars[cell] = char
                styles[cell] = style
            for cell, bits in self._masks[name].items():
                chars[cell] = table[bits]
                styles[cell] = style
        for start, text, name in self._labels:
            chars[start : start + len(text)] = text
            styles[start : start + len(text)] = bytes([number[name]]) * len(text)
        names.insert(0, "text")
        return tuple(
            self._row("".join(chars[at : at + self.width]), styles[at : at + self.width], names)
            for at in range(0, len(chars), self.width or 1)
        )

    def _table(self, layer: str) -> str:
        if self._charset.braille:
            return _BRAILLE
        glyph = self._glyphs.get(layer)
        return glyph * 256 if glyph else _ASCII

    @staticmethod
    def _row(text: str, styles: bytearray, names: list[str]) -> Row:
        return tuple(
            Span(text[run.start() : run.end()], names[styles[run.start()]])
            for run in _RUNS.finditer(styles)
        )


def _clip_line(
    start: tuple[float, float], end: tuple[float, float], right: int, bottom: int
) -> tuple[float, float, float, float] | None:
    """The part of a line inside the grid (Liang and Barsky), or none of it."""
    (x0, y0), (x1, y1) = start, end
    if 0 <= x0 <= right and 0 <= x1 <= right and 0 <= y0 <= bottom and 0 <= y1 <= bottom:
        return x0, y0, x1, y1
    if not all(map(isfinite, (x0, y0, x1, y1))) or right < 0 or bottom < 0:
        return None
    dx, dy = x1 - x0, y1 - y0
    first, last = 0.0, 1.0
    for step, room in ((-dx, x0), (dx, right - x0), (-dy, y0), (dy, bottom - y0)):
        if step == 0:
            if room < 0:
                return None
        elif step < 0:
            first = max(first, room / step)
        else:
            last = min(last, room / step)
    if first > last:
        return None
    return x0 + dx * first, y0 + dy * first, x0 + dx * last, y0 + dy * last
