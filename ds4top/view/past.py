"""The journal on the screen: what ds4top did to the server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from textwrap import wrap

from ds4top.core.deeds import PastDeed
from ds4top.core.model import Model
from ds4top.core.units import fmt_duration
from ds4top.view.text import Row, row


def seconds_text(seconds: float) -> str:
    """A time that counts, by the second."""
    whole = int(max(seconds, 0.0))
    return f"{whole} s" if whole < 10 else fmt_duration(float(whole))


def past_rows(model: Model, width: int, limit: int = 8) -> list[Row]:
    """The last actions: when, what, who, outcome."""
    if not model.past:
        return []
    rows = [row(""), row((" LAST ACTIONS", "title"), ("   of ds4top, from its journal", "dim"))]
    for deed in model.past[:limit]:
        rows += _past(deed, model, width)
    return rows


def _past(deed: PastDeed, model: Model, width: int) -> Iterator[Row]:
    when = datetime.fromtimestamp(deed.wall, model.tz).strftime("%d %b %H:%M:%S")
    switch = ""
    if deed.after not in (None, "unknown", deed.before):
        switch = f" {deed.before} → {deed.after}"
    style = "warn" if deed.done is None else "ok" if deed.done else "crit"
    end = deed.words + (f", pid {deed.pid}" if deed.done and deed.pid is not None else "")
    took = f" in {seconds_text(deed.took_s)}" if deed.took_s and deed.took_s >= 1 else ""
    what = f"{deed.action}{switch}"
    yield row(f"  {when}  ", f"{deed.who:<10} ", f"{what:<24} ", (end, style), (took, "dim"))
    if deed.reason:
        for piece in wrap(deed.reason, max(width - 8, 10)):
            yield row("      ", (piece, "dim"))
