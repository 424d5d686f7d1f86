"""Which cells are painted again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.view.diff import MERGE_CELLS, changed_cells
from ds4top.view.text import Span, fit, row

TEXTS = st.text(alphabet="ab 1日本…", max_size=20)
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from("xy")), max_size=4).map(
    lambda parts: tuple(Span(*part) for part in parts)
)


@pytest.mark.parametrize(
    ("before", "after", "ranges"),
    [
        ("9.6 tok/s", "9.6 tok/s", []),
        ("9.6 tok/s", "9.7 tok/s", [(2, 1)]),
        ("9.6 tok/s", "10.6 tok/", [(0, 9)]),
        ("1" + " " * MERGE_CELLS + "1", "2" + " " * MERGE_CELLS + "2", [(0, 1), (7, 1)]),
        ("1" + " " * (MERGE_CELLS - 1) + "1", "2" + " " * (MERGE_CELLS - 1) + "2", [(0, 7)]),
        ("日本x", "日語x", [(2, 2)]),
        ("日本x", "abcdx", [(0, 4)]),
    ],
)
def test_ranges(before, after, ranges):
    assert changed_cells(row(before), row(after)) == ranges


def test_a_change_of_style_is_a_change():
    assert changed_cells(row("ab", ("cd", "warn")), row("abc", ("d", "warn"))) == [(2, 1)]


def cells(char: str) -> int:
    return 2 if char in "日本" else 1


@given(before=ROWS, after=ROWS, width=st.integers(0, 30))
def test_all_that_differs_is_in_a_range(before, after, width):
    one, other = fit(before, width), fit(after, width)
    inside = {x for start, count in changed_cells(one, other) for x in range(start, start + count)}
    assert inside <= set(range(width))
    flat = [
        [
            (char, style)
            for text, style in line
            for char in text
            for _ in range(1 + (char in "日本"))
        ]
        for line in (one, other)
    ]
    assert {x for x in range(width) if flat[0][x] != flat[1][x]} <= inside
