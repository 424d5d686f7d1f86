"""The plot of rate against context: its axes, what lies where, any size, any numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4top.view.axes import Tick, nice_step, token_label, token_ticks, value_ticks
from ds4top.view.plot import Bound, Curve, PlotSpec, Points, draw_plot, trace
from ds4top.view.text import ASCII, UNICODE, row_text, row_width

WINDOW = (64.0, 131_072.0)
ANY = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 3e5)


def rate(tokens: float) -> float:
    return 1 / (0.07 + tokens * 1.9e-6)


def spec(**changes) -> PlotSpec:
    values = {
        "title": "tok/s against context",
        "unit": "tok/s",
        "points": (Points("samples", trace(lambda x: rate(x) * 1.2, 2_000, 60_000, 400)),),
        "curves": (
            Curve(
                "reference", trace(lambda x: rate(x) * 0.8, 64, 65_536), "plot-ref", "dashed", "="
            ),
            Curve("own", trace(rate, 1_024, 131_072)),
        ),
        "live": (48_325.0, 9.6),
        "live_label": "9.6 at 48K",
        "x_range": WINDOW,
    }
    return PlotSpec(**{**values, **changes})


def lines(plot: PlotSpec, width: int, height: int, charset=UNICODE) -> list[str]:
    return [row_text(line) for line in draw_plot(plot, width, height, charset)]


def styles_at(plot: PlotSpec, width: int, height: int, style: str) -> list[tuple[int, int]]:
    found = []
    for y, line in enumerate(draw_plot(plot, width, height)):
        x = 0
        for text, name in line:
            found += [(x + i, y) for i, c in enumerate(text) if name == style and c != " "]
            x += len(text)
    return found


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(0, 130),
    height=st.integers(0, 44),
    points=st.lists(st.tuples(ANY, ANY), max_size=20),
    curve=st.lists(st.tuples(ANY, ANY), max_size=6),
    live=st.none() | st.tuples(ANY, ANY),
    bound=st.none() | st.builds(Bound, ANY, st.text(max_size=8)),
    is_log=st.booleans(),
    x_range=st.sampled_from([None, WINDOW, (0.0, 1.0)]),
    charset=st.sampled_from([UNICODE, ASCII]),
)
def test_any_numbers_at_any_size_fill_the_rectangle(
    width, height, points, curve, live, bound, is_log, x_range, charset
):
    plot = spec(
        points=(Points("p", tuple(points)),),
        curves=(Curve("c", tuple(curve)),),
        live=live,
        bound=bound,
        is_log=is_log,
        x_range=x_range,
        cursor_tokens=5_000.0,
    )
    rows = draw_plot(plot, width, height, charset)
    assert [row_width(line) for line in rows] == [width] * height
    assert charset is UNICODE or all(row_text(line).isascii() for line in rows)


@pytest.mark.parametrize("size", [(20, 4), (60, 12), (80, 16), (100, 20), (120, 40)])
def test_a_real_plot_has_axes_and_the_point_of_now(size):
    text = lines(spec(), *size)
    assert "128K" in text[-1]
    assert sum(line.count("●") for line in text) == (1 if size == (20, 4) else 2)
    assert sum("┤" in line for line in text) >= 2


def test_the_frame_of_a_large_plot():
    text = lines(spec(), 100, 20)
    assert text[0].startswith("tok/s against context  ")
    assert text[0].endswith("● now  ── own  ╌╌ reference  ⠕⠅ samples")
    assert text[-1].split() == [token_label(2.0**k) for k in range(6, 18)]
    assert text[-2].strip("└─┬ ") == ""
    assert text[-2].count("┬") == 12
    assert [line[:4] for line in text if "┤" in line] == ["15 ┤", "10 ┤", " 5 ┤", " 0 ┤"]


def test_a_small_plot_has_its_labels_on_the_axis_and_its_unit_inside():
    text = lines(spec(), 40, 4)
    assert "tok/s" in "".join(text[:3])
    assert text[-1] == "   └──128───512─────2K────8K────32K─128K"


def test_the_title_goes_before_it_is_squeezed():
    assert lines(spec(notes=(("24 h", "dim"),)), 100, 20)[0].startswith(
        "tok/s against context   24 h "
    )
    short = lines(spec(notes=(("24 h", "dim"),)), 30, 10)[0]
    assert short.startswith("tok/s against context  ")
    assert len(short) == 30


def test_points_lie_where_the_axes_say():
    plot = spec(points=(), curves=(), live=(4_096.0, 10.0), live_label="", y_range=(0.0, 20.0))
    text = lines(plot, 104, 23)
    column = text[-2].index("┬", text[-1].index("4K") - 2)
    rows = [y for y, line in enumerate(text) if "●" in line[3:] and y > 0]
    assert [text[y].index("●") for y in rows] == [column]
    assert text[rows[0]].startswith("10 ┤")


def test_the_live_point_lies_over_the_own_line_that_lies_over_the_rest():
    one = (4_096.0, 10.0)
    flat = ((64.0, 10.0), (131_072.0, 10.0))
    plot = spec(
        points=(Points("p", (one,) * 3),),
        curves=(Curve("ref", flat, "plot-ref"), Curve("own", flat)),
        live=one,
        live_label="",
        y_range=(0.0, 20.0),
    )
    inside = [place for place in styles_at(plot, 100, 20, "plot-own") if place[1] > 0]
    assert len(inside) == 96 - 1
    assert [place for place in styles_at(plot, 100, 20, "plot-ref") if place[1] > 0] == []
    assert len([place for place in styles_at(plot, 100, 20, "plot-live") if place[1] > 0]) == 1


def test_the_label_of_now_covers_nothing():
    text = lines(spec(), 100, 20)
    free = lines(spec(live_label=""), 100, 20)
    assert any("9.6 at 48K" in line for line in text)
    for with_label, without in zip(text, free, strict=True):
        changed = [b for a, b in zip(with_label, without, strict=True) if a != b]
        assert set(changed) <= {" "}


def test_a_bound_within_reach_is_a_line_else_a_label():
    near = spec(bound=Bound(19.0, "bound 19"))
    dots = styles_at(near, 100, 20, "plot-bound")
    assert len(dots) > 30
    assert len({y for _, y in dots}) == 1
    assert "".join(lines(near, 100, 20)).count("bound 19") == 1
    far = spec(bound=Bound(40.0, "bound 40"))
    assert len(styles_at(far, 100, 20, "plot-bound")) == len("bound40")
    assert lines(far, 100, 20)[1].endswith(" bound 40")


def test_the_point_of_now_is_not_drawn_into_the_words_of_the_bound():
    for tokens in (100_000.0, 2_000.0):
        drawn = "\n".join(lines(spec(live=(tokens, 19.0), bound=Bound(19.0, "bound 19")), 100, 20))
        assert drawn.count("bound 19") == 1
        assert drawn.count("●") >= 1


def test_a_bound_below_counts_the_same():
    curve = Curve("own", ((1_024.0, 70.0), (131_072.0, 90.0)))
    near = spec(points=(), curves=(curve,), live=None, bound=Bound(50.0, "bound 50"))
    assert len(styles_at(near, 100, 20, "plot-bound")) > 30
    far = spec(points=(), curves=(curve,), live=None, bound=Bound(10.0, "bound 10"))
    assert lines(far, 100, 20)[-3].endswith(" bound 10")


def test_a_small_plot_has_two_values_on_its_axis():
    assert [line[:4] for line in lines(spec(), 60, 8) if "┤" in line] == ["10 ┤", " 0 ┤"]


def test_a_stray_sample_does_not_set_the_scale_but_is_seen():
    cloud = tuple((1_000.0 + i, 10.0 + i % 3) for i in range(300))
    calm = spec(points=(Points("p", cloud),), curves=(), live=None)
    stray = spec(points=(Points("p", (*cloud, (64_000.0, 900.0))),), curves=(), live=None)
    labels = [[line[:3] for line in lines(plot, 80, 16) if "┤" in line] for plot in (calm, stray)]
    assert labels[0] == labels[1]
    assert {y for _, y in styles_at(stray, 80, 16, "plot-sample")} > {1}
    assert 1 not in {y for x, y in styles_at(calm, 80, 16, "plot-sample") if x > 60}
    assert 1 in {y for x, y in styles_at(stray, 80, 16, "plot-sample") if x > 60}


def test_without_a_value_it_says_so():
    text = lines(spec(points=(), curves=(), live=None), 60, 12)
    assert sum("no samples yet" in line for line in text) == 1
    assert "┤" not in "".join(text)


def test_more_samples_give_the_same_picture_as_drawing_them_at_once():
    cloud = trace(lambda x: rate(x) * 1.1, 100, 100_000, 300)
    for count in range(100, 301, 50):
        grown = lines(spec(points=(Points("p", cloud[:count]),), curves=()), 90, 18)
    fresh = lines(spec(points=(Points("p", tuple(reversed(cloud[:300]))),), curves=()), 90, 18)
    assert grown == fresh


def test_milliseconds_per_token_are_the_same_plot_of_other_numbers():
    curve = Curve("own", trace(lambda x: 1_000 / rate(x), 1_024, 131_072))
    text = lines(spec(title="ms per token", points=(), curves=(curve,), live=None), 100, 20)
    assert [line[:5] for line in text if "┤" in line] == ["300 ┤", "200 ┤", "100 ┤", "  0 ┤"]


def test_trace_ends_on_its_ends():
    points = trace(lambda x: x, 64, 131_072, 10)
    assert (points[0][0], points[-1][0], len(points)) == (64, 131_072, 11)
    assert trace(lambda x: x, 0, 10) == ()


@pytest.mark.parametrize(
    ("tokens", "label"),
    [(64, "64"), (512, "512"), (1_024, "1K"), (1_536, "1.5K"), (131_072, "128K"), (2**20, "1M")],
)
def test_token_labels(tokens, label):
    assert token_label(tokens) == label


@given(
    low=st.floats(1, 1e6),
    factor=st.floats(1.01, 1e4),
    cells=st.integers(1, 140),
    is_log=st.booleans(),
)
def test_token_ticks_never_touch(low, factor, cells, is_log):
    ticks = token_ticks(low, low * factor, cells, is_log)
    assert all(low <= tick.value <= low * factor * 1.000001 for tick in ticks)
    assert sum(len(tick.label) + 1 for tick in ticks) <= cells + 1


def test_token_ticks_thin_out_from_the_right():
    labels = [[t.label for t in token_ticks(64, 131_072, cells, True)] for cells in (96, 50, 20)]
    assert labels[0] == ["64", "128", "256", "512", *(f"{2**k}K" for k in range(8))]
    assert labels[1] == ["128", "512", "2K", "8K", "32K", "128K"]
    assert labels[2] == ["512", "8K", "128K"]


def test_linear_ticks_are_multiples_of_a_power_of_two():
    labels = [tick.label for tick in token_ticks(0, 131_072, 96, False)]
    assert labels == ["0", *(f"{k}K" for k in range(16, 129, 16))]


@pytest.mark.parametrize(
    ("span", "count", "step"), [(10, 5, 2), (9, 5, 2), (1, 4, 0.5), (0, 4, 1), (730, 3, 500)]
)
def test_nice_steps(span, count, step):
    assert nice_step(span, count) == pytest.approx(step)


def test_value_ticks():
    assert value_ticks(3.2, 14.4, 16) == (
        0.0,
        15.0,
        (Tick(0, "0"), Tick(5, "5"), Tick(10, "10"), Tick(15, "15")),
    )
    low, high, ticks = value_ticks(8.0, 14.4, 16)
    assert (low, high) == pytest.approx((8.0, 14.4))
    assert [tick.label for tick in ticks] == ["8", "10", "12", "14"]
    assert value_ticks(5.0, 5.0, 3)[0] <= 5.0 < value_ticks(5.0, 5.0, 3)[1]


@given(low=st.floats(-1e6, 1e6), span=st.floats(0, 1e6), rows=st.integers(0, 50))
def test_a_value_range_holds_its_values(low, span, rows):
    first, last, ticks = value_ticks(low, low + span, rows)
    slack = 1e-6 * max(abs(low), span, 1)
    assert first <= low + slack
    assert last >= low + span - slack
    assert len(ticks) <= 8
    assert all(first - slack <= tick.value <= last + slack for tick in ticks)
