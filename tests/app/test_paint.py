"""What the tight compositor sends leaves the terminal as a full repaint by Textual would."""

from __future__ import annotations

import random
from typing import ClassVar

import pyte
import pytest
from rich.color import ColorSystem
from textual._compositor import Compositor
from textual.app import App, ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from ds4top.ui.paint import TightPaint
from ds4top.ui.theme import find
from ds4top.ui.widgets.lines import LineView
from ds4top.view.text import row

SIZE = (70, 20)
WORDS = ["9.6", "tok/s", "日本", "…", "██▌", "a b", "x" * 30]
STYLES = ["text", "now", "ok", "warn", "crit", "state-decode", "mem-cache", "dim", "stale"]


class Question(TightPaint, ModalScreen[None]):
    """Over the board, which goes on changing behind it."""

    CSS = "Question { align: center middle; } Question LineView { width: 30; height: 3; }"

    def compose(self) -> ComposeResult:
        yield LineView((row("Restart?"),), id="question")


class Board(TightPaint):
    """Widgets beside, within and over each other."""

    CSS = """
    Board { background: $background; layers: base top; }
    #plain { height: 4; }
    #framed { height: 5; border: round $primary; padding: 0 1; width: 40; }
    #over { layer: top; offset: 6 2; width: 14; height: 4; background: $panel; }
    #long { height: 12; }
    #scroll { height: 6; }
    """

    def compose(self) -> ComposeResult:
        with Vertical():
            yield LineView(id="plain")
            yield LineView(id="framed")
            with VerticalScroll(id="scroll"):
                yield Static("above")
                yield LineView(id="long")
        yield LineView(id="over")


class Bench(App[None]):
    """An app whose output goes into a terminal in memory."""

    MODES: ClassVar = {"main": Board}
    DEFAULT_MODE = "main"

    def __init__(self, theme: str) -> None:
        super().__init__()
        for known in find().by_name.values():
            self.register_theme(known.to_textual())
        self.theme = theme
        self.console._color_system = ColorSystem.EIGHT_BIT
        self.terminal = pyte.Screen(*SIZE)
        self.stream = pyte.Stream(self.terminal)

    def _display(self, screen, renderable) -> None:
        if renderable is not None and not self._batch_count:
            self.stream.feed(renderable.render_segments(self.console))
        super()._display(screen, renderable)

    def seen(self) -> list[list[object]]:
        return cells_of(self.terminal)

    def meant(self) -> list[list[object]]:
        """The screen as Textual itself would send it whole."""
        fresh = pyte.Screen(*SIZE)
        update = Compositor.render_full_update(self.screen._compositor)
        for strip in (strip for line in update.strips for strip in line):
            # Rich keeps the codes of a style it has once written, at any depth of colour.
            strip._render_cache = None
            for segment in strip:
                if segment.style is not None:
                    segment.style._ansi = None
        pyte.Stream(fresh).feed(update.render_segments(self.console))
        return cells_of(fresh)


def cells_of(screen: pyte.Screen) -> list[list[object]]:
    return [[screen.buffer[y][x] for x in range(SIZE[0])] for y in range(SIZE[1])]


@pytest.mark.asyncio
@pytest.mark.parametrize("theme", ["dark", "light", "mono", "ansi", "ansi256"])
async def test_the_terminal_shows_what_is_meant(theme):
    chance = random.Random(7)
    app = Bench(theme)

    def some_row():
        parts = [(chance.choice(WORDS), chance.choice(STYLES)) for _ in range(chance.randint(0, 6))]
        return row(*parts)

    async with app.run_test(size=SIZE) as pilot:
        board = app.screen
        views = [
            board.query_one(f"#{name}", LineView) for name in ("plain", "framed", "over", "long")
        ]
        shown = {view: [some_row() for _ in range(12)] for view in views}
        for step in range(30):
            for view in chance.sample(views, chance.randint(0, 3)):
                for _ in range(chance.randint(1, 3)):
                    shown[view][chance.randrange(12)] = some_row()
                view.show(tuple(shown[view]))
            if step == 10:
                board.query_one("#scroll").scroll_to(y=4, animate=False)
            if step == 14:
                board.query_one("#over").display = False
            if step == 18:
                board.query_one("#over").display = True
            if step == 22:
                await app.push_screen(Question())
            await pilot.pause()
            differ = [
                (x, y, seen, meant)
                for y, pair in enumerate(zip(app.seen(), app.meant(), strict=True))
                for x, (seen, meant) in enumerate(zip(*pair, strict=True))
                if seen != meant
            ]
            assert differ == [], step
