"""At 200x50 no view ends early: never more than two blank rows together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ds4top.session import Session
from ds4top.ui.screens import VIEWS
from tests.frames import DECODE_S, LOAD_S, PREFILL_S, demo, example, frames

SIZE = (200, 50)
MOST = 2


def blank_runs(rows: Sequence[str]) -> list[int]:
    """How many rows in a row are blank, from the second to the third last."""
    runs = [0]
    for text in rows[1:-2]:
        runs = [*runs, 0] if text.strip() else [*runs[:-1], runs[-1] + 1]
    return runs


@pytest.mark.parametrize(
    "make",
    [example, lambda: demo(DECODE_S), lambda: demo(PREFILL_S), lambda: demo(LOAD_S)],
    ids=["example", "decode", "prefill", "loading"],
)
async def test_no_view_ends_early(make: Callable[[], Session]) -> None:
    found = await frames(make(), [(view, SIZE) for view in VIEWS])
    early = {view: max(blank_runs(frame.rows)) for (view, _), frame in found.items()}
    assert {view: most for view, most in early.items() if most > MOST} == {}


def test_what_counts_as_blank() -> None:
    assert max(blank_runs(["head", "a", " ", "", "b", "message", "foot"])) == 2
    assert max(blank_runs(["head", "a", "", "", "", "message", "foot"])) == 3
    assert max(blank_runs(["", "a", "b", "", ""])) == 0
