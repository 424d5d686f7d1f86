"""The Live view: enough by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from ds4top.core.state import Request
from ds4top.ui.screens.base import View
from ds4top.ui.screens.detail import Detail
from ds4top.ui.widgets.lines import LineView, TableView
from ds4top.ui.widgets.trend import Trend
from ds4top.view import requests as req
from ds4top.view.live import compact_rows, kv_line, kv_rows
from ds4top.view.memory import memory_line, memory_rows
from ds4top.view.now import now_rows
from ds4top.view.plot import draw_plot
from ds4top.view.rates import plot_spec
from ds4top.view.table import fitting, heads, item_row
from ds4top.view.text import row_text

_RECENT = 500


class RequestTable(View):
    """What Live and Requests share: a table of requests, sorted, filtered, opened."""

    def __init__(self) -> None:
        super().__init__()
        self.sort_index = 0
        self.descending = True
        self._shown: Sequence[Request] = []
        self._drawn: tuple[object, ...] = ()

    def table(self) -> TableView:
        """The table of requests."""
        return self.query_one(TableView)

    @property
    def shown_requests(self) -> Sequence[Request]:
        """The requests of the table, in its order."""
        return self._shown

    def show_requests(self, limit: int | None) -> None:
        """Fill the table; rows that did not change are not made again."""
        app = self.ds4top
        table = self.table()
        if not table.display or not table.size.width:
            return
        log, tz, look = app.model.log, app.model.tz, app.look
        chosen = fitting(req.COLUMNS, table.size.width, least=3)
        sort = req.COLUMNS[self.sort_index].head
        key = (id(log), log.version, self.filter_text, sort, self.descending, table.size)
        if key == self._drawn and self._shown:
            return
        self._drawn = key
        self._shown = req.select(log, limit, sort, self.descending, self.filter_text, tz)
        shown = self._shown
        if not shown:
            rows = req.empty_rows(app.model, self.filter_text, table.size.width, limit is None)
            table.show_table(heads(chosen, sort, self.descending), list(enumerate(rows)))
            return
        table.show_keys(
            heads(chosen, sort, self.descending),
            req.numbers(shown, sort, self.descending, self.filter_text),
            lambda index: item_row(shown[index], chosen, tz, look.charset),
        )

    @property
    def selected_request(self) -> Request | None:
        """The request under the cursor."""
        at, _ = self.table().place
        return self._shown[at - 1] if at is not None and at <= len(self._shown) else None

    def action_details(self) -> None:
        """Open the request under the cursor, or the newest."""
        request = self.selected_request or self.ds4top.model.log.last_request
        if request is None:
            self.say("no request yet")
            return
        self.app.push_screen(Detail(request))

    def action_sort(self) -> None:
        """The next column; back at the first, the other way round."""
        self.sort_index = (self.sort_index + 1) % len(req.COLUMNS)
        if self.sort_index == 0:
            self.descending = not self.descending
        self.show_body()
        self.say(f"sorted by {req.COLUMNS[self.sort_index].head}")

    def row_text(self) -> str:
        """The selected request as its row."""
        request = self.selected_request
        if request is None:
            return ""
        look, tz = self.ds4top.look, self.ds4top.model.tz
        return row_text(item_row(request, req.COLUMNS, tz, look.charset)).strip()


class Live(RequestTable):
    """State, rate, is it normal, context, headroom: in this order."""

    name_ = "live"
    hints: ClassVar[tuple[tuple[str, str], ...]] = (
        ("chart.window", "window"),
        ("chart.axis", "axis"),
        ("chart.unit", "unit"),
        ("filter.edit", "filter"),
        ("app.help", "help"),
        ("app.quit", "quit"),
    )

    def body(self) -> ComposeResult:
        """Now and cache at the left, the plot at the right, memory and requests below."""
        charset = self.ds4top.look.charset
        with Horizontal(id="top"):
            with Vertical(id="left"):
                yield LineView(id="now", charset=charset)
                yield LineView(id="kv", charset=charset)
                yield Trend(id="trend", charset=charset)
            yield LineView(id="plot", charset=charset)
        yield LineView(id="memory", charset=charset)
        yield TableView(id="recent", charset=charset)

    def on_mount(self) -> None:
        """Keep references; queries are not free."""
        self._now = self.query_one("#now", LineView)
        self._kv = self.query_one("#kv", LineView)
        self._trend = self.query_one(Trend)
        self._plot = self.query_one("#plot", LineView)
        self._memory = self.query_one("#memory", LineView)
        self._plotted: tuple[object, ...] = ()

    def show_body(self) -> None:
        """Every panel that is in sight."""
        app = self.ds4top
        model, look, book = app.model, app.look, app.book
        status, today = app.status(), app.today()
        width = self._now.size.width
        if self.has_class("-short") or self.has_class("-tiny"):
            self._now.show(compact_rows(model, status, look, book, today, width))
        else:
            self._now.show(now_rows(model, status, look, book, width))
        if self._kv.display:
            tall = self._kv.size.height > 1
            self._kv.show(
                kv_rows(model, today, look.charset) if tall else (kv_line(model, today, width),)
            )
        if self._memory.display:
            size = self._memory.size
            if size.height > 1:
                self._memory.show(memory_rows(model, status, size.width, look))
            else:
                self._memory.show((memory_line(model, status, size.width),))
        if self._trend.display:
            self._trend.show_trend(model)
        if self._plot.display:
            self._show_plot()
        self.show_requests(_RECENT)

    def _show_plot(self) -> None:
        app = self.ds4top
        log, look = app.model.log, app.look
        samples = log.decode
        running = log.running
        live = (running.context_tokens, running.decode_tps) if running else None
        # A sample leaves the window at most once a column; minutes are fine enough.
        window = app.model.now // max(look.window_s / 60, 1)
        key = (
            id(log),
            len(samples) + samples.dropped,
            live,
            look,
            self._plot.size,
            app.theme,
            window,
        )
        if key == self._plotted:
            return
        self._plotted = key
        size = self._plot.size
        spec = plot_spec(app.model, look, app.book)
        self._plot.show(draw_plot(spec, size.width, size.height, look.charset))
