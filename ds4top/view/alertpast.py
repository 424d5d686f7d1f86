"""Alerts that the history holds, as rows: when, how long, how bad, by which figure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from textwrap import wrap

from ds4top.core.alertlog import PastAlert
from ds4top.core.model import Model
from ds4top.core.units import count_of, fmt_duration
from ds4top.view.text import Row, row

MEMORY_RULES = frozenset(
    {"headroom", "oom-kill", "driver-no-memory", "swap-in", "refaults", "big-blocks"}
)
_MOST = 12
_INDENT = 42
_STYLES = {"warning": "warn", "critical": "crit"}


def past_alert_rows(
    model: Model,
    width: int,
    *,
    since: float = 0.0,
    rules: Collection[str] | None = None,
    most: int = _MOST,
) -> list[Row]:
    """A section below a blank row, the newest alert first; nothing where none was kept."""
    newest = {alert.rule: alert for alert in model.past_alerts}
    standing = {alert.rule for alert in model.alerts}

    def stands(alert: PastAlert) -> bool:
        return alert.ended is None and alert.rule in standing and newest[alert.rule] is alert

    def seen_until(alert: PastAlert) -> float:
        return model.now if stands(alert) else alert.ended or alert.began

    found = [
        alert
        for alert in model.past_alerts
        if seen_until(alert) >= since and (rules is None or alert.rule in rules)
    ]
    if not found:
        return []
    more = f", the last {most}" if len(found) > most else ""
    head = row((" ALERTS", "title"), (f"   {count_of(len(found), 'time')}, as kept{more}", "dim"))
    rows: list[Row] = [(), head]
    for alert in reversed(found[-most:]):
        rows += _alert(alert, model, width, stands=stands(alert))
    return rows


def _alert(alert: PastAlert, model: Model, width: int, *, stands: bool) -> Iterator[Row]:
    when = datetime.fromtimestamp(alert.began, model.tz).strftime("%d %b %H:%M:%S")
    if alert.ended is not None:
        how = f"for {fmt_duration(max(alert.ended - alert.began, 0.0))}"
    else:
        how = "stands" if stands else "end not seen"
    words = wrap(alert.text, max(width - _INDENT, 16), break_on_hyphens=False) or [""]
    for index, line in enumerate(words):
        if index:
            yield row(" " * _INDENT, line)
        else:
            style = _STYLES[alert.level]
            yield row(f"  {when}  ", f"{how:<14}", (f"{alert.level:<9} ", style), line)
