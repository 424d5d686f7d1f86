"""How the turns went, under the table of a tall screen: context over time, how long they took."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ds4top.core.figures import DURATION_EDGES_S
from ds4top.core.state import End, Request
from ds4top.view.history import HistorySpec, Track, draw_history
from ds4top.view.look import WINDOWS_S, Look
from ds4top.view.text import Row, bar, fit, row

_SIDE = 62
"""Cells of the table beside the chart."""


def turns_rows(
    requests: Sequence[Request], now: float, look: Look, width: int, height: int
) -> tuple[Row, ...]:
    """``height`` rows: prompts of these requests against time, and durations; none without any."""
    if not requests:
        return ()
    side = duration_rows(requests, look) if width >= 2 * _SIDE else []
    chart_width = width - _SIDE - 2 if side else width
    chart = draw_history(context_spec(requests, now, look), chart_width, height, look.charset)
    if not side:
        return chart
    side += [()] * (len(chart) - len(side))
    return tuple(
        row(" ", fit(one, _SIDE, "<", look.charset), " ", other)
        for one, other in zip(side, chart, strict=False)
    )


def context_spec(requests: Sequence[Request], now: float, look: Look) -> HistorySpec:
    """Prompt and cached tokens of each request at its start, over the shortest window of all."""
    known = [
        (r.started_at, r.prompt_tokens, r.cached_tokens)
        for r in requests
        if r.started_at is not None
    ]
    known.sort(key=lambda turn: turn[0])
    oldest = known[0][0] if known else now
    span = next((s for s in WINDOWS_S if s >= now - oldest), WINDOWS_S[-1])
    span = min(span, look.window_s)
    prompt = _steps([(at, tokens / 1000) for at, tokens, _ in known], now)
    cached = _steps([(at, tokens / 1000) for at, _, tokens in known], now)
    top = max((value for _, value in prompt), default=0.0)
    return HistorySpec(
        title="CONTEXT OF EACH TURN",
        unit="K",
        now_s=now,
        span_s=float(span),
        tracks=(
            Track("cached", tuple(cached), "plot-area", "max"),
            Track("prompt", tuple(prompt), "plot-own", "max"),
        ),
        y_range=(0.0, top or 1.0),
        gap_s=inf,
        empty="no request yet",
    )


def _steps(points: Sequence[tuple[float, float]], now: float) -> list[tuple[float, float]]:
    """Each value as it holds until the next one, the last until now."""
    ends = [at for at, _ in points[1:]] + [now]
    found: list[tuple[float, float]] = []
    for (at, value), end in zip(points, ends, strict=False):
        found += [(at, value), (max(end - 1e-3, at), value)]
    return found


def duration_rows(requests: Sequence[Request], look: Look) -> list[Row]:
    """The completed ones by how long they took, and by whether their prompt was cached."""
    done = [r.duration_s for r in requests if r.end is End.COMPLETED and r.duration_s is not None]
    rows = [row(("HOW LONG THEY TOOK", "title"), (f"   {len(done):,} completed", "dim"))]
    edges = (*DURATION_EDGES_S, None)
    for low, high in zip(DURATION_EDGES_S, edges[1:], strict=True):
        count = sum(1 for took in done if took >= low and (high is None or took < high))
        name = f"{low:g}–{high:g} s" if high is not None else f"over {low:g} s"
        share = count / len(done) if done else 0.0
        drawn = bar(share, 28, look.charset)
        rows.append(row((f"{name:<11}", "label"), (f"{count:>6,}", "value"), "  ", drawn))
    return rows
