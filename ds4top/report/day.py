"""The report of today as rows, for the Day view: sentences wrapped, tables and plot as they fit."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from ds4top.core.figures import Report, build
from ds4top.core.model import Model
from ds4top.report.text import Section, aligned, chart, headline, sections, title
from ds4top.view.alertpast import past_alert_rows
from ds4top.view.compose import column_width, page
from ds4top.view.mend import Mend, mend_of, mend_rows
from ds4top.view.text import UNICODE, Charset, Row, row, row_width
from ds4top.view.today import midnight


def day_report(model: Model) -> Report:
    """The figures since local midnight of the model's time."""
    return build(model.log, since=midnight(model), tz=model.tz)


def day_rows(model: Model, width: int, charset: Charset = UNICODE) -> tuple[Row, ...]:
    """The report in the words of ``ds4top report``."""
    report = day_report(model)
    missing = mend_of(model) if not report.requests.total else None
    column = column_width(width)
    rows = list(_rows(report, missing, column, charset))
    rows += past_alert_rows(model, column, since=midnight(model))
    return page(rows, width, charset)


def _rows(report: Report, missing: Mend | None, width: int, charset: Charset) -> Iterator[Row]:
    head = row((" TODAY", "title"), f"   {title(report)}")
    is_long = row_width(head) > width
    yield head[:1] if is_long else head
    for sentence in (*([title(report)] if is_long else []), *headline(report)):
        yield from _sentence(sentence, width)
    if missing is not None:
        yield ()
        yield from mend_rows(missing, width)
    for index, section in enumerate(sections(report, charset)):
        yield ()
        yield row((f" {section.title}", "title"))
        for sentence in section.sentences:
            yield from _sentence(sentence, width)
        yield from _table(section, width)
        if index == 0 and report.decode:
            yield from (
                row((f"  {line}", "axis-label")) for line in chart(report, width - 4, charset)
            )


def _sentence(text: str, width: int) -> Iterator[Row]:
    for line in wrap(text, max(width - 3, 20), subsequent_indent="  ", break_on_hyphens=False):
        yield row(f"  {line}")


def _table(section: Section, width: int) -> Iterator[Row]:
    """A table; its bars only where they fit whole."""
    table = section.table
    if not table:
        return
    rows = [row(f"  {line}") for line in aligned(table)]
    if table[0][-1] == "" and max(row_width(line) for line in rows) > width:
        rows = [row(f"  {line}") for line in aligned([cells[:-1] for cells in table])]
    for index, line in enumerate(rows):
        yield row((line[0].text, "label")) if index == 0 else line
