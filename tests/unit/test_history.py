"""The chart over time: columns of absolute time, holes, areas, labels that stand still."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4top.view.history import HistorySpec, Mark, Track, draw_history, time_marks
from ds4top.view.text import ASCII, UNICODE, row_text, row_width

ANY = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-100, 100)


def spec(points, now_s=1_000.0, **changes) -> HistorySpec:
    track = Track("headroom", tuple(points), **changes.pop("track", {}))
    return HistorySpec("headroom", "GiB", now_s, 600.0, (track,), **changes)


def lines(chart: HistorySpec, width: int, height: int, charset=UNICODE) -> list[str]:
    return [row_text(line) for line in draw_history(chart, width, height, charset)]


STEADY = [(float(t), 20.0) for t in range(400, 1_000)]


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(-1e3, 3e3), st.none() | ANY), max_size=30),
    width=st.integers(0, 130),
    height=st.integers(0, 30),
    pick=st.sampled_from(["mean", "min", "max", "last"]),
    fill=st.booleans(),
    now_s=st.floats(0, 2e3),
    gap_s=st.floats(0, allow_nan=False) | st.just(inf),
    charset=st.sampled_from([UNICODE, ASCII]),
)
def test_any_readings_at_any_size_fill_the_rectangle(
    points, width, height, pick, fill, now_s, gap_s, charset
):
    points.sort(key=lambda point: point[0])
    chart = spec(
        points, now_s, track={"pick": pick, "fill": fill}, marks=(Mark(6, "warn"),), gap_s=gap_s
    )
    rows = draw_history(chart, width, height, charset)
    assert [row_width(line) for line in rows] == [width] * height
    assert charset is UNICODE or all(row_text(line).isascii() for line in rows)


def test_it_holds_still_within_a_column():
    points = [(float(t), 20.0 + t % 7) for t in range(2_000)]
    # 96 columns of 6.25 s: one ends at 1,000.0 s.
    pictures = [
        lines(spec([p for p in points if p[0] <= 1_000], now), 100, 12)
        for now in (1_000.0, 1_003.0, 1_006.2, 1_006.3)
    ]
    assert pictures[0] == pictures[1] == pictures[2]
    assert pictures[3] != pictures[2]


def test_a_step_moves_the_picture_by_one_column():
    points = [(float(t), 20.0 + (t // 50) % 7) for t in range(1_001)]
    plot = [lines(spec(points, now), 100, 12)[1:-2] for now in (1_000.0, 1_006.25)]
    for before, after in zip(*plot, strict=True):
        assert after[4:-2] == before[5:-1]


def test_a_hole_is_shown():
    points = [p for p in STEADY if not 600 <= p[0] < 700]
    line = next(
        text for text in lines(spec(points), 100, 12) if "⠤" in text or "⠉" in text or "⣀" in text
    )
    assert " " * 15 in line.rstrip()
    filled = lines(spec(points, track={"fill": True}), 100, 12)[-3]
    assert 15 <= filled[3:].count(" ") <= 17


def test_an_unknown_reading_breaks_the_line():
    points = sorted([*STEADY, (710.0, None)], key=lambda p: p[0])
    coarse = [(t, v) for t, v in points if t % 20 == 0 or (t == 710 and v is None)]
    whole = [p for p in coarse if p[1] is not None]
    broken, joined = ("".join(lines(spec(p, gap_s=30.0), 100, 12)[1:-2]) for p in (coarse, whole))
    assert sum(map(str.isspace, broken)) > sum(map(str.isspace, joined))


def test_with_no_end_of_the_gap_all_that_is_known_is_joined():
    points = [(450.0, 20.0), (950.0, 20.0)]
    apart, joined = (
        "".join(lines(spec(points, gap_s=gap_s), 100, 12)[1:-2]) for gap_s in (5.0, inf)
    )
    dots = [sum(not text.isspace() for text in plot[3:]) for plot in (apart, joined)]
    assert dots[1] - dots[0] >= 70
    unknown = sorted([*points, (700.0, None)], key=lambda p: p[0])
    assert "".join(lines(spec(unknown, gap_s=inf), 100, 12)[1:-2]) == apart


def test_min_keeps_a_dip_that_mean_hides():
    points = [(t, 2.0 if t == 700.0 else 20.0) for t, _ in STEADY]
    low, mean = (
        spec(points, track={"pick": pick}, y_range=(0.0, 20.0)) for pick in ("min", "mean")
    )
    assert lines(low, 100, 12)[-4].strip(" │") != ""
    assert lines(mean, 100, 12)[-4].strip(" │") == ""


def test_an_area_reaches_its_value():
    chart = spec(STEADY, track={"fill": True}, y_range=(0.0, 40.0))
    text = lines(chart, 100, 12)
    assert [line[4:20].strip() for line in text[1:-2]] == [""] * 4 + ["▄" * 16] + ["█" * 16] * 4


def test_marks_are_labelled_lines():
    text = lines(
        spec(STEADY, y_range=(0.0, 30.0), marks=(Mark(6.0, "warn 6"), Mark(99.0, "no"))), 80, 12
    )
    assert sum("warn 6" in line for line in text) == 1
    assert not any("no" in line for line in text[1:-1])


def test_nothing_known_says_so():
    text = lines(spec([(900.0, None)]), 60, 10)
    assert sum("no history yet" in line for line in text) == 1


@pytest.mark.parametrize(
    ("span_s", "cells", "labels"),
    [
        (600, 96, ["10 m", "9 m", "8 m", "7 m", "6 m", "5 m", "4 m", "3 m", "2 m", "1 m", "now"]),
        (600, 40, ["10 m", "8 m", "6 m", "4 m", "2 m", "now"]),
        (600, 20, ["10 m", "5 m", "now"]),
        (60, 40, ["1 m", "45 s", "30 s", "15 s", "now"]),
        (86_400, 60, ["24 h", "18 h", "12 h", "6 h", "now"]),
        (600, 5, ["now"]),
        (600, 2, []),
    ],
)
def test_time_labels(span_s, cells, labels):
    assert [label for _, label in time_marks(span_s, cells)] == labels
