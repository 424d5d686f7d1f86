from __future__ import annotations

from typing import Any

import pytest

from ds4top.core import events as ev
from ds4top.core.classify import CAUSE_WORDS, Cause, Heat, cold_cause, divergence, heat_of
from ds4top.core.state import Request

SHORTER = "incoming-prompt-shorter-than-live-checkpoint"


def request(cached: int, prompt: int, **more: Any) -> Request:
    first = more.pop("first", False)
    found = Request(1, 1, "chat", cached, prompt, prompt - cached, 0.0, 512, first)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def miss(common: int, reason: str = "token-mismatch") -> ev.LiveMiss:
    return ev.LiveMiss(0.0, False, 9_000, 8_000, common, reason)


@pytest.mark.parametrize(
    ("cached", "prompt", "heat"),
    [
        (0, 2_047, Heat.SHORT),
        (2_000, 2_047, Heat.SHORT),
        (0, 0, Heat.SHORT),
        (0, 2_048, Heat.COLD),
        (1_024, 2_048, Heat.HOT),
        (1_023, 2_048, Heat.COLD),
        (46_909, 48_113, Heat.HOT),
    ],
)
def test_heat(cached: int, prompt: int, heat: Heat) -> None:
    assert heat_of(request(cached, prompt)) is heat


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"evicted_before": True, "first": True, "cached": 10, "miss": miss(9)}, Cause.EVICTED),
        ({"first": True, "cached": 10, "miss": miss(9)}, Cause.FIRST_AFTER_START),
        ({"cached": 10, "miss": miss(9)}, Cause.PARTIAL),
        ({}, Cause.NEW_PREFIX),
        ({"miss": miss(511)}, Cause.NEW_PREFIX),
        ({"miss": miss(511, SHORTER)}, Cause.NEW_PREFIX),
        ({"miss": miss(512, SHORTER)}, Cause.SHORTENED),
        ({"miss": miss(512)}, Cause.DIVERGED),
        ({"miss": miss(512, "some-newer-reason")}, Cause.DIVERGED),
    ],
)
def test_the_first_cause_that_fits(more: dict[str, Any], cause: Cause) -> None:
    cold = request(more.pop("cached", 0), 8_000, **more)
    assert cold_cause(cold) is cause
    assert cause in CAUSE_WORDS


def test_only_a_cold_request_has_a_cause() -> None:
    assert cold_cause(request(7_000, 8_000, miss=miss(512))) is None
    assert cold_cause(request(0, 100, miss=miss(512))) is None


def test_the_caches_own_minimum_decides_what_is_a_new_conversation() -> None:
    assert cold_cause(request(0, 8_000, miss=miss(1_000), cache_min_tokens=2_000)) is (
        Cause.NEW_PREFIX
    )


def test_divergence_is_where_the_history_differs() -> None:
    assert divergence(request(0, 8_000, miss=miss(1_204))) == 1_204
    assert divergence(request(0, 8_000, miss=miss(511))) is None
    assert divergence(request(0, 8_000, miss=miss(1_204, SHORTER))) is None
    assert divergence(request(0, 8_000)) is None
