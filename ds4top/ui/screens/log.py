"""The server's log: any line of it, coloured by event; filter, search, follow."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Input

from ds4top.core.logtext import words_of
from ds4top.ui.screens.base import View
from ds4top.ui.widgets.lines import LineView, TableView
from ds4top.view.logview import (
    Pages,
    bar_row,
    line_row,
    nearest,
    next_match,
    text_of,
)
from ds4top.view.mend import empty_log_rows
from ds4top.view.text import Row

_EXPORTED = 20_000
"""Lines of an export at most."""


class Log(View):
    """The server's log, coloured by event; follows its end.

    A filter shows the lines that match; Esc shows all lines again around the chosen one, and
    ``n`` and ``N`` go on from match to match.
    """

    name_ = "log"
    acts_first = False
    hints: ClassVar[tuple[tuple[str, str], ...]] = (
        ("filter.edit", "filter"),
        ("filter.next", "next"),
        ("follow.toggle", "follow"),
        ("move.first", "first"),
        ("move.last", "last"),
        ("text.toggle", "model text"),
        ("app.help", "help"),
        ("app.quit", "quit"),
    )

    class Arrived(Message):
        """More of the log was counted or searched."""

    def __init__(self) -> None:
        super().__init__()
        self._hide = True
        self._marked = ""
        """What ``n`` and ``N`` look for while all lines are shown."""

    def body(self) -> ComposeResult:
        """What is in sight of how much, and the lines."""
        charset = self.ds4top.look.charset
        yield LineView(id="log-bar", charset=charset)
        yield TableView(id="log", follow=True, charset=charset)

    def on_mount(self) -> None:
        """Keep references; queries are not free."""
        self._bar = self.query_one("#log-bar", LineView)
        self._table = self.query_one("#log", TableView)

    def table(self) -> TableView:
        """The lines."""
        return self._table

    @property
    def pages(self) -> Pages:
        """The lines that can be reached."""
        return self.ds4top.log_book.pages(self.arrived)

    def arrived(self) -> None:
        """Paint again; called from another thread."""
        with suppress(RuntimeError):
            self.post_message(self.Arrived())

    def on_log_arrived(self) -> None:
        """Show what was counted or found, unless the view is frozen or hidden."""
        if self.is_current and not self.ds4top.look.frozen:
            self._show()

    def show_body(self) -> None:
        """The lines, those that match the filter; looks whether there are more."""
        self.pages.wake()
        self._show()

    def _show(self) -> None:
        pages, table = self.pages, self._table
        words = words_of(self.filter_text or self._marked)
        pages.search(words, hide=self._hide)
        rows = pages.rows(found=bool(self.filter_text))

        def row_of(index: int) -> Row:
            return line_row(text_of(pages.line(rows[index]), hide=self._hide), words)

        before = table.selected_key
        shape = pages.shape
        if len(rows) or shape.searching or shape.indexed_bytes < shape.size_bytes:
            table.show_keys(None, rows, row_of)
        else:
            empty = empty_log_rows(self.ds4top.model, self.filter_text, self.size.width)
            table.show_table(None, [(f"empty {n}", line) for n, line in enumerate(empty)])
        if isinstance(before, int) and table.selected_key != before and not table.follow:
            # The row is not among these: the one nearest to it takes the cursor.
            table.select(nearest(rows, before))
        self._show_bar()

    def _show_bar(self) -> None:
        table, shape = self._table, self.pages.shape
        place = table.place[0]
        key = table.selected_key
        if place is not None and self.filter_text and isinstance(key, int):
            every = self.pages.rows()
            with suppress(ValueError):
                place = every.index(key) + 1
        self._bar.show(
            (
                bar_row(
                    shape,
                    place,
                    self._marked,
                    filtered=bool(self.filter_text),
                    follow=table.follow,
                    width=self._bar.size.width,
                    charset=self.ds4top.look.charset,
                    keys=self.ds4top.keys,
                ),
            )
        )

    def action_move(self, step: int) -> None:
        """Move by rows; the place is painted with them, not a message later."""
        super().action_move(step)
        self._show_bar()

    def action_page(self, step: int) -> None:
        """Move by screenfuls."""
        super().action_page(step)
        self._show_bar()

    def action_home(self) -> None:
        """To the first line."""
        super().action_home()
        self._show_bar()

    def action_end(self) -> None:
        """To the last line."""
        super().action_end()
        self._show_bar()

    def on_table_view_moved(self, event: TableView.Moved) -> None:
        """The bar says where the cursor is."""
        self._show_bar()

    # actions -------------------------------------------------------------------------------

    def action_match(self, step: int) -> None:
        """The next or previous match: among all lines after Esc, else rows are matches."""
        if self.filter_text or not self._marked:
            super().action_match(step)
            return
        key = self._table.selected_key
        found = next_match(self.pages.rows(found=True), key if isinstance(key, int) else None, step)
        if found is not None:
            self._table.select(found)
        elif self.pages.shape.searching:
            self.say("still searching")
        else:
            self.say(f"no {'later' if step > 0 else 'earlier'} line with {self._marked}")

    def action_text(self) -> None:
        """Show or hide what the model wrote."""
        self._hide = not self._hide
        self._show()
        again = self.ds4top.keys["text.toggle"]
        self.say("model text hidden" if self._hide else f"model text shown: {again} hides it again")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self._marked = ""
        self.filter_text = event.value.strip()
        self._show()

    def cancel(self) -> bool:
        """Stop a search, then show all lines around the match, then forget it, then the cursor."""
        if self.pages.stop_search():
            self._show_bar()
            self.say("search stopped")
            return True
        if self.filter_text and not self.query("#filter"):
            self._marked, self.filter_text = self.filter_text, ""
            self.ds4top.paint()
            keys = self.ds4top.keys
            both = f"{keys['filter.next']} and {keys['filter.previous']}"
            end = keys["app.cancel"]
            self.say(f"all lines; {both} go on with {self._marked}; {end} again ends that")
            return True
        if self._marked:
            self._marked = ""
            self.ds4top.paint()
            return True
        return super().cancel()

    def shown_lines(self) -> list[tuple[int, str]]:
        """Lines that the filter leaves, the newest where they are many."""
        pages, every = self.pages, self.pages.rows()
        rows = pages.rows(found=True) if self.filter_text else every
        keys = rows[max(len(rows) - _EXPORTED, 0) :]
        return [
            (every.index(key) + 1, text_of(pages.line(key), hide=self._hide))
            for key in keys
            if pages.line(key) is not None
        ]

    def row_text(self) -> str:
        """The line under the cursor."""
        key = self._table.selected_key
        line = self.pages.line(key) if isinstance(key, int) else None
        return "" if line is None else text_of(line, hide=self._hide)
