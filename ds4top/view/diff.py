"""Which cells of a row changed, so that only those are sent to the terminal."""

from __future__ import annotations

from ds4top.view.text import Row, width_of

MERGE_CELLS = 6
"""Unchanged cells between two changes that cost less to send again than to jump over."""

_SECOND_HALF = ""


def changed_cells(before: Row, after: Row) -> list[tuple[int, int]]:
    """Ranges ``(first cell, cells)`` in which two rows of one width differ in text or style.

    A wide character is never cut in two.
    """
    # Spans that both begin and end with are left alone: mostly one span of a row changes.
    shared = min(len(before), len(after))
    head = next((i for i in range(shared) if before[i] != after[i]), shared)
    shared -= head
    tail = next((i for i in range(shared) if before[-1 - i] != after[-1 - i]), shared)
    skipped = sum([width_of(text) for text, _ in before[:head]])
    old = _cells(before[head : len(before) - tail])
    new = _cells(after[head : len(after) - tail])
    if len(old) != len(new):
        return [(skipped, max(len(old), len(new)))]
    at = [index for index, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    ranges: list[tuple[int, int]] = []
    for index in at:
        if ranges and index - ranges[-1][1] < MERGE_CELLS:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    whole = [_whole(first, end, old, new) for first, end in ranges]
    return [(skipped + first, cells) for first, cells in whole]


def _cells(line: Row) -> list[tuple[str, str]]:
    cells: list[tuple[str, str]] = []
    for text, style in line:
        if width_of(text) == len(text):
            cells += [(char, style) for char in text]
            continue
        for char in text:
            cells.append((char, style))
            cells += [(_SECOND_HALF, style)] * (width_of(char) - 1)
    return cells


def _whole(
    first: int, end: int, old: list[tuple[str, str]], new: list[tuple[str, str]]
) -> tuple[int, int]:
    while first > 0 and (old[first][0] == _SECOND_HALF or new[first][0] == _SECOND_HALF):
        first -= 1
    while end < len(new) and (old[end][0] == _SECOND_HALF or new[end][0] == _SECOND_HALF):
        end += 1
    return first, end - first
