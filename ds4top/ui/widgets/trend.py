"""The chart of headroom, or of the context, on the screens that have the room."""

from __future__ import annotations

from collections.abc import Callable

from ds4top.core.model import Model
from ds4top.ui.widgets.lines import LineView
from ds4top.view.headroom import TREND_S, headroom_spec
from ds4top.view.history import HistorySpec, draw_history
from ds4top.view.memlog import context_spec


class Trend(LineView):
    """Headroom of the last ten minutes; drawn anew only when it moves on by a column."""

    DEFAULT_CSS = "Trend { width: 1fr; }"
    _drawn: tuple[object, ...] = ()

    def show_trend(self, model: Model) -> None:
        """The chart as of now."""
        t = model.machine.memory.recent.t
        column = t[-1] // (TREND_S / max(self.size.width, 1)) if len(t) else None
        self._show_spec(column, lambda: headroom_spec(model))

    def show_context(self, model: Model) -> None:
        """The context in use instead, where nothing is known of memory."""
        log = model.log
        samples = len(log.decode), len(log.prefill), log.decode.dropped, log.prefill.dropped
        self._show_spec((id(log), samples), lambda: context_spec(model))

    def _show_spec(self, of: object, make: Callable[[], HistorySpec]) -> None:
        size = self.size
        key = (size, self.charset, of)
        if key != self._drawn and size.width:
            self._drawn = key
            self.show(draw_history(make(), size.width, size.height, self.charset))
