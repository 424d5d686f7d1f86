"""Requests, Memory, Launch, Day and Sources."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult

from ds4top.ui.screens.base import View
from ds4top.ui.screens.live import RequestTable
from ds4top.ui.widgets.lines import TableView
from ds4top.view import places
from ds4top.view.coldstart import start_section
from ds4top.view.launch import launch_view
from ds4top.view.memview import memory_view
from ds4top.view.sourcesview import sources_view
from ds4top.view.text import Row, row, row_text


class Requests(RequestTable):
    """Every request in a table."""

    name_ = "requests"
    acts_first = False
    hints: ClassVar[tuple[tuple[str, str], ...]] = (
        ("Enter", "details"),
        ("/", "filter"),
        ("s", "sort"),
        ("?", "help"),
        ("q", "quit"),
    )

    def body(self) -> ComposeResult:
        """The table alone."""
        yield TableView(id="requests", charset=self.ds4top.look.charset)

    def show_body(self) -> None:
        """All requests that are kept."""
        self.show_requests(None)


class Page(View):
    """A view of rows that scroll."""

    def body(self) -> ComposeResult:
        """One table of rows without a header."""
        yield TableView(id="page", charset=self.ds4top.look.charset)

    def table(self) -> TableView:
        """The rows."""
        return self.query_one("#page", TableView)

    def rows(self) -> tuple[Row, ...]:
        """What the page says now."""
        return ()

    def show_body(self) -> None:
        """Rows, those that match the filter."""
        words = self.filter_text.lower().split()
        rows = [r for r in self.rows() if not words or all(w in row_text(r).lower() for w in words)]
        self.table().show_table(None, list(enumerate(rows)))

    def row_text(self) -> str:
        """The row under the cursor."""
        key = self.table().selected_key
        rows = self.rows()
        return row_text(rows[key]).strip() if isinstance(key, int) and key < len(rows) else ""


class Memory(Page):
    """Who holds what, how headroom went, what fits."""

    name_ = "memory"

    def rows(self) -> tuple[Row, ...]:
        """What the log says of it."""
        app = self.ds4top
        return memory_view(app.model, app.status(), self.size.width, app.look)


class Launch(Page):
    """The effective launch config, and what the rules say of it."""

    name_ = "launch"

    def rows(self) -> tuple[Row, ...]:
        """Settings and starts."""
        app = self.ds4top
        model, width = app.model, self.size.width
        if model.machine.server is None:
            return places.start_view(model, width)
        loading = start_section(model, app.status(), width, app.look)
        return (*loading[1:], *loading[:1], *launch_view(model, width))


class Day(Page):
    """The report of today."""

    name_ = "day"

    def rows(self) -> tuple[Row, ...]:
        """The report's own words."""
        from ds4top.report.day import day_lines

        return tuple(row(f" {line}") for line in day_lines(self.ds4top.model))


class Sources(Page):
    """Each source with its state."""

    name_ = "sources"

    def rows(self) -> tuple[Row, ...]:
        """State, age, what is missing."""
        return sources_view(self.ds4top.model, self.size.width)
