"""Styled text for the terminal as plain values: spans, rows and the small graphics made of them.

A row is a tuple of spans; a span is text with the *name* of a style, which the theme turns into
colours. Everything here counts in terminal cells (a wide character takes two), never wraps and lets
no control character through, so nothing out of a log can reach the terminal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias


class Span(NamedTuple):
    """A run of text in one style (a semantic name such as ``"value"`` or ``"warn"``)."""

    text: str
    style: str = "text"


Row: TypeAlias = tuple[Span, ...]
Part: TypeAlias = "str | tuple[str, str] | Row"
Align: TypeAlias = Literal["<", ">", "^"]


@dataclass(frozen=True, slots=True)
class Charset:
    """The glyphs that pictures are made of; all of them one cell wide."""

    name: str
    ellipsis: str
    dash: str
    blocks: str
    """From empty to full, for a bar that grows to the right."""
    track: str
    """The empty part of a bar."""
    spark: str
    """From low to high, for a sparkline."""
    divider: str
    """Between the parts of a stacked bar."""
    live: str
    """The point of now in a plot."""
    axis: str
    """Vertical, tick on it, corner, horizontal, tick on it."""
    keys: dict[str, str]
    """How a line is drawn in a legend: ``solid``, ``dashed``, ``dotted``, ``points``."""
    braille: bool


UNICODE = Charset(
    name="unicode",
    ellipsis="…",
    dash="\N{EN DASH}",
    blocks=" ▏▎▍▌▋▊▉█",
    track="░",
    spark="▁▂▃▄▅▆▇█",
    divider="▏",
    live="●",
    axis="│┤└─┬",
    keys={"solid": "──", "dashed": "╌╌", "dotted": "··", "points": "⠕⠅"},
    braille=True,
)
ASCII = Charset(
    name="ascii",
    ellipsis="~",
    dash="-",
    blocks=" #",
    track=".",
    spark="_.-=*#",
    divider="|",
    live="@",
    axis="||+-+",
    keys={"solid": "---", "dashed": "===", "dotted": "...", "points": ".:'"},
    braille=False,
)

_TO_ASCII = str.maketrans(
    "–—−…·•●×→←↑↓≥≤≈│─█░▏’‘“”✓✗°",
    "---~.*@x><^v><~|-#.|''\"\"vx.",
)
# Terminals and Unicode tables disagree about the width of these; a wrong guess shifts a whole line.
_CONTESTED = (
    (0x1160, 0x11FF),
    (0x2630, 0x2637),
    (0x268A, 0x268F),
    (0x3164, 0x3164),
    (0x4DC0, 0x4DFF),
    (0xD7B0, 0xD7FF),
    (0xFFA0, 0xFFA0),
    (0x1D300, 0x1D37F),
    (0x1F3FB, 0x1F3FF),
)


# ASCII, box drawing, blocks, braille and our own signs: printed as they are, a cell each.
_PLAIN = re.compile(
    "[ -~\u00b7\u00d7\u2013\u2026\u2190-\u2193\u2500-\u259f\u25cf\u2800-\u28ff]*"
).fullmatch


@lru_cache(maxsize=2048)
def _glyph(char: str) -> tuple[str, int]:
    """What is printed for a character, and the cells it takes."""
    if unicodedata.category(char)[0] == "M" or char in "\u200d\ufe0f\ufe0e":
        return "", 0
    if char == "\t" or unicodedata.category(char) == "Zs":
        return " ", 1
    if not char.isprintable() or any(a <= ord(char) <= b for a, b in _CONTESTED):
        return "?", 1
    return char, 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clean(text: str, charset: Charset = UNICODE) -> str:
    """Text without anything a terminal could act on: controls, overrides and what has no safe width
    become ``?``, blanks of any kind a blank, combining marks go. With ``ASCII`` only ASCII is left.
    """
    if text.isascii():
        if text.isprintable():
            return text
    elif charset.braille:
        if _PLAIN(text):
            return text
        text = unicodedata.normalize("NFC", text)
    else:
        text = text.translate(_TO_ASCII)
        text = "".join(char if char.isascii() else "?" for char in text)
    return "".join([_glyph(char)[0] for char in text])


def is_plain(text: str) -> bool:
    """Whether each character of clean text takes one cell."""
    return text.isascii() or _PLAIN(text) is not None


def width_of(text: str) -> int:
    """Cells that clean text takes."""
    if is_plain(text):
        return len(text)
    return sum([_glyph(char)[1] for char in text])


def row(*parts: Part, style: str = "text") -> Row:
    """A row from strings (in ``style``), ``(text, style)`` pairs and rows.

    Neighbours of one style become one span.
    """
    spans: list[Span] = []
    for part in parts:
        if isinstance(part, str):
            found: Iterable[tuple[str, str]] = ((part, style),)
        elif part and isinstance(part[0], str):
            found = (part,)
        else:
            found = part
        for text, name in found:
            if not (text := clean(text)):
                continue
            if spans and spans[-1].style == name:
                spans[-1] = Span(spans[-1].text + text, name)
            else:
                spans.append(Span(text, name))
    return tuple(spans)


def row_text(line: Row) -> str:
    """The characters of a row."""
    return "".join([span.text for span in line])


def row_width(line: Row) -> int:
    """Cells that a row takes."""
    return sum([width_of(clean(text)) for text, _ in line])


def take(text: str, width: int) -> str:
    """As much of clean text as fits; a wide character at the edge is left out whole."""
    if text.isascii():
        return text[:width]
    used = 0
    for index, char in enumerate(text):
        used += _glyph(char)[1]
        if used > width:
            return text[:index]
    return text


def clip(line: Row, width: int, charset: Charset = UNICODE) -> Row:
    """At most ``width`` cells of a row; where something was cut, it ends in an ellipsis."""
    if width <= 0:
        return ()
    spans: list[Span] = []
    used = 0
    for text, style in line:
        text = clean(text, charset)
        size = width_of(text)
        if used + size > width:
            return _cut(spans, Span(text, style), width, charset)
        if size:
            spans.append(Span(text, style))
            used += size
    return tuple(spans)


def _cut(spans: list[Span], last: Span, width: int, charset: Charset) -> Row:
    room = width - 1 - sum(width_of(text) for text, _ in spans)
    while room < 0:
        # The ellipsis needs a cell of a span that fitted exactly.
        last = spans.pop()
        room = width - 1 - sum(width_of(text) for text, _ in spans)
    spans.append(Span(take(last.text, room) + charset.ellipsis, last.style))
    return tuple(spans)


def pad(line: Row, width: int, align: Align = "<", style: str = "text") -> Row:
    """The row filled with blanks to ``width`` cells; a longer row stays as it is."""
    missing = width - row_width(line)
    if missing <= 0:
        return line
    left = {"<": 0, ">": missing, "^": missing // 2}[align]
    blanks = ((" " * left, style), *line, (" " * (missing - left), style))
    return tuple([Span(text, name) for text, name in blanks if text])


def fit(line: Row, width: int, align: Align = "<", charset: Charset = UNICODE) -> Row:
    """The row at exactly ``width`` cells: clipped with an ellipsis or filled with blanks."""
    return pad(clip(line, width, charset), width, align)


def columns(
    cells: Sequence[Part],
    widths: Sequence[int],
    aligns: str = "",
    *,
    gap: int = 1,
    style: str = "text",
    charset: Charset = UNICODE,
) -> Row:
    """Cells side by side, each at exactly its width, ``gap`` blanks between them.

    ``aligns`` has one of ``<>^`` per column (missing ones mean ``<``); a column of width 0 is left
    out with its gap.
    """
    parts: list[Part] = []
    for index, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        if width <= 0:
            continue
        align: Align = aligns[index] if index < len(aligns) else "<"  # type: ignore[assignment]
        if parts:
            parts.append(" " * gap)
        parts.append(fit(row(cell, style=style), width, align, charset))
    return row(*parts, style=style)


def pack(items: Iterable[Part], width: int, *, gap: int = 3, style: str = "text") -> Row:
    """As many items as fit whole, in order, ``gap`` blanks apart; the rest is left out."""
    done: Row = ()
    for item in items:
        piece = row(item, style=style)
        joined = row(done, " " * gap, piece, style=style) if done else piece
        if row_width(joined) > width:
            break
        done = joined
    return done


def bar(
    fraction: float | None,
    width: int,
    charset: Charset = UNICODE,
    style: str = "bar",
    track: str = "bar-empty",
) -> Row:
    """A bar of exactly ``width`` cells; empty only at 0 (or unknown), full only at 1 or more."""
    if width <= 0:
        return ()
    steps = len(charset.blocks) - 1
    whole = width * steps
    filled = 0
    if fraction is not None and fraction > 0:
        filled = whole if fraction >= 1 else min(max(round(fraction * whole), 1), whole - 1)
    full, part = divmod(filled, steps)
    text = charset.blocks[-1] * full + (charset.blocks[part] if part else "")
    return row((text, style), (charset.track * (width - len(text)), track))


class Share(NamedTuple):
    """A part of a stacked bar: its label (long and short), its amount and its style."""

    label: str
    amount: float
    style: str
    short: str = ""


def shares(amounts: Sequence[float], width: int) -> list[int]:
    """Cells per amount, adding up to ``width``: by largest remainder, one at least for what is more
    than nothing (as long as there are cells).
    """
    amounts = [max(amount, 0.0) for amount in amounts]
    total = sum(amounts)
    if total <= 0 or width <= 0:
        return [0] * len(amounts)
    exact = [amount * width / total for amount in amounts]
    cells = [int(part) for part in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: cells[i] - exact[i])
    for index in by_rest[: width - sum(cells)]:
        cells[index] += 1
    for index, amount in enumerate(amounts):
        largest = max(range(len(cells)), key=cells.__getitem__)
        if amount > 0 and cells[index] == 0 and cells[largest] > 1:
            cells[index] += 1
            cells[largest] -= 1
    return cells


def stacked_bar(parts: Sequence[Share], width: int, charset: Charset = UNICODE) -> Row:
    """Parts side by side, compared by their length, each with as much of its label as fits.

    A divider begins each part but the first, so that the parts stand apart without any colour.
    """
    done: list[Part] = []
    for part, cells in zip(parts, shares([part.amount for part in parts], width), strict=True):
        if not cells:
            continue
        edge = charset.divider if done else ""
        room = cells - len(edge)
        labels = (f" {part.label} ", part.label, f" {part.short} ", part.short, "")
        label = next((text for text in labels if width_of(text) <= room), "")
        done.append((edge + label + " " * (room - width_of(label)), part.style))
    return pad(row(*done), max(width, 0), style="bar-empty")


def sparkline(
    values: Sequence[float | None],
    width: int,
    charset: Charset = UNICODE,
    *,
    low: float | None = None,
    high: float | None = None,
    style: str = "spark",
) -> Row:
    """The last ``width`` values as a line of blocks, newest at the right; unknown ones are blank.

    The scale runs from ``low`` to ``high``, by default over the known values that are shown.
    """
    if width <= 0:
        return ()
    shown = values[-width:]
    known = [value for value in shown if value is not None]
    low = min(known, default=0.0) if low is None else low
    high = max(known, default=0.0) if high is None else high
    top = len(charset.spark) - 1
    scale = top / (high - low) if high > low else 0.0
    text = "".join(
        " " if value is None else charset.spark[min(max(round((value - low) * scale), 0), top)]
        for value in shown
    )
    return pad(row((text, style)), width, ">", style)
