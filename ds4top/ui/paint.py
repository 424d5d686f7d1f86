"""A compositor that sends few bytes.

Textual repaints a changed range from the left edge of its widget and sets and resets every style
anew. Here a range is cut at both ends, and only what differs from the style before is sent: for a
dashboard of small changes that is a fraction of the bytes. ``TightPaint`` is mixed into a screen.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rich.color import Color, ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate
from textual.app import App
from textual.filter import Monochrome, NoColor
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip

from ds4top.view.text import is_plain

_ATTRIBUTES = (
    ("bold", "1"),
    ("dim", "2"),
    ("italic", "3"),
    ("underline", "4"),
    ("blink", "5"),
    ("blink2", "6"),
    ("reverse", "7"),
    ("conceal", "8"),
    ("strike", "9"),
    ("underline2", "21"),
    ("overline", "53"),
)
_PLAIN = ("39", "49", ())


@lru_cache(maxsize=1024)
def _codes(style: Style, system: ColorSystem) -> tuple[str, str, tuple[str, ...]]:
    """Codes of foreground, background and attributes, each by itself."""

    def color(value: Color | None, is_text: bool) -> str:
        if value is None:
            return "39" if is_text else "49"
        return ";".join(value.downgrade(system).get_ansi_codes(foreground=is_text))

    attributes = tuple(code for name, code in _ATTRIBUTES if getattr(style, name))
    return color(style.color, True), color(style.bgcolor, False), attributes


class _Pen:
    """Writes cells one after the other and remembers place and style of the terminal."""

    def __init__(self, console: Console) -> None:
        self._system = console._color_system or ColorSystem.TRUECOLOR
        self._out: list[str] = ["\x1b[0m"]
        self._place: tuple[int, int] | None = None
        self._style: tuple[str, str, tuple[str, ...]] = _PLAIN

    def write(self, x: int, y: int, segments: Iterable[Segment], cells: int) -> None:
        """Writes segments of so many cells at a place."""
        self._move(x, y)
        for text, style, control in segments:
            if control or not text:
                continue
            if style is not None and style.link:
                self._out += ("\x1b[0m", style.render(text, color_system=self._system))
                self._style = _PLAIN
                continue
            self._set(_PLAIN if style is None else _codes(style, self._system))
            self._out.append(text)
        self._place = (x + cells, y)

    def _move(self, x: int, y: int) -> None:
        if self._place == (x, y):
            return
        if self._place and self._place[1] == y and x > self._place[0]:
            self._out.append(f"\x1b[{x - self._place[0]}C")
        else:
            self._out.append(f"\x1b[{y + 1};{x + 1}H")

    def _set(self, wanted: tuple[str, str, tuple[str, ...]]) -> None:
        if wanted == self._style:
            return
        codes: list[str] = []
        if not set(self._style[2]) <= set(wanted[2]):
            codes.append("0")
            self._style = _PLAIN
        codes += [code for code in wanted[2] if code not in self._style[2]]
        codes += [
            code for code, before in zip(wanted[:2], self._style[:2], strict=True) if code != before
        ]
        self._out.append(f"\x1b[{';'.join(codes)}m")
        self._style = wanted

    def text(self) -> str:
        """All that is to be sent; the terminal's style is plain afterwards."""
        return "".join(self._out) + ("" if self._style == _PLAIN else "\x1b[0m")


class TightRanges(ChopsUpdate):
    """Changed ranges: the strips that fill them, each with its row and first column."""

    def __init__(self, pieces: list[tuple[int, int, Strip]]) -> None:
        super().__init__([], [], [])
        self.pieces = sorted(pieces, key=lambda piece: piece[:2])

    def render_segments(self, console: Console) -> str:
        """The update as a string for the terminal."""
        pen = _Pen(console)
        for y, x, strip in self.pieces:
            pen.write(x, y, strip, strip.cell_length)
        return pen.text()


class TightScreenful(LayoutUpdate):
    """A whole screen with no more changes of style than it has."""

    def render_segments(self, console: Console) -> str:
        """The update as a string for the terminal."""
        pen = _Pen(console)
        for y, line in enumerate(self.strips, self.region.y):
            x = self.region.x
            for strip in line:
                pen.write(x, y, strip, strip.cell_length)
                x += strip.cell_length
        return pen.text()


def cropped(strip: Strip, first: int, last: int) -> Strip:
    """A part of a strip.

    Textual's own way keeps the width of every text that it was ever asked about, thousands of them:
    where each character takes a cell there is nothing to measure.
    """
    found: list[Segment] = []
    x = 0
    for text, style, control in strip:
        if control or not is_plain(text):
            return strip.crop(first, last)
        end = x + len(text)
        if end > first and x < last:
            found.append(Segment(text[max(first - x, 0) : last - x], style))
        x = end
    return Strip(found, min(last, x) - first)


_Range = tuple[int, int]


def _split(ranges: list[_Range], first: int, last: int) -> tuple[list[_Range], list[_Range]]:
    """The parts of ranges inside ``first`` to ``last`` and those outside."""
    inside = [(max(a, first), min(b, last)) for a, b in ranges if a < last and b > first]
    before = [(a, min(b, first)) for a, b in ranges if a < first]
    after = [(max(a, last), b) for a, b in ranges if b > last]
    return inside, before + after


class TightCompositor(Compositor):
    """Textual's compositor with the two updates above."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """What changed, if anything; only widgets with a changed cell in sight are asked."""
        regions = self._dirty_regions.copy()
        self._dirty_regions.clear()
        width, height = self.size
        wanted: dict[int, list[_Range]] = {}
        for y, first, last in self._regions_to_spans(regions):
            first, last = max(first, 0), min(last, width)
            if 0 <= y < height and first < last:
                wanted.setdefault(y, []).append((first, last))
        pieces: list[tuple[int, int, Strip]] = []
        # From front to back: what a widget covers is not asked of those behind it.
        for widget, (region, clip) in self.visible_widgets.items():
            if not wanted:
                break
            seen = region.intersection(clip)
            rows = [y for y in seen.line_range if y in wanted]
            parts = [(y, *_split(wanted[y], seen.x, seen.right)) for y in rows]
            parts = [part for part in parts if part[1]]
            if not parts:
                continue
            top, bottom = parts[0][0], parts[-1][0]
            crop = Region(seen.x - region.x, top - region.y, seen.width, bottom - top + 1)
            strips = widget.render_lines(crop)
            for y, inside, rest in parts:
                strip = strips[y - top]
                pieces += [(y, a, cropped(strip, a - seen.x, b - seen.x)) for a, b in inside]
                if rest:
                    wanted[y] = rest
                else:
                    del wanted[y]
        return TightRanges(pieces) if pieces else None

    def render_full_update(self, simplify: bool = False) -> LayoutUpdate:
        """The whole screen."""
        update = super().render_full_update(simplify=simplify)
        return TightScreenful(update.strips, update.region)


class TightPaint(Screen[Any]):
    """Base of the screens: painted by a ``TightCompositor``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._compositor = TightCompositor()


def honour_no_color(app: App[Any]) -> None:
    """Under ``NO_COLOR`` takes all colour away, whatever the theme; call it once the app is made.

    Textual chooses its filter before the theme is set: greys, and black on black once the theme is
    one of the terminal's own colours.
    """
    app._filters = [NoColor() if isinstance(it, Monochrome) else it for it in app._filters]
