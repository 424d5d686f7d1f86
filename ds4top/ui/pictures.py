"""What a screen shows as a picture, SVG and text: secrets masked, every cell in its place."""

from __future__ import annotations

import io
import re
from typing import Any, NamedTuple

from rich.console import Console
from rich.segment import Segment, Segments
from rich.terminal_theme import SVG_EXPORT_THEME
from textual._compositor import Compositor
from textual.app import App
from textual.strip import Strip

from ds4top.core.secrets import hidden
from ds4top.view.text import take, width_of

_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class Picture(NamedTuple):
    """The two forms of a picture."""

    svg: str
    text: str


def picture(app: App[Any], title: str) -> Picture:
    """What the current screen shows now."""
    width, height = app.size
    lines = [_masked(strip) for strip in _strips(app)]
    console = Console(
        width=width,
        height=height,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        record=True,
        legacy_windows=False,
    )
    console.print(Segments([part for line in lines for part in (*line, Segment.line())]))
    svg = console.export_svg(title=title, unique_id="ds4top", theme=SVG_EXPORT_THEME)
    text = "".join("".join(part.text for part in line).rstrip() + "\n" for line in lines)
    # The fonts would be fetched from a server of somebody else when the picture is opened.
    return Picture(_FONTS.sub("", svg).replace("Fira Code", "monospace"), text)


def _strips(app: App[Any]) -> list[Strip]:
    compositor: Compositor = app.screen._compositor
    return compositor.render_strips()


def masked_cells(text: str) -> str:
    """A line with its secrets masked, every cell in its place."""
    for first, last in reversed(hidden(text)):
        text = text[:first] + "*" * width_of(text[first:last]) + text[last:]
    return text


def _masked(strip: Strip) -> list[Segment]:
    """The segments of a line with what is hidden taken out of them."""
    whole = strip.text
    clean = masked_cells(whole)
    if clean == whole:
        return list(strip)
    out = []
    for segment in strip:
        text = take(clean, segment.cell_length)
        clean = clean[len(text) :]
        out.append(Segment(text, segment.style))
    return out
