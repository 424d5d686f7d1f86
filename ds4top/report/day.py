"""The report of today as rows, for the Day view: sentences wrapped, tables and plot as they fit."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from ds4top.core.figures import Report, build
from ds4top.core.model import Model
from ds4top.report.text import CHART_ROWS, Section, aligned, chart, headline, sections, title
from ds4top.view.alertpast import past_alert_rows
from ds4top.view.compose import TWO_COLUMNS, blocks_of, column_width, page, page_height
from ds4top.view.mend import Mend, mend_of, mend_rows
from ds4top.view.text import UNICODE, Charset, Row, row, row_width
from ds4top.view.today import midnight


def day_report(model: Model) -> Report:
    """The figures since local midnight of the model's time."""
    return build(model.log, since=midnight(model), tz=model.tz)


def day_rows(
    model: Model, width: int, charset: Charset = UNICODE, height: int = 0
) -> tuple[Row, ...]:
    """The report in the words of ``ds4top report``; its plot grows into what is left of a
    ``height``.
    """
    report = day_report(model)
    missing = mend_of(model) if not report.requests.total else None
    column = column_width(width)
    past = past_alert_rows(model, column, since=midnight(model))

    def made(plot: int) -> list[Row]:
        return [*_rows(report, missing, column, charset, plot), *past]

    rows = made(CHART_ROWS)
    if height and width >= TWO_COLUMNS:
        more = _room(blocks_of(rows), blocks_of(made(CHART_ROWS + 1)), height)
        rows = made(CHART_ROWS + more) if more else rows
    return page(rows, width, charset)


def _room(as_is: list[list[Row]], taller: list[list[Row]], height: int) -> int:
    """By how many rows the plot may grow; ``taller``: where it has grown by one."""
    heights = [len(block) for block in as_is]
    at = next((n for n, block in enumerate(taller) if len(block) != heights[n]), None)
    if at is None:
        return 0
    found = 0
    # What is below it may go into the other column, and leave more room.
    for more in range(1, 2 * CHART_ROWS):
        if page_height([h + more if n == at else h for n, h in enumerate(heights)]) <= height:
            found = more
    return found


def _rows(
    report: Report, missing: Mend | None, width: int, charset: Charset, plot: int
) -> Iterator[Row]:
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
                row((f"  {line}", "axis-label")) for line in chart(report, width - 4, charset, plot)
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
