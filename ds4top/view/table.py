"""A table of anything: its columns, those that fit, rows that are sorted and filtered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ds4top.view.text import UNICODE, Charset, Row, columns, row, row_text

Item = TypeVar("Item")
At = TypeVar("At")
"""What a cell needs beside its item: the time, or the zone of its times."""


@dataclass(frozen=True, slots=True)
class Column(Generic[Item, At]):
    """A column: its head, width and side, its cell, and what it sorts by.

    Of higher ``rank`` go first where there is no room.
    """

    head: str
    width: int
    align: str
    cell: Callable[[Item, At], Row]
    key: Callable[[Item], float | str]
    rank: int = 0
    descending: bool = True
    """The side that one looks at first."""


def fitting(
    table: Sequence[Column[Item, At]], width: int, least: int = 2
) -> tuple[Column[Item, At], ...]:
    """The columns that fit into ``width`` cells, ``least`` of them at any rate."""
    chosen = list(table)
    while sum(c.width + 1 for c in chosen) > width - 1 and len(chosen) > least:
        chosen.remove(max(chosen, key=lambda c: (c.rank, c.width)))
    return tuple(chosen)


def heads(chosen: Sequence[Column[Item, At]], sort: str, descending: bool) -> Row:
    """The heads; the sorted one carries a letter as its arrow."""
    cells = [
        (
            c.head if c.head != sort else f"{c.head[: c.width - 1]}{'v' if descending else '^'}",
            "header",
        )
        for c in chosen
    ]
    return row(" ", columns(cells, [c.width for c in chosen], "".join(c.align for c in chosen)))


def item_row(
    item: Item, chosen: Sequence[Column[Item, At]], at: At, charset: Charset = UNICODE
) -> Row:
    """One item, a cell a column."""
    cells = [column.cell(item, at) for column in chosen]
    aligns = "".join(column.align for column in chosen)
    return row(" ", columns(cells, [c.width for c in chosen], aligns, charset=charset))


def matches(item: Item, table: Sequence[Column[Item, At]], text: str, at: At) -> bool:
    """Whether every word of a filter is somewhere in the item's cells."""
    line = " ".join(row_text(column.cell(item, at)) for column in table).lower()
    return all(word in line for word in text.lower().split())


def select(
    items: Sequence[Item],
    table: Sequence[Column[Item, At]],
    sort: str,
    descending: bool,
    text: str,
    at: At,
) -> list[Item]:
    """The items to show, in their order."""
    column = next((c for c in table if c.head == sort), table[0])
    found = [item for item in items if not text or matches(item, table, text, at)]
    return sorted(found, key=column.key, reverse=descending)
