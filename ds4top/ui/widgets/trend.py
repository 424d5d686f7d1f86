"""The chart of headroom, on the screens that have the room."""

from __future__ import annotations

from ds4top.core.model import Model
from ds4top.ui.widgets.lines import LineView
from ds4top.view.headroom import TREND_S, headroom_spec
from ds4top.view.history import draw_history


class Trend(LineView):
    """Headroom of the last ten minutes; drawn anew only when it moves on by a column."""

    DEFAULT_CSS = "Trend { width: 1fr; }"
    _drawn: tuple[object, ...] = ()

    def show_trend(self, model: Model) -> None:
        """The chart as of now."""
        size, t = self.size, model.machine.memory.recent.t
        column = t[-1] // (TREND_S / max(size.width, 1)) if len(t) else None
        key = (size, self.charset, column)
        if key != self._drawn and size.width:
            self._drawn = key
            self.show(draw_history(headroom_spec(model), size.width, size.height, self.charset))
