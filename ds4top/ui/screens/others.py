"""Requests, Memory, Launch, Day and Sources."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal

from ds4top.archive.paths import KEPT, state_dir
from ds4top.ui.screens.base import TABLE_HINTS, View
from ds4top.ui.screens.live import RequestTable
from ds4top.ui.widgets.lines import LineView, TableView
from ds4top.ui.widgets.trend import Trend
from ds4top.view import places
from ds4top.view import requests as req
from ds4top.view.coldstart import start_section
from ds4top.view.compose import column_width, page
from ds4top.view.launch import launch_view
from ds4top.view.memview import memory_view
from ds4top.view.ownview import setting_rows
from ds4top.view.sourcesview import sources_view
from ds4top.view.text import Row, row_text
from ds4top.view.turns import turns_rows

if TYPE_CHECKING:
    from ds4top.sources.own import OwnReader

_DAY_S = 10.0
_TURNS_S = 15.0
_OWN_S = 0.9
_FRAME = 4
"""Rows of a screen that are not the view's own: header, message, footer, a gap."""
_ONE = 20
"""Rows that one request in full is given beside the table."""
_TURNS = 16
"""Rows of the turns below the requests."""
_CHART = 8
"""Rows that a chart wants at the least."""


class Requests(RequestTable):
    """Every request in a table."""

    name_ = "requests"
    acts_first = False
    hints = TABLE_HINTS

    def body(self) -> ComposeResult:
        """The table; one request beside it and all of them below, where there is room."""
        charset = self.ds4top.look.charset
        with Horizontal(id="pair"):
            yield TableView(id="requests", charset=charset)
            yield LineView(id="one", charset=charset)
        yield LineView(id="turns", charset=charset)

    def on_mount(self) -> None:
        """Keep references."""
        self._one = self.query_one("#one", LineView)
        self._turns = self.query_one("#turns", LineView)
        self._pair = self.query_one("#pair")
        self._turned: tuple[object, ...] = ()

    def show_body(self) -> None:
        """All requests that are kept."""
        self.show_requests(None)
        self._show_one()
        self._share()
        if self._turns.display:
            self._show_turns()

    def _share(self) -> None:
        """While there are few requests, what is below their table takes what they leave."""
        wanted = None
        if self.roomy and self.shown_requests:
            # By steps of two rows, since another height draws the turns anew.
            count = max(-(-(len(self.shown_requests) + 1) // 2) * 2, _ONE)
            wanted = count if count < self.size.height - _FRAME - _TURNS else None
        height = self._pair.styles.height
        if (None if height is None or not height.is_cells else height.value) != wanted:
            self._pair.styles.height = "1fr" if wanted is None else wanted
            self._turns.styles.height = _TURNS if wanted is None else "1fr"
            self.call_after_refresh(self.ds4top.paint)

    def on_table_view_moved(self) -> None:
        """Beside the table is the request under the cursor."""
        self._show_one()

    def _show_one(self) -> None:
        app, size = self.ds4top, self._one.size
        if not self._one.display or not size.width:
            return
        shown = self.shown_requests
        request = self.selected_request or (shown[0] if shown else None)
        rows = req.detail_rows(request, app.look, app.model.tz, size.width) if request else ()
        self._one.show(rows[: size.height])

    def _show_turns(self) -> None:
        app, size = self.ds4top, self._turns.size
        log, look, now = app.model.log, app.look, app.model.now
        key = (id(log), len(log.requests), self.filter_text, look, size, int(now // _TURNS_S))
        if key != self._turned and size.width:
            self._turned = key
            rows = turns_rows(self.shown_requests, now, look, size.width, size.height)
            self._turns.show(rows)


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

    def body(self) -> ComposeResult:
        """The rows; what is left below them on a big screen is a chart's."""
        yield from super().body()
        yield Trend(id="trend", charset=self.ds4top.look.charset)

    def on_mount(self) -> None:
        """Keep references."""
        self._trend = self.query_one(Trend)

    def rows(self) -> tuple[Row, ...]:
        """Who holds what; what the log says of it where nothing else is known."""
        app = self.ds4top
        charted = self._trend.display
        return memory_view(app.model, app.status(), self.size.width, app.look, charted=charted)

    def show_body(self) -> None:
        """Rows and chart."""
        super().show_body()
        wanted = None
        model = self.ds4top.model
        known = len(model.machine.memory.recent.t) > 0
        if self.roomy and (known or model.log.requests):
            # By steps of two rows, since another height draws the whole chart anew.
            count = -(-max(self.table().place[1], 1) // 2) * 2
            wanted = count if self.size.height - _FRAME - count > _CHART else None
        height = self.table().styles.height
        if (None if height is None or not height.is_cells else height.value) != wanted:
            self._trend.display = wanted is not None
            self.table().styles.height = "1fr" if wanted is None else wanted
            self.call_after_refresh(self.ds4top.paint)
        if self._trend.display:
            show = self._trend.show_trend if known else self._trend.show_context
            show(model)


class Launch(Page):
    """The effective launch config, and what the rules say of it."""

    name_ = "launch"

    def rows(self) -> tuple[Row, ...]:
        """Settings and starts."""
        app, width = self.ds4top, self.size.width
        model, column = app.model, column_width(self.size.width)
        more: list[Row] = []
        if self.roomy and (model.machine.server is not None or model.log.life is not None):
            from ds4top.view.launchmore import more_rows

            more = more_rows(model, column)
        if model.machine.server is None:
            return page((*places.start_view(model, column), *more), width, app.look.charset)
        loading = start_section(model, app.status(), column, app.look)
        rows = (*loading[1:], *loading[:1], *launch_view(model, column))
        return page(rows, width, app.look.charset, more)


class Day(Page):
    """The report of today."""

    name_ = "day"

    def __init__(self) -> None:
        super().__init__()
        self._made_of: tuple[object, ...] = ()
        self._made_at = 0.0
        self._made: tuple[Row, ...] = ()

    def rows(self) -> tuple[Row, ...]:
        """The report's own words; made anew at most every ten seconds, since it is dear."""
        from ds4top.report.day import day_rows

        app = self.ds4top
        model = app.model
        size = self.table().size
        of = (id(model.log), size, model.past_alerts, model.log.version)
        is_new = of[:-1] != self._made_of[:-1]
        if is_new or (of != self._made_of and abs(model.now - self._made_at) >= _DAY_S):
            self._made_of, self._made_at = of, model.now
            height = size.height if self.roomy else 0
            self._made = day_rows(model, size.width, app.look.charset, height)
        return self._made


class Sources(Page):
    """Each source with its state."""

    name_ = "sources"

    def __init__(self) -> None:
        super().__init__()
        self._reader: OwnReader | None = None
        self._looked_t = self._looked_at = float("-inf")
        self._settings: tuple[int, list[Row]] = (0, [])

    def rows(self) -> tuple[Row, ...]:
        """State, age, what is missing; what ds4top costs, what it writes, its settings."""
        app = self.ds4top
        width = self.size.width
        if width != self._settings[0]:
            # A config is read once; to wrap its words is half of what this view costs.
            self._settings = width, setting_rows(app.config, column_width(width))
        return sources_view(app.model, width, app.look.charset, self._settings[1])

    def show_body(self) -> None:
        """Look at ds4top itself, which nobody does while this is hidden, and show all of it.

        While a replay stands still, so does this.
        """
        app, now = self.ds4top, time.monotonic()
        replay = app.model.replay
        at = replay.position_s if replay is not None else now
        if app.ticking and now - self._looked_t >= _OWN_S and at != self._looked_at:
            self._looked_t, self._looked_at = now, at
            if self._reader is None:
                from ds4top.sources.own import OwnReader

                place = app.session.acting_place
                folder = place.state if place is not None else state_dir(os.environ)
                self._reader = OwnReader(folder, KEPT)
            app.model.own = self._reader.read(now, app.written_bytes)
        super().show_body()
