"""Rows in columns, and what a tall screen shows below its table."""

from __future__ import annotations

from ds4top.core.state import End, Request
from ds4top.view.compose import blocks_of, column_width, page
from ds4top.view.look import Look
from ds4top.view.text import row, row_text, row_width
from ds4top.view.turns import context_spec, duration_rows, turns_rows


def rows_of(*heights: int) -> list[tuple]:
    rows: list[tuple] = []
    for block, height in enumerate(heights):
        rows += [row(f"{block}.{line}") for line in range(height)] + [()]
    return rows[:-1]


def texts(rows) -> list[list[str]]:
    return [row_text(line).split() for line in rows]


def test_a_narrow_page_stays_as_it_is() -> None:
    rows = rows_of(2, 3)
    assert page(rows, 159) == tuple(rows)
    assert column_width(159) == 159


def test_a_wide_page_has_two_columns_of_whole_blocks() -> None:
    shown = page(rows_of(2, 2, 3, 1), 200)
    assert texts(shown) == [
        ["0.0", "2.0"],
        ["0.1", "2.1"],
        ["2.2"],
        ["1.0"],
        ["1.1", "3.0"],
    ]
    assert row_text(shown[0]).index("2.0") == column_width(200) + 3
    assert max(map(row_width, shown)) <= 200


def test_one_block_and_none() -> None:
    assert texts(page(rows_of(3), 200)) == [["0.0"], ["0.1"], ["0.2"]]
    assert page([], 200) == ()
    assert blocks_of([(), row("a"), (), (), row("b"), ()]) == [[row("a")], [row("b")]]


def request(number: int, at: float, prompt: int, took: float | None) -> Request:
    return Request(
        number=number, life=1, kind="chat", cached_tokens=prompt // 2, prompt_tokens=prompt,
        new_tokens=prompt - prompt // 2, started_at=at, cache_min_tokens=512, first_of_life=False,
        duration_s=took, end=End.RUNNING if took is None else End.COMPLETED,
    )  # fmt: skip


TURNS = [
    request(1, 1_000.0, 4_000, 4.9),
    request(2, 1_010.0, 8_000, 5.0),
    request(3, 1_100.0, 20_000, 200.0),
    request(4, 1_200.0, 22_000, None),
]


def test_turns_by_how_long_they_took() -> None:
    lines = [row_text(line).replace("░", "").split() for line in duration_rows(TURNS, Look())]
    assert lines[0] == ["HOW", "LONG", "THEY", "TOOK", "3", "completed"]
    counts = [(" ".join(line[:-2] if "█" in line[-1] else line[:-1]), line) for line in lines[1:]]
    assert [name for name, _ in counts] == ["0–5 s", "5–15 s", "15–60 s", "60–160 s", "over 160 s"]
    assert [line.count("1") for _, line in counts] == [1, 1, 0, 0, 1]


def test_context_holds_until_the_next_turn() -> None:
    spec = context_spec(TURNS[::-1], 1_250.0, Look())
    assert spec.span_s == 300.0
    cached, prompt = spec.tracks
    assert [value for _, value in prompt.points] == [4, 4, 8, 8, 20, 20, 22, 22]
    assert [value for _, value in cached.points] == [2, 2, 4, 4, 10, 10, 11, 11]
    assert prompt.points[-1][0] == 1_250.0 - 1e-3
    assert [at for at, _ in prompt.points] == sorted(at for at, _ in prompt.points)


def test_the_panel_has_its_size_or_is_not_there() -> None:
    for width in (200, 100):
        rows = turns_rows(TURNS, 1_250.0, Look(), width, 16)
        assert len(rows) == 16
        assert max(map(row_width, rows)) <= width
    assert turns_rows([], 1_250.0, Look(), 200, 16) == ()
    assert context_spec([], 1_250.0, Look()).tracks[0].points == ()
