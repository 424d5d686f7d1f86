"""The report of today as lines, for the Day view."""

from __future__ import annotations

from datetime import datetime

from ds4top.core.figures import Report, build
from ds4top.core.model import Model
from ds4top.report.text import render


def day_report(model: Model) -> Report:
    """The figures since local midnight of the model's time."""
    now = datetime.fromtimestamp(model.now, model.tz)
    since = now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    return build(model.log, since=since, tz=model.tz)


def day_lines(model: Model) -> list[str]:
    """The human report of the same."""
    return render(day_report(model)).splitlines()
