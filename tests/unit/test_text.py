"""Rows: their width is exact, nothing a terminal acts on passes, pictures add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.view.text import (
    ASCII,
    UNICODE,
    Share,
    Span,
    bar,
    clean,
    clip,
    columns,
    fit,
    pack,
    pad,
    row,
    row_text,
    row_width,
    shares,
    sparkline,
    stacked_bar,
    width_of,
)

CHARSETS = st.sampled_from([UNICODE, ASCII])
TEXTS = st.text(max_size=24) | st.text(st.characters(), max_size=24)
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(["text", "warn"])), max_size=5).map(
    lambda parts: tuple(Span(*part) for part in parts)
)


@given(text=st.text(), charset=CHARSETS)
def test_nothing_a_terminal_acts_on_passes(text, charset):
    done = clean(text, charset)
    assert done.isprintable()
    assert clean(done, charset) == done
    done.encode()
    assert charset is UNICODE or done.isascii()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x07", "?[31mred?"),
        ("a\tb\r\n", "a b??"),
        ("\u202eevil\u2066", "?evil?"),
        ("\x9b2J", "?2J"),
        ("\ud800", "?"),
        ("non\xa0breaking", "non breaking"),
        ("e\u0301", "\xe9"),
        ("x\u0301\u0302", "x"),
        ("日本", "日本"),
    ],
)
def test_cleaning(text, expected):
    assert clean(text) == expected


def test_ascii_has_a_stand_in_for_our_glyphs():
    assert clean("a – b … 3 × → ─", ASCII) == "a - b ~ 3 x > -"
    assert clean("日", ASCII) == "?"


def test_row_joins_neighbours_of_one_style():
    assert row("a", ("b", "text"), ("c", "warn"), row(("d", "warn"), "")) == (
        Span("ab", "text"),
        Span("cd", "warn"),
    )
    assert row("a", style="dim") == (Span("a", "dim"),)


@given(line=ROWS, width=st.integers(-2, 40), charset=CHARSETS)
def test_clip_is_never_longer(line, width, charset):
    done = clip(line, width, charset)
    assert row_width(done) <= max(width, 0)
    whole = "".join(clean(text, charset) for text, _ in line)
    if width_of(whole) <= width:
        assert row_text(done) == whole
    elif width > 0:
        assert row_text(done)[-1:] == charset.ellipsis


@given(line=ROWS, width=st.integers(0, 40), align=st.sampled_from("<>^"), charset=CHARSETS)
def test_fit_is_exact(line, width, align, charset):
    assert row_width(fit(line, width, align, charset)) == width


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("headroom", 8, "headroom"),
        ("headroom", 7, "headro…"),
        ("headroom", 1, "…"),
        ("headroom", 0, ""),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
    ],
)
def test_clip_ends_in_an_ellipsis(text, width, expected):
    assert row_text(clip(row(text), width)) == expected


def test_the_ellipsis_takes_a_cell_of_a_span_that_fitted():
    assert clip((Span("abc", "a"), Span("de", "b")), 3) == (Span("ab…", "a"),)


def test_pad_aligns():
    assert row_text(pad(row("ab"), 5, ">")) == "   ab"
    assert row_text(pad(row("ab"), 5, "^")) == " ab  "
    assert row_text(pad(row("abc"), 2)) == "abc"


def test_columns():
    line = columns(["14:03", ("9.6", "now"), "gone", row("x")], [6, 5, 0, 2], "<>", gap=2)
    assert row_text(line) == "14:03     9.6  x "
    assert [span.style for span in line] == ["text", "now", "text"]


def test_pack_leaves_out_what_does_not_fit_whole():
    items = ["GPU 94 %", ("37 W", "value"), "64 C"]
    assert row_text(pack(items, 15, gap=3)) == "GPU 94 %   37 W"
    assert row_text(pack(items, 14, gap=3)) == "GPU 94 %"


@given(fraction=st.none() | st.floats(allow_nan=True), width=st.integers(-1, 60), charset=CHARSETS)
def test_bar_is_exact(fraction, width, charset):
    line = bar(fraction, width, charset)
    assert row_width(line) == max(width, 0)
    if width > 0 and fraction is not None and 0 < fraction < 1:
        assert charset.blocks[-1] * width != row_text(line) != charset.track * width


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "░░░░"),
        (None, "░░░░"),
        (0.0001, "▏░░░"),
        (0.5, "██░░"),
        (0.53, "██▏░"),
        (0.9999, "███▉"),
        (1.0, "████"),
        (1.7, "████"),
    ],
)
def test_bar_in_eighths(fraction, text):
    assert row_text(bar(fraction, 4)) == text


def test_bar_in_ascii():
    assert row_text(bar(0.5, 4, ASCII)) == "##.."
    assert row_text(bar(0.999, 4, ASCII)) == "###."


@given(amounts=st.lists(st.floats(0, 1e12), min_size=1, max_size=9), width=st.integers(0, 200))
def test_shares_add_up(amounts, width):
    cells = shares(amounts, width)
    some = [amount for amount in amounts if amount > 0]
    assert sum(cells) == (width if some else 0)
    if width >= len(some):
        assert all(count >= (amount > 0) for count, amount in zip(cells, amounts, strict=True))


def test_stacked_bar():
    parts = [
        Share("weights 80.8", 80.8, "w", "80.8"),
        Share("work 8.1", 8.1, "k", "8.1"),
        Share("none", 0.0, "n"),
        Share("free", 31.1, "f"),
    ]
    line = stacked_bar(parts, 40)
    assert [(width_of(text), style) for text, style in line] == [(27, "w"), (3, "k"), (10, "f")]
    assert row_text(line).startswith(" weights 80.8 ")
    assert row_text(line)[27] == UNICODE.divider
    assert row_text(stacked_bar(parts, 40, ASCII))[30:] == "| free    "


def test_stacked_bar_of_nothing_is_blank():
    assert row_text(stacked_bar([Share("a", 0.0, "a")], 5)) == "     "


def test_sparkline():
    assert row_text(sparkline([0, 1, None, 7], 6)) == "  ▁▂ █"
    assert row_text(sparkline([5, 5, 5], 2)) == "▁▁"
    assert row_text(sparkline([0, 5, 10], 3, ASCII, low=0, high=10)) == "_-#"
    assert row_text(sparkline([-9, 99], 2, low=0, high=10)) == "▁█"


@given(
    values=st.lists(st.none() | st.floats(-1e9, 1e9), max_size=50),
    width=st.integers(0, 40),
    charset=CHARSETS,
)
def test_sparkline_is_exact(values, width, charset):
    assert row_width(sparkline(values, width, charset)) == width
