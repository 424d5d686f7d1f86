"""Rows put together: blocks under each other, or in two columns where the screen is wide."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from ds4top.view.text import UNICODE, Charset, Row, fit, row

TWO_COLUMNS = 160
"""Cells from which a page of rows stands in two columns."""
_GAP = 3


def column_width(width: int) -> int:
    """Cells that a page of rows has for each of them: all, or a column's."""
    return width if width < TWO_COLUMNS else (width - _GAP) // 2


def blocks_of(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows cut at the blank ones."""
    blocks: list[list[Row]] = [[]]
    for line in rows:
        if line:
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def stacked(blocks: Sequence[Sequence[Row]]) -> list[Row]:
    """Blocks under each other, a blank row between them."""
    rows: list[Row] = []
    for block in blocks:
        rows += [(), *block] if rows else block
    return rows


def page(
    rows: Sequence[Row], width: int, charset: Charset = UNICODE, right: Sequence[Row] = ()
) -> tuple[Row, ...]:
    """Rows made for ``column_width``: as they are, or in two columns of about the same height.

    Only whole blocks (rows between blank ones) go to the other column. ``right``: what is to stand
    there, all the others at the left.
    """
    if width < TWO_COLUMNS:
        return (*rows, *right)
    blocks = blocks_of(rows)
    cut = len(blocks) if right else even_cut([len(block) for block in blocks])
    blocks += blocks_of(right)
    left, right = stacked(blocks[:cut]), stacked(blocks[cut:])
    return tuple(
        beside(one or (), other or (), width, charset) for one, other in zip_longest(left, right)
    )


def page_height(heights: Sequence[int]) -> int:
    """Rows of two columns of blocks with these heights, cut evenly."""
    cut = even_cut(heights)
    return max(_height(heights[:cut]), _height(heights[cut:]))


def _height(of: Sequence[int]) -> int:
    return sum(of) + max(len(of) - 1, 0)


def even_cut(heights: Sequence[int]) -> int:
    """How many of these blocks stand in the left of two columns of about the same height."""
    cuts = range(1, max(len(heights), 1) + 1)
    return min(cuts, key=lambda at: max(_height(heights[:at]), _height(heights[at:])))


def beside(left: Row, right: Row, width: int, charset: Charset = UNICODE) -> Row:
    """One row of two columns."""
    if not left and not right:
        return ()
    return row(fit(left, column_width(width), "<", charset), " " * _GAP, right)
