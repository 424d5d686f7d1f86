"""The dot canvas: right dots, right styles, always in range."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ds4top.view.canvas import Canvas
from ds4top.view.text import ASCII, UNICODE, Span, row_text, row_width

COORDS = st.integers(-300, 300)
FLOATS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-100, 300)
PLACES = st.tuples(FLOATS, FLOATS)


def texts(canvas: Canvas) -> list[str]:
    return [row_text(line) for line in canvas.rows()]


def test_each_dot_of_a_cell_has_its_bit():
    glyphs = {(0, 0): "⠁", (0, 1): "⠂", (0, 2): "⠄", (0, 3): "⡀"}
    glyphs |= {(1, 0): "⠈", (1, 1): "⠐", (1, 2): "⠠", (1, 3): "⢀"}
    for dot, glyph in glyphs.items():
        canvas = Canvas(1, 1, ["a"])
        canvas.dots("a", [dot])
        assert texts(canvas) == [glyph]
    canvas = Canvas(1, 1, ["a"])
    canvas.dots("a", glyphs)
    assert texts(canvas) == ["⣿"]


def test_the_highest_layer_has_the_cell_to_itself():
    canvas = Canvas(2, 1, ["low", "high"])
    canvas.dots("high", [(0, 0)])
    canvas.dots("low", [(1, 3), (2, 0)])
    assert canvas.rows() == ((Span("⠁", "high"), Span("⠁", "low")),)


def test_a_run_of_one_style_reaches_over_blanks():
    canvas = Canvas(7, 1, ["a", "b"])
    canvas.dots("a", [(2, 0), (6, 0)])
    canvas.dots("b", [(10, 0)])
    assert canvas.rows() == (
        (Span(" ", "text"), Span("⠁ ⠁", "a"), Span(" ", "text"), Span("⠁", "b"), Span(" ")),
    )


def test_lines():
    canvas = Canvas(4, 1, ["a"])
    canvas.line("a", [(0, 0), (7, 3)])
    assert texts(canvas) == ["⠉⠒⠤⣀"]
    canvas = Canvas(4, 1, ["a"])
    canvas.line("a", [(0, 0), (7, 0)], "dotted")
    assert texts(canvas) == ["⠁ ⠁ "]
    canvas = Canvas(5, 1, ["a"])
    canvas.line("a", [(0, 3), (9, 3)], "dashed")
    assert texts(canvas) == ["⣀⡀⢀⣀ "]


def test_a_line_is_cut_at_the_edge():
    inside, beyond = Canvas(4, 2, ["a"]), Canvas(4, 2, ["a"])
    inside.line("a", [(0, 4), (7, 4)])
    beyond.line("a", [(-1e12, 4), (1e12, 4)])
    assert texts(beyond) == texts(inside)


def test_an_area_is_solid_from_the_bottom():
    canvas = Canvas(3, 2, ["a"])
    canvas.area("a", 0, 1.5)
    canvas.area("a", 1, 0.0)
    canvas.area("a", 2, 99.0)
    assert texts(canvas) == ["▄ █", "█▁█"]


def test_ascii_shows_upper_and_lower_half_and_the_glyph_of_a_line():
    canvas = Canvas(4, 1, ["a", "line"], ASCII, {"line": "="})
    canvas.dots("a", [(0, 0), (2, 3), (4, 1), (4, 2)])
    canvas.dots("line", [(6, 0)])
    assert texts(canvas) == ["'.:="]


def test_labels_are_cut_and_free_places_found():
    canvas = Canvas(6, 2, ["a"])
    canvas.dots("a", [(0, 0)])
    assert not canvas.is_free(0, 0, 2)
    assert canvas.is_free(1, 0, 5)
    assert not canvas.is_free(2, 0, 5)
    assert not canvas.is_free(0, 2, 1)
    canvas.label(4, 1, "long\x1b", "b")
    canvas.label(-1, 1, "日x", "b")
    assert texts(canvas) == ["⠁     ", "?   lo"]
    assert not canvas.is_free(3, 1, 2)
    assert canvas.is_free(1, 1, 3)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(0, 30),
    height=st.integers(0, 8),
    dots=st.lists(st.tuples(COORDS, COORDS), max_size=20),
    lines=st.lists(st.tuples(PLACES, PLACES), max_size=4),
    area=st.tuples(COORDS, st.floats(-5, 500)),
    label=st.tuples(COORDS, COORDS, st.text(max_size=12)),
    dash=st.sampled_from(["solid", "dashed", "dotted"]),
    charset=st.sampled_from([UNICODE, ASCII]),
)
def test_anything_stays_in_range(width, height, dots, lines, area, label, dash, charset):
    canvas = Canvas(width, height, ["a", "b", "c"], charset, {"b": "-"})
    canvas.dots("a", dots)
    for line in lines:
        canvas.line("b", line, dash)
    canvas.area("c", *area)
    canvas.label(*label, "d")
    rows = canvas.rows()
    assert len(rows) == (height if width else 0)
    assert all(row_width(line) == width for line in rows)
    assert charset is UNICODE or all(row_text(line).isascii() for line in rows)
