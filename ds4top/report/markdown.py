"""The report as Markdown, to be posted."""

from __future__ import annotations

import re

from ds4top.core.figures import Report
from ds4top.report.text import Section, chart, headline, sections, title
from ds4top.view.text import clean

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")
_CHART_CELLS = 80


def _safe(text: str) -> str:
    """Text out of a log as it is, whatever Markdown would make of it."""
    return _SPECIAL.sub(r"\\\1", clean(text))


def _table(section: Section) -> list[str]:
    if not section.table:
        return []
    head, *rows = section.table
    lines = [
        "| " + " | ".join(map(_safe, head)) + " |",
        "|" + "|".join([" --- ", *(" ---: " if name else " --- " for name in head[1:])]) + "|",
    ]
    lines += ["| " + " | ".join(map(_safe, cells)) + " |" for cells in rows]
    return ["", *lines]


def render(report: Report) -> str:
    """The report as Markdown text."""
    out = [f"## {_safe(title(report))}", "", *(_safe(line) + "  " for line in headline(report))]
    for index, section in enumerate(sections(report)):
        out += ["", f"### {section.title}"]
        if section.sentences:
            out += ["", *(f"- {_safe(line)}" for line in section.sentences)]
        out += _table(section)
        if index == 0 and (drawn := chart(report, _CHART_CELLS)):
            out += ["", "```", *drawn, "```"]
    return "\n".join(out) + "\n"
