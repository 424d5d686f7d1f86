"""Widgets of rows in a running app: only changed cells are painted, the cursor keeps its row."""

from __future__ import annotations

import re
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.screen import Screen

from ds4top.ui.paint import TightPaint, honour_no_color
from ds4top.ui.theme import find
from ds4top.ui.widgets.lines import LineView, TableView
from ds4top.view.text import ASCII, clean, row, width_of

HEADER = row(("NAME", "header"))
SIZE = (60, 12)


class Board(TightPaint):
    """A line beside another, and a table."""

    CSS = """
    Board { background: $background; layout: vertical; }
    #pair { layout: horizontal; height: 2; }
    #left { width: 20; height: 2; }
    #right { width: 40; height: 2; }
    #table { height: 5; }
    """

    def compose(self) -> ComposeResult:
        from textual.containers import Container

        with Container(id="pair"):
            yield LineView(id="left")
            yield LineView(id="right")
        yield TableView(id="table")


class StockBoard(Board):
    """The same, painted by Textual's own compositor."""

    def __init__(self) -> None:
        super().__init__()
        self._compositor = Screen()._compositor


class Bench(App[None]):
    """Keeps what would have gone to the terminal."""

    MODES: ClassVar = {"main": Board, "stock": StockBoard}
    DEFAULT_MODE = "main"

    def __init__(self, theme: str = "dark") -> None:
        super().__init__()
        honour_no_color(self)
        for known in find().by_name.values():
            self.register_theme(known.to_textual())
        self.theme = theme
        self.sent: list[str] = []
        self.moved: list[object] = []
        self.chosen: list[object] = []

    def _display(self, screen, renderable) -> None:
        if renderable is not None and not self._batch_count:
            self.sent.append(renderable.render_segments(self.console))
        super()._display(screen, renderable)

    def on_table_view_moved(self, event: TableView.Moved) -> None:
        self.moved.append(event.key)

    def on_table_view_chosen(self, event: TableView.Chosen) -> None:
        self.chosen.append(event.key)

    @property
    def left(self) -> LineView:
        return self.screen.query_one("#left", LineView)

    @property
    def right(self) -> LineView:
        return self.screen.query_one("#right", LineView)

    @property
    def table(self) -> TableView:
        return self.screen.query_one("#table", TableView)


class StockBench(Bench):
    """The same with Textual's own compositor."""

    DEFAULT_MODE = "stock"


def regions_of(widget: LineView, monkeypatch) -> list[Region]:
    asked: list[Region] = []
    refresh = widget.refresh

    def watched(*regions, **options):
        asked.extend(regions or [Region(-1, -1, 0, 0)])
        return refresh(*regions, **options)

    monkeypatch.setattr(widget, "refresh", watched)
    return asked


def text_of(widget: LineView) -> list[str]:
    return [widget.render_line(y).text for y in range(widget.size.height)]


def rows_of(keys: str) -> list[tuple[str, tuple]]:
    return [(key, row(f"row {key}")) for key in keys]


@pytest.mark.asyncio
async def test_only_changed_cells_are_refreshed(monkeypatch):
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        app.left.show((row("decode  9.6 tok/s"), row("context 48,325")))
        await pilot.pause()
        asked = regions_of(app.left, monkeypatch)
        app.left.show((row("decode  9.7 tok/s"), row("context 48,325")))
        app.left.show((row("decode  9.7 tok/s"), row("context 48,325")))
        assert asked == [Region(10, 0, 1, 1)]
        await pilot.pause()
        assert text_of(app.left) == ["decode  9.7 tok/s   ", "context 48,325      "]


@pytest.mark.asyncio
async def test_a_digit_costs_a_few_bytes():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        app.right.show((row(("decode  ", "label"), ("9.6", "now"), " tok/s", ("  ok", "ok")),))
        await pilot.pause()
        app.sent.clear()
        app.right.show((row(("decode  ", "label"), ("9.7", "now"), " tok/s", ("  ok", "ok")),))
        await pilot.pause()
        assert len(app.sent) == 1
        assert app.sent[0].startswith("\x1b[0m\x1b[1;31H")
        assert app.sent[0].endswith("m7\x1b[0m")
        assert len(app.sent[0]) <= 60


@pytest.mark.asyncio
async def test_it_costs_less_than_the_compositor_of_textual():
    sizes = {}
    for bench in (Bench, StockBench):
        app = bench()
        async with app.run_test(size=SIZE) as pilot:
            for value in ("9.6", "9.7"):
                app.sent.clear()
                parts = [
                    part for _ in range(3) for part in (("tok ", "label"), (value, "now"), " ")
                ]
                app.right.show((row(*parts),))
                await pilot.pause()
            sizes[bench] = sum(map(len, app.sent))
    assert 0 < sizes[Bench] < sizes[StockBench] * 0.5


@pytest.mark.asyncio
async def test_nothing_new_sends_nothing():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        app.left.show((row("same"),))
        app.table.show_table(HEADER, rows_of("abc"))
        await pilot.pause()
        app.sent.clear()
        app.left.show((row("same"),))
        app.left.show((row("same", " "),))
        app.table.show_table(HEADER, rows_of("abc"))
        await pilot.pause()
        assert app.sent == []


@pytest.mark.asyncio
async def test_rows_are_cut_filled_and_clean():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        app.left.show((row("a line that is far too long"), (("\x1b[31m[bold]x", "text"),)))
        await pilot.pause()
        assert text_of(app.left) == ["a line that is far …", "?[31m[bold]x        "]
        app.left.charset = ASCII
        app.left.show((row("– 日 … a line that is too long"),))
        assert text_of(app.left) == ["- ? ~ a line that i~", " " * 20]


@pytest.mark.asyncio
async def test_a_resize_fits_the_rows_anew():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        app.left.show((row("a line that is far too long"),))
        await pilot.pause()
        app.left.styles.width = 30
        await pilot.pause()
        assert text_of(app.left)[0] == "a line that is far too long   "


@pytest.mark.asyncio
async def test_a_theme_gives_other_colours_to_rows_that_stay():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        app.left.show((row(("9.6", "ok")),))
        await pilot.pause()
        colors = []
        for name in ("dark", "light", "ansi", "mono"):
            app.theme = name
            await pilot.pause()
            style = next(iter(app.left.render_line(0))).style
            colors.append((style.color.name, style.bgcolor.name if style.bgcolor else ""))
        assert len(set(colors)) == 4
        assert colors[0] == ("#87d787", "#121212")


@pytest.mark.asyncio
@pytest.mark.parametrize("theme", ["ansi", "dark", "mono"])
async def test_no_color_tells_states_apart(monkeypatch, theme):
    monkeypatch.setenv("NO_COLOR", "1")
    app = Bench(theme)
    async with app.run_test(size=SIZE) as pilot:
        app.sent.clear()
        app.left.show((row((" DECODE ", "state-decode"), (" slow", "warn"), (" fine", "ok")),))
        await pilot.pause()
        sent = "".join(app.sent)
        assert "\x1b[1;7m DECODE " in sent
        assert "\x1b[0;1m slow" in sent
        assert "\x1b[0m fine" in sent
        assert not re.search(r"\x1b\[[0-9;]*(3[0-8]|4[0-8]|9[0-7]|10[0-7])", sent)


@pytest.mark.asyncio
async def test_256_colours_are_numbers_of_the_palette(monkeypatch):
    from rich.color import ColorSystem

    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        app.console._color_system = ColorSystem.EIGHT_BIT
        app.left.show((row(("9.6", "ok")),))
        app.sent.clear()
        await pilot.pause()
        assert "38;5;114" in app.sent[-1]
        assert "38;2;" not in app.sent[-1]


@pytest.mark.asyncio
async def test_the_cursor_stays_on_its_key():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        table = app.table
        table.show_table(HEADER, rows_of("abcdefgh"))
        await pilot.pause()
        assert (table.selected_key, table.place) == (None, (None, 8))
        table.move(1)
        table.move(2)
        assert (table.selected_key, table.place) == ("c", (3, 8))
        table.show_table(HEADER, rows_of("xyabcdefgh"))
        assert (table.selected_key, table.place) == ("c", (5, 10))
        await pilot.pause()
        assert [text.strip() for text in text_of(table)] == [
            "NAME",
            "row a",
            "row b",
            "row c",
            "row d",
        ]
        table.show_table(HEADER, rows_of("xyabdefgh"))
        assert table.selected_key == "d"
        await pilot.pause()
        assert app.moved == ["a", "c", "d"]


@pytest.mark.asyncio
async def test_what_is_new_comes_into_sight_at_the_top_only():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        table = app.table
        table.show_table(HEADER, rows_of("abcdefgh"))
        await pilot.pause()
        table.show_table(HEADER, rows_of("xabcdefgh"))
        assert text_of(table)[1].strip() == "row x"
        table._scroll(3)
        assert text_of(table)[1].strip() == "row c"
        table.show_table(HEADER, rows_of("yxabcdefgh"))
        assert text_of(table)[1].strip() == "row c"


@pytest.mark.asyncio
async def test_moving_scrolls_only_as_far_as_needed():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        table = app.table
        table.show_table(HEADER, rows_of("abcdefghij"))
        await pilot.pause()
        for act, key, first in [
            (lambda: table.end(), "j", "g"),
            (lambda: table.move(-3), "g", "g"),
            (lambda: table.move(-1), "f", "f"),
            (lambda: table.page(1), "i", "f"),
            (lambda: table.page(1), "j", "g"),
            (lambda: table.page(-2), "d", "d"),
            (lambda: table.home(), "a", "a"),
            (lambda: table.move(-1), "a", "a"),
            (lambda: table.select("e"), "e", "b"),
            (lambda: table.select("zz"), None, "b"),
        ]:
            act()
            assert (table.selected_key, text_of(table)[1].strip()) == (key, f"row {first}")


@pytest.mark.asyncio
async def test_following_keeps_the_end_in_sight():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        table = app.table
        table.follow = True
        table.show_table(None, rows_of("abcdefgh"))
        await pilot.pause()
        assert text_of(table)[-1].strip() == "row h"
        table.show_table(None, rows_of("bcdefghi"))
        assert text_of(table)[-1].strip() == "row i"
        table.move(-1)
        assert (table.selected_key, table.follow) == ("i", True)
        table.show_table(None, rows_of("bcdefghij"))
        assert table.selected_key == "j"
        table.move(-1)
        assert (table.selected_key, table.follow) == ("i", False)
        table.show_table(None, rows_of("bcdefghijk"))
        assert (table.selected_key, text_of(table)[-1].strip()) == ("i", "row j")
        table.follow = True
        assert (table.selected_key, text_of(table)[-1].strip()) == ("k", "row k")


@pytest.mark.asyncio
async def test_only_rows_in_sight_are_made():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        made: list[int] = []

        def row_of(index: int):
            made.append(index)
            return row(f"row {index}")

        app.table.show_keys(HEADER, range(5_000), row_of)
        assert made == [0, 1, 2, 3]
        made.clear()
        app.table.select(4_000)
        assert made == [3_997, 3_998, 3_999, 4_000]


@pytest.mark.asyncio
async def test_an_emptied_table_has_no_cursor():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        app.table.show_table(HEADER, rows_of("ab"))
        await pilot.pause()
        app.table.end()
        app.table.show_table(HEADER, [])
        app.table.move(1)
        assert app.table.selected_key is None
        await pilot.pause()
        assert app.moved == ["b", None]


@pytest.mark.asyncio
async def test_a_click_selects_and_chooses():
    app = Bench()
    async with app.run_test(size=SIZE) as pilot:
        app.table.show_table(HEADER, rows_of("abcdefgh"))
        await pilot.pause()
        await pilot.click("#table", offset=(3, 2))
        assert (app.table.selected_key, app.chosen) == ("b", [])
        await pilot.click("#table", offset=(3, 2))
        assert (app.table.selected_key, app.chosen) == ("b", ["b"])
        await pilot.click("#table", offset=(3, 0))
        assert app.table.selected_key == "b"


@pytest.mark.asyncio
async def test_a_lone_view_takes_no_focus():
    app = Bench()
    async with app.run_test(size=SIZE):
        assert not app.left.can_focus
        assert not app.table.can_focus
        assert app.focused is None


@given(text=st.text() | st.text(st.characters(min_codepoint=0x1000)))
def test_our_count_of_cells_is_that_of_the_terminal_library(text):
    assert width_of(clean(text)) == cell_len(clean(text))
