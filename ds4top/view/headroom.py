"""Headroom over the last ten minutes as a chart, for a screen that has the room."""

from __future__ import annotations

from ds4top.core.memory import GIB
from ds4top.core.model import Model
from ds4top.view.history import HistorySpec, Mark, Track

TREND_S = 600.0
"""What the chart spans."""


def headroom_spec(model: Model) -> HistorySpec:
    """The lowest of each column, with the limits at which it is judged."""
    machine = model.machine
    recent = machine.memory.recent
    now = recent.t[-1] if len(recent.t) else 0.0
    points = tuple((t, value / GIB) for t, value in recent.since(now - TREND_S))
    top = max((value for _, value in points if value is not None), default=1.0)
    return HistorySpec(
        title="HEADROOM",
        unit="GiB",
        now_s=now,
        span_s=TREND_S,
        tracks=(Track("", points, "plot-area", "min", fill=True),),
        marks=(
            Mark(machine.ok_bytes / GIB, "warning", "warn"),
            Mark(machine.critical_bytes / GIB, "critical", "crit"),
        ),
        notes=("10 min",),
        y_range=(0.0, max(top, 1.0)),
        gap_s=10.0,
        empty="not in what is replayed" if model.replay is not None else "not known yet",
    )
