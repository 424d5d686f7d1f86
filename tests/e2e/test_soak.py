"""Hours of the Live view in seconds: nothing piles up."""

from __future__ import annotations

import os

import pytest

from tests.bench.soak import GROWTH, soak

TICKS = int(os.environ.get("DS4TOP_SOAK_TICKS", "8640"))


def test_nothing_piles_up(capsys: pytest.CaptureFixture[str]) -> None:
    found = soak(TICKS)
    with capsys.disabled():
        print(
            f"\nsoak: {TICKS:,} ticks, {found.requests:,} requests of {found.lives} lives:"
            f" RSS {found.growth:+.1%}, {found.tick_ms:.1f} ms a tick"
        )
    first, last = found.figures[0], found.figures[-1]
    assert last.ticks == TICKS
    # It was at work: a turn every quarter of a minute, drawn on a terminal.
    assert found.requests > TICKS / 20
    assert found.written_bytes > 100 * TICKS
    assert found.growth <= GROWTH
    assert {figures.threads for figures in found.figures} == {first.threads}
    assert {figures.descriptors for figures in found.figures} == {first.descriptors}
