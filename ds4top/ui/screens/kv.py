"""The KV cache view: what it holds, what goes next, then what the log told of it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from textual.app import ComposeResult

from ds4top.core.kvaccount import KvAccount, KvLine
from ds4top.ui.screens.base import TABLE_HINTS, View
from ds4top.ui.screens.detail import Scroller, closes
from ds4top.ui.widgets.lines import LineView, TableView
from ds4top.view import kv as cache
from ds4top.view import table
from ds4top.view.kventry import COLUMNS, entry_rows
from ds4top.view.text import Row, row_text

if TYPE_CHECKING:
    from ds4top.ui.app import Ds4top


class EntryDetail(Scroller):
    """One checkpoint in full."""

    def __init__(self, line: KvLine) -> None:
        super().__init__()
        self._line = line

    def fill(self) -> None:
        """The entry's figures."""
        app: Ds4top = self.app  # type: ignore[assignment]
        rows = (*entry_rows(self._line, app.model), *closes(app.keys))
        self.query_one(TableView).show_table(None, list(enumerate(rows)))


class Kv(View):
    """A summary, the entries, and under them what the log told."""

    name_ = "kv"
    hints = TABLE_HINTS

    def __init__(self) -> None:
        super().__init__()
        self.book = cache.KvBook()
        self.sort_index = 0
        self.descending = COLUMNS[0].descending
        self._turned = False
        self._lines: dict[Hashable, KvLine] = {}
        self._shown: list[KvLine] = []
        self._key: tuple[object, ...] = ()
        # Kept, so that its id is not used again while the key holds it.
        self._of: KvAccount | None = None

    def body(self) -> ComposeResult:
        """Summary over table."""
        charset = self.ds4top.look.charset
        yield LineView(id="kv-summary", charset=charset)
        yield TableView(id="kv-table", charset=charset)

    def table(self) -> TableView:
        """Entries, then the log's rows."""
        return self.query_one("#kv-table", TableView)

    def show_body(self) -> None:
        """Both, as of now."""
        app = self.ds4top
        model, look, width = app.model, app.look, self.size.width
        head = self.query_one("#kv-summary", LineView)
        make = cache.compact if self.size.height < _SHORT else cache.summary
        rows = make(model, app.today(), self.book, width, look)
        if head.styles.height is None or head.styles.height.value != len(rows):
            head.styles.height = len(rows)
        head.show(rows)
        self._show_table()

    def _show_table(self) -> None:
        app = self.ds4top
        model, now = app.model, app.model.now
        found = self.book.account(model)
        chosen = table.fitting(COLUMNS, self.size.width)
        sort = COLUMNS[self.sort_index].head
        lines = self._chosen(found, sort, now)
        below = self._below()
        if not lines and below and not below[0][1]:
            # The gap is between the entries and the rest.
            del below[0]

        def row_of(index: int) -> Row:
            if index < len(lines):
                return table.item_row(lines[index], chosen, now, app.look.charset)
            return below[index - len(lines)][1]

        keys = [line.entry.name for line in lines] + [key for key, _ in below]
        header = table.heads(chosen, sort, self.descending) if found and found.lines else None
        self.table().show_keys(header, keys, row_of)

    def _below(self) -> list[cache.Keyed]:
        """What the log told, as far as it matches the filter."""
        app, words = self.ds4top, self.filter_text.lower().split()
        told = [
            (key, each)
            for key, each in cache.story(app.model, app.look.charset)
            if not words or all(word in row_text(each).lower() for word in words)
        ]
        return cache.in_columns(told, self.size.width, app.look.charset)

    def _chosen(self, found: KvAccount | None, sort: str, now: float) -> list[KvLine]:
        """Entries in their order; a big directory is not sorted again at each tick."""
        key = (id(found), self.filter_text, sort, self.descending)
        if key != self._key:
            self._key, self._of = key, found
            lines = found.lines if found else ()
            self._shown = table.select(lines, COLUMNS, sort, self.descending, self.filter_text, now)
            self._lines = {line.entry.name: line for line in self._shown}
        return self._shown

    def action_sort(self) -> None:
        """The next column that is in sight; back at the first, the other way round."""
        chosen = table.fitting(COLUMNS, self.size.width)
        column = next((c for c in chosen if COLUMNS.index(c) > self.sort_index), chosen[0])
        self.sort_index = COLUMNS.index(column)
        if self.sort_index == 0:
            self._turned = not self._turned
        self.descending = column.descending != (self.sort_index == 0 and self._turned)
        self.show_body()
        self.say(f"sorted by {column.head}")

    def action_details(self) -> None:
        """Open the entry under the cursor."""
        line = self._lines.get(self.table().selected_key)
        if line is None:
            self.say(f"no entry under the cursor: {self.movers} choose one")
            return
        self.app.push_screen(EntryDetail(line))

    def row_text(self) -> str:
        """The row under the cursor."""
        key = self.table().selected_key
        if (line := self._lines.get(key)) is not None:
            return row_text(table.item_row(line, COLUMNS, self.ds4top.model.now)).strip()
        rows = dict(self._below())
        return row_text(rows[key]).strip() if key in rows else ""


_SHORT = 20
