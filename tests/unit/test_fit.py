from __future__ import annotations

import time
from array import array
from datetime import date
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core import fit
from ds4top.data import reference_text

CURVES = fit.parse_reference(reference_text())


def test_least_squares_finds_a_line_and_knows_when_there_is_none() -> None:
    assert fit.ols([0, 1, 2, 3], [1, 3, 5, 7]) == (1.0, 2.0)
    assert fit.ols([0, 1, 2], [0, 1, 0]) == (pytest.approx(1 / 3), 0.0)
    assert fit.ols([5, 5, 5], [1, 2, 3]) is None
    assert fit.ols([1], [1]) is None
    assert fit.ols([], []) is None


@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_the_middle_is_the_median(values: list[float]) -> None:
    assert fit.middle(values) == median(values)


@given(st.floats(1e-4, 0.1), st.floats(-1e-8, 1e-6), st.lists(st.integers(0, 200_000), min_size=2))
def test_least_squares_is_exact_on_a_line(a: float, b: float, xs: list[int]) -> None:
    found = fit.ols(xs, [a + b * x for x in xs])
    if len(set(xs)) == 1:
        assert found is None
    else:
        assert found is not None
        assert found[0] + found[1] * xs[0] == pytest.approx(a + b * xs[0], rel=1e-6)


def prefill(count: int, a_s: float = 0.002, b_s: float = 2e-8) -> fit.PrefillLine | None:
    contexts = [2_048 * (i + 1) for i in range(count)]
    return fit.prefill_line(contexts, [1 / (a_s + b_s * c) for c in contexts])


def test_prefill_line_needs_twenty_samples() -> None:
    assert prefill(19) is None
    line = prefill(20)
    assert line is not None
    assert (line.a_s, line.b_s, line.samples) == (pytest.approx(0.002), pytest.approx(2e-8), 20)
    assert fit.prefill_line([4_096] * 30, [400.0] * 30) is None


def test_prefill_is_integrated_not_extrapolated() -> None:
    line = fit.PrefillLine(0.002338, 14.1e-9, 100)
    assert line.integrate(0, 100_000) == pytest.approx(304.3)
    assert line.integrate(40_000, 100_000) + line.integrate(0, 40_000) == pytest.approx(304.3)
    assert fit.prefill_eta_s(line, 0, 100_000) == pytest.approx(304.3)
    assert fit.prefill_eta_s(line, 100_000, 100_000) == 0
    assert fit.prefill_eta_s(line, 100_500, 100_000) == 0
    assert fit.prefill_eta_s(None, 0, 100_000) is None


def samples(contexts: list[int], a_ms: float = 70.5, b_ms: float = 0.000233) -> list[float]:
    return [1000 / (a_ms + b_ms * c) for c in contexts]


def test_decode_line_is_not_moved_by_outliers() -> None:
    contexts = [1_024 + 500 * i for i in range(60)]
    rates = samples(contexts)
    for i in range(0, 60, 5):
        rates[i] = 2.0
    line = fit.decode_line(contexts, rates)
    assert line is not None
    assert line.a_ms == pytest.approx(70.5, rel=1e-6)
    assert line.b_ms == pytest.approx(0.000233, rel=1e-6)
    assert (line.samples, line.to_tokens) == (60, 1_024 + 500 * 59)
    assert line.tps(16_384) == pytest.approx(1000 / (70.5 + 0.000233 * 16_384))
    assert line.tps(1_023) is None


@pytest.mark.parametrize(
    ("contexts", "judged"),
    [
        ([1_024 + 200 * i for i in range(20)], True),
        ([1_024 + 200 * i for i in range(19)], False),
        ([1_024 + 161 * i for i in range(20)], False),
        ([100 * i for i in range(1, 11)] + [2_000 + 1_000 * i for i in range(19)], False),
        ([2_000] * 30, False),
    ],
)
def test_decode_line_needs_samples_over_a_factor_of_four(contexts: list[int], judged: bool) -> None:
    assert (fit.decode_line(contexts, samples(contexts)) is not None) is judged


def test_decode_line_of_many_samples_is_cheap_and_right() -> None:
    contexts = [1_024 + (i * 7_919) % 120_000 for i in range(100_000)]
    rates = samples(contexts)
    best = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        line = fit.decode_line(contexts, rates)
        best = min(best, time.perf_counter() - begun)
    assert line is not None
    assert line.a_ms == pytest.approx(70.5, rel=1e-6)
    # Ten times what it takes on an idle core, so that a busy machine does not fail it.
    assert best < 0.1


def test_samples_of_the_first_request_can_be_left_out() -> None:
    numbers = [1, 1, 2, 3]
    assert fit.without(numbers, {1}, array("q", (10, 20, 30, 40))) == array("q", (30, 40))
    assert fit.without(numbers, {2}, array("d", (1, 2, 3, 4))) == array("d", (1, 2, 4))


def test_reference_curves_come_with_the_package() -> None:
    assert set(CURVES) == {fit.DAILY_AGENT, fit.STOCK_MAY, fit.STOCK_SEPTEMBER}
    assert [len(CURVES[name].contexts) for name in CURVES] == [4, 32, 4]


@pytest.mark.parametrize(
    ("name", "context", "tps"),
    [
        (fit.DAILY_AGENT, 64, 14.4),
        (fit.DAILY_AGENT, 4_096, 11.1),
        (fit.DAILY_AGENT, 65_536, 5.2),
        # linear in ms per token: halfway between 1000/11.1 and 1000/9.2
        (fit.DAILY_AGENT, 10_240, 2_000 / (1_000 / 11.1 + 1_000 / 9.2)),
        (fit.STOCK_MAY, 16_384, 13.55),
        (fit.STOCK_SEPTEMBER, 100_000, 16.16),
        (fit.DAILY_AGENT, 63, None),
        (fit.DAILY_AGENT, 65_537, None),
        (fit.STOCK_SEPTEMBER, 7_999, None),
    ],
)
def test_reference_between_its_points_and_never_beyond(
    name: str, context: int, tps: float | None
) -> None:
    found = CURVES[name].tps(context)
    assert found == (None if tps is None else pytest.approx(tps))


@pytest.mark.parametrize(
    ("flags", "built_on", "name"),
    [
        ({"--no-mmap"}, date(2026, 9, 11), fit.DAILY_AGENT),
        ({"--max-batch-size", "--ctx"}, None, fit.DAILY_AGENT),
        ({"--ctx"}, None, fit.STOCK_MAY),
        (set(), date(2026, 6, 1), fit.STOCK_MAY),
        (set(), date(2026, 8, 1), fit.STOCK_SEPTEMBER),
        (set(), date(2027, 1, 1), fit.STOCK_SEPTEMBER),
    ],
)
def test_reference_by_build(flags: set[str], built_on: date | None, name: str) -> None:
    assert fit.reference_for(flags, built_on) == name


def test_expected_rate_says_where_it_comes_from() -> None:
    own = fit.DecodeLine(100.0, 0.0, 42, 30_000)
    assert fit.expected_decode(8_192, own, CURVES) == (10.0, "own samples (42)")
    assert fit.expected_decode(500, own, CURVES) is None
    stock = fit.expected_decode(8_192, None, CURVES)
    assert stock == (pytest.approx(13.74), "stock ds4, DGX Spark, May 2026")
    agent = fit.expected_decode(4_096, None, CURVES, {"--no-mmap"})
    assert agent == (pytest.approx(11.1), "daily-agent table (DGX Spark)")
    assert fit.expected_decode(500_000, None, CURVES) is None
    assert fit.expected_decode(8_192, None, {}) is None
