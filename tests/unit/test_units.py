"""Formats of numbers: exact texts, unknown values and widths."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core import units

DASH = "\N{EN DASH}"
NUMBERS = st.floats(min_value=-1e13, max_value=1e13)
FORMATS = [
    units.fmt_num,
    units.fmt_tokens,
    units.fmt_k,
    units.fmt_gib,
    units.fmt_mib,
    units.fmt_tps,
    units.fmt_pct,
    units.fmt_ratio,
    units.fmt_ms,
    units.fmt_seconds,
    units.fmt_duration,
    units.fmt_age,
]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("unknown", [None, math.nan, math.inf, -math.inf])
def test_unknown_is_a_dash(format_, unknown):
    assert format_(unknown) == DASH
    assert format_(unknown, dash="-") == "-"
    assert format_(unknown, width=6) == "     " + DASH


@pytest.mark.parametrize("format_", FORMATS)
@given(value=NUMBERS)
def test_width_is_held(format_, value):
    text = format_(value)
    assert format_(value, width=30) == text.rjust(30)
    assert not text.startswith("-0") or value < -0.005


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (612, "612"),
        (999.4, "999"),
        (999.5, "1.0K"),
        (1_204, "1.2K"),
        (9_949, "9.9K"),
        (9_950, "10K"),
        (48_325, "48K"),
        (131_072, "131K"),
        (999_499, "999K"),
        (999_500, "1.00M"),
        (6_812_345, "6.81M"),
        (12_345_678, "12.3M"),
        (123_456_789, "123M"),
        (1_500_000_000, "1.50G"),
        (-48_325, "-48K"),
    ],
)
def test_short_tokens(value, text):
    assert units.fmt_k(value) == text


@given(value=st.floats(min_value=0, max_value=9e14))
def test_short_tokens_take_five_cells(value):
    assert len(units.fmt_k(value)) <= 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.fmt_tokens(48_325), "48,325"),
        (units.fmt_gib(24.1 * 2**30), "24.1"),
        (units.fmt_gib(34_359_738_368, 0, unit=True), "32 GiB"),
        (units.fmt_mib(1_815_272_325, unit=True), "1,731 MiB"),
        (units.fmt_tps(9.64), "9.6"),
        (units.fmt_tps(222.4), "222"),
        (units.fmt_tps(99.96, unit=True), "100 tok/s"),
        (units.fmt_pct(0.37), "37 %"),
        (units.fmt_pct(0.3704, 1), "37.0 %"),
        (units.fmt_ratio(1.0213), "1.02 x"),
        (units.fmt_ms(87.4), "87 ms"),
        (units.fmt_ms(4.2), "4.2 ms"),
        (units.fmt_ms(12_345.0), "12,345 ms"),
        (units.fmt_seconds(157.82), "157.8 s"),
        (units.fmt_num(-0.04, 1), "0.0"),
        (units.fmt_num(2_405, unit="MHz", width=10), " 2,405 MHz"),
    ],
)
def test_texts(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (5.24, "5.2 s"),
        (9.949, "9.9 s"),
        (9.95, "10 s"),
        (57.4, "57 s"),
        (59.5, "1 m 00 s"),
        (128, "2 m 08 s"),
        (3_599.6, "1 h 00 m"),
        (11_100, "3 h 05 m"),
        (86_400 * 3 + 4 * 3_600, "3 d 4 h"),
        (-128, "-2 m 08 s"),
    ],
)
def test_durations(seconds, text):
    assert units.fmt_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (4.9, "4 s"),
        (5, "5 s"),
        (9.9, "5 s"),
        (59, "55 s"),
        (119, "1 m 55 s"),
        (134, "2 m 00 s"),
        (135, "2 m 15 s"),
        (659, "10 m"),
        (3_600 + 1_199, "1 h 10 m"),
        (86_400 * 2 + 3_599, "2 d 0 h"),
    ],
)
def test_ages(seconds, text):
    assert units.fmt_age(seconds) == text


def test_an_age_changes_seldom_in_its_first_two_minutes():
    texts = [units.fmt_age(second) for second in range(120)]
    assert sum(one != other for one, other in pairwise(texts)) == 5 + 22
