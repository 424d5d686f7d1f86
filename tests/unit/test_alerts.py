"""Each alert: where it comes, with which figure and fix, where it must not; how it goes again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.alert_rules import slow_cause
from ds4top.core.alerts import (
    RULES,
    UNKNOWN_S,
    Alert,
    AlertBook,
    AlertFacts,
    XidSeen,
    alerts_now,
    facts_of_log,
)
from ds4top.core.derive import status_of
from ds4top.core.logread import LogReader
from ds4top.core.memory import slope_bytes_per_s, time_to_zero_s
from ds4top.core.reduce import Reducer
from ds4top.core.stamps import StampClock
from ds4top.core.state import LogState
from ds4top.core.units import GIB

DATA = Path(__file__).parent.parent / "data" / "ds4"
NOW = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
LOW = {"utilisation_pct": 96.0, "sm_clock_mhz": 695.0, "power_w": 15.0, "temperature_c": 48.0}

COMES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("poisoned", {"poisoned": "CUDA sync failed: an illegal memory access was encountered"},
     "critical", "CUDA sync failed: an illegal memory access was encountered", "ds4top restart"),
    ("poisoned", {"xids": (XidSeen(43, ours=True, age_s=2.0),)}, "critical",
     "Xid 43 names this server", "ds4top restart"),
    ("server-gone", {"gone": True, "gone_why": "killed by the OOM killer at 12:01"}, "critical",
     "killed by the OOM killer at 12:01", "ds4top start"),
    ("start-failed", {"state": "failed", "state_why": "port in use: 8000"}, "critical",
     "port in use: 8000", "see the log (6), then start it again (S)"),
    ("headroom", {"headroom_bytes": int(4.2 * GIB), "residency": "copy"}, "warning",
     "4.2 GiB, below 6.0 GiB",
     "close what shares the memory (4), or ds4top restart --mmap"),
    ("headroom", {"headroom_bytes": int(4.2 * GIB), "slope_bytes_per_s": -1e6}, "warning",
     "4.2 GiB, below 6.0 GiB", "close what shares the memory (4), or a smaller --ctx"),
    ("headroom",
     {"headroom_bytes": 2 * GIB, "slope_bytes_per_s": -0.4 * GIB, "to_zero_s": 5.0,
      "co_tenant": "comfyui"}, "critical",
     "2.0 GiB, falling 0.4 GiB/s, gone in 5.0 s", "close comfyui, or a smaller --ctx"),
    ("headroom",
     {"headroom_bytes": 20 * GIB, "slope_bytes_per_s": -4.4 * GIB, "to_zero_s": 4.5}, "critical",
     "20.0 GiB, falling 4.4 GiB/s, gone in 4.5 s",
     "close what shares the memory (4), or a smaller --ctx"),
    ("headroom", {"loading": True, "headroom_bytes": 60 * GIB, "projected_bytes": 5 * GIB},
     "warning", "5.0 GiB, below 6.0 GiB",
     "close what shares the memory (4), or a smaller --ctx"),
    ("headroom", {"memory_level": "critical", "headroom_bytes": 3 * GIB}, "critical",
     "3.0 GiB, was below 2.5 GiB", "close what shares the memory (4), or a smaller --ctx"),
    ("oom-kill", {"oom_kills": 1, "oom_victim": "python3 914871", "oom_age_s": 12.0}, "critical",
     "1 OOM kill of python3 914871, 10 s ago",
     "close what shares the memory, or a smaller --ctx"),
    ("xid", {"xids": (XidSeen(13, age_s=3.0),)}, "warning", "Xid 13, 3 s ago",
     "ds4top restart if requests fail"),
    ("xid", {"xids": (XidSeen(79, age_s=60.0), XidSeen(13, age_s=3.0))}, "critical",
     "Xid 79, 1 m 00 s ago", "a restart of the server may not help: reboot"),
    ("driver-no-memory",
     {"driver_no_memory": "warning", "driver_no_memory_count": 75, "free_bytes": 4 * GIB},
     "warning", "75 NV_ERR_NO_MEMORY lines, 4.0 GiB free",
     "close what shares the memory (4)"),
    ("driver-no-memory", {"driver_no_memory": "critical"}, "critical",
     "10 or more lines in 10 s", "close what shares the memory (4)"),
    ("low-power", LOW, "warning", "695 MHz / 15 W at 96 %, healthy is about 2,400",
     "known workaround: unplug the supply from wall and device for 60 s"),
    ("low-power", {**LOW, "sm_clock_mhz": 1790.0, "low_power": True}, "warning",
     "1790 MHz / 15 W at 96 %, healthy is about 2,400",
     "known workaround: unplug the supply from wall and device for 60 s"),
    ("throttle",
     {"throttle": ("GPU idle", "HW thermal slowdown"), "sm_clock_mhz": 1780.0,
      "temperature_c": 91.0, "margin_c": 3.0, "throttle_ms_per_s": 120.0}, "warning",
     "HW thermal slowdown at 1780 MHz, 91 °C, 3 °C to the limit, 120 ms of each s",
     "clear its air vents, or cap it: sudo nvidia-smi -lgc 0,2100"),
    ("slow-decode",
     {"decode_tps": 3.1, "expected_tps": 6.2, "expected_from": "own line", "slow_samples": 3},
     "warning", "3.1 tok/s, 0.50 x of the 6.2 expected at this context (own line)",
     "likely cause: no cause found"),
    ("refaults",
     {"residency": "mmap", "refault_bytes_per_s": 310e6, "co_tenant": "comfyui"}, "warning",
     "310 MB/s of weights beside comfyui", "close comfyui, or ds4top restart --no-mmap"),
    ("swap-in", {"swap_in_bytes_per_s": 4.4e6}, "warning", "4.4 MB/s read back",
     "close what shares the memory; sudo swapoff -a once there is room"),
    ("log-silent", {"last_known": True, "quiet_s": 95.0, "state": "decode"}, "warning",
     "no line for 1 m 35 s in decode", "is it alive? see its process (5) and its log (6)"),
    ("context", {"context_tokens": 104_858, "context_limit_tokens": 131_072}, "warning",
     "80 % used, 104,858 of 131,072",
     "past the limit the client gets a 400: compact the conversation"),
    ("kv-disk",
     {"kv_free_bytes": 3 * GIB, "kv_used_bytes": 2 * GIB, "kv_budget_bytes": 8 * GIB}, "warning",
     "3.0 GiB free, 6.0 GiB of the budget still to fill",
     "free some, or --kv-disk-space-mb 4608"),
    ("kv-store", {"store_failed": "store failed (evict): No space left on device"}, "warning",
     "store failed (evict): No space left on device",
     "check space and rights of the KV directory"),
    ("big-blocks", {"big_blocks": 0, "huge_blocks": 0}, "warning",
     "0 free blocks of 2 MiB and more, 0 of 16 MiB and more",
     "stop it, then as root: sync; echo 3 > /proc/sys/vm/drop_caches; else reboot"),
    ("client-gone", {"clients_gone": 1, "busy": True}, "warning",
     "1 connection closed by the client", "ds4top restart, if it is long"),
    ("divergence", {"state": "idle", "divergence": (1_204, 4)}, "warning",
     "near token 1,204, 4 times",
     "something early differs each turn (a date, a tool list?): keep it the same"),
    *[
        (name, {"log_warnings": {name: 2}}, "warning", "2 x in the log", fix)
        for name, fix in (
            ("kv-dir-failed", "it serves without a disk cache: mend rights or --kv-disk-dir"),
            ("arena-failed", "free memory"),
            ("temp-failed", "lower --ctx or free memory"),
            ("tensor-failed", "lower --ctx or free memory"),
            ("managed-kv", "--ctx 131072"),
            ("q8-failed",
             "harmless alone, but memory is tight: DS4_CUDA_NO_Q8_F16_CACHE=1"),
        )
    ],
]  # fmt: skip

QUIET: list[tuple[str, dict[str, Any]]] = [
    ("poisoned", {"state": "idle"}),
    ("poisoned", {"xids": (XidSeen(43, ours=False), XidSeen(13, ours=True))}),
    ("server-gone", {"gone": False}),
    ("server-gone", {"gone": True, "gone_clean": True}),
    ("start-failed", {"state": "idle"}),
    ("headroom", {"headroom_bytes": 6 * GIB}),
    ("headroom", {"headroom_bytes": int(24.1 * GIB), "slope_bytes_per_s": -1e6}),
    # A normal load falls by 4 GiB a second and ends where it fits.
    ("headroom",
     {"loading": True, "headroom_bytes": 30 * GIB, "projected_bytes": 24 * GIB,
      "slope_bytes_per_s": -4 * GIB, "to_zero_s": 7.5}),
    ("headroom", {"memory_level": "ok", "headroom_bytes": 5 * GIB}),
    ("oom-kill", {"oom_kills": 0}),
    ("oom-kill", {"oom_kills": 2, "oom_age_s": 601.0}),
    ("xid", {"xids": ()}),
    ("xid", {"xids": (XidSeen(79, age_s=601.0),)}),
    ("driver-no-memory", {"driver_no_memory": "info", "driver_no_memory_count": 55}),
    # Idle it looks well, and may not be: that is no answer either way.
    ("low-power", {**LOW, "utilisation_pct": 0.0}),
    ("low-power", {**LOW, "sm_clock_mhz": 2380.0}),
    ("low-power", {**LOW, "temperature_c": 91.0}),
    ("low-power", {**LOW, "throttle": ("SW thermal slowdown",)}),
    ("low-power", {**LOW, "clock_locked": True}),
    ("low-power", {**LOW, "low_power": False}),
    ("throttle", {"throttle": ("GPU idle", "SW power cap", "applications clocks setting")}),
    ("slow-decode", {"decode_tps": 5.9, "expected_tps": 6.2, "slow_samples": 0}),
    ("slow-decode", {"decode_tps": 3.1, "expected_tps": 6.2, "slow_samples": 2}),
    ("refaults", {"residency": "copy", "refault_bytes_per_s": 310e6}),
    ("refaults", {"residency": "mmap", "refault_bytes_per_s": 310e6, "loading": True}),
    ("refaults", {"residency": "mmap", "refault_bytes_per_s": 1e6}),
    ("swap-in", {"swap_in_bytes_per_s": 0.0}),
    ("log-silent", {"last_known": False, "quiet_s": 3600.0, "state": "idle"}),
    ("context", {"context_tokens": 48_325, "context_limit_tokens": 131_072}),
    ("kv-disk", {"kv_free_bytes": 6 * GIB, "kv_used_bytes": 2 * GIB, "kv_budget_bytes": 8 * GIB}),
    ("kv-disk", {"kv_free_bytes": 0, "kv_used_bytes": 9 * GIB, "kv_budget_bytes": 8 * GIB}),
    ("kv-store", {"state": "idle"}),
    ("big-blocks", {"big_blocks": 12}),
    ("client-gone", {"clients_gone": 0, "busy": True}),
    ("client-gone", {"clients_gone": 1, "busy": False}),
    ("divergence", {"state": "idle"}),
    *[(name, {"state": "idle"}) for name in
      ("kv-dir-failed", "arena-failed", "temp-failed", "tensor-failed", "managed-kv",
       "q8-failed")],
]  # fmt: skip


def only(alerts: tuple[Alert, ...], rule: str) -> Alert | None:
    hits = [alert for alert in alerts if alert.rule == rule]
    assert len(hits) <= 1
    return hits[0] if hits else None


@pytest.mark.parametrize(("rule", "facts", "level", "figure", "fix"), COMES)
def test_an_alert_comes_with_its_figure_and_its_fix(
    rule: str, facts: dict[str, Any], level: str, figure: str, fix: str
) -> None:
    now = only(alerts_now(AlertFacts(**facts), 5.0), rule)
    assert now is not None
    assert (now.level, now.figure, now.fix, now.since) == (level, figure, fix, 5.0)
    assert now.what
    assert all(part in now.text for part in (now.what, figure, fix))
    assert now.style == {"warning": "warn", "critical": "crit"}[level]
    book = AlertBook()
    found: tuple[Alert, ...] = ()
    for tick in range(21):
        found = book.update(AlertFacts(**facts), 100.0 + tick * 0.5)
    kept = only(found, rule)
    assert kept is not None
    assert (kept.level, kept.figure, kept.fix, kept.since) == (level, figure, fix, 100.0)
    assert not kept.stale


@pytest.mark.parametrize(("rule", "facts"), QUIET)
def test_an_alert_does_not_come(rule: str, facts: dict[str, Any]) -> None:
    assert only(alerts_now(AlertFacts(**facts), 5.0), rule) is None
    book = AlertBook()
    for tick in range(41):
        assert only(book.update(AlertFacts(**facts), tick * 0.5), rule) is None


def test_every_alert_is_tested_both_ways() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    assert {rule for rule, *_ in COMES} == set(ids)
    assert {rule for rule, _ in QUIET} == set(ids)


def test_what_is_unknown_is_no_alert() -> None:
    assert alerts_now(AlertFacts(), 0.0) == ()


def test_the_worst_stands_first() -> None:
    facts = AlertFacts(
        state="failed", state_why="out of memory", swap_in_bytes_per_s=5e6, big_blocks=0,
        headroom_bytes=GIB,
    )  # fmt: skip
    assert [(alert.rule, alert.level) for alert in alerts_now(facts, 0.0)] == [
        ("start-failed", "critical"),
        ("headroom", "critical"),
        ("swap-in", "warning"),
        ("big-blocks", "warning"),
    ]


def headroom(book: AlertBook, gib: float | None, now: float) -> Alert | None:
    size = None if gib is None else int(gib * GIB)
    return only(book.update(AlertFacts(headroom_bytes=size), now), "headroom")


def test_headroom_comes_on_the_second_sample_and_leaves_a_gib_higher_after_5_s() -> None:
    book = AlertBook()
    assert headroom(book, 5.9, 0.0) is None
    alert = headroom(book, 5.8, 0.5)
    assert alert is not None
    assert (alert.level, alert.since, alert.figure) == ("warning", 0.0, "5.8 GiB, below 6.0 GiB")
    # Above where it came, below where it leaves: it stands, with today's figure.
    alert = headroom(book, 6.9, 60.0)
    assert alert is not None
    assert alert.figure == "6.9 GiB, was below 6.0 GiB"
    assert headroom(book, 7.1, 70.0) is not None
    assert headroom(book, 7.1, 74.5) is not None
    # One dip begins the five seconds anew.
    assert headroom(book, 6.8, 74.6) is not None
    assert headroom(book, 7.1, 75.0) is not None
    assert headroom(book, 7.1, 79.9) is not None
    assert headroom(book, 7.1, 80.0) is None
    assert headroom(book, 5.9, 81.0) is None


def test_a_single_low_sample_is_no_alert() -> None:
    book = AlertBook()
    for tick in range(20):
        assert headroom(book, 5.0 if tick % 2 else 9.0, tick * 0.5) is None


def test_warning_turns_critical_and_back_with_one_since() -> None:
    book = AlertBook()
    levels = []
    steps = [(5.0, 0.0), (5.0, 0.5), (2.0, 1.0), (2.0, 1.5), (3.2, 2.0), (3.6, 3.0), (3.6, 8.0)]
    for gib, now in steps:
        alert = headroom(book, gib, now)
        levels.append(None if alert is None else (alert.level, alert.since))
    assert levels == [
        None,
        ("warning", 0.0),
        ("warning", 0.0),
        ("critical", 0.0),
        ("critical", 0.0),
        ("critical", 0.0),
        ("warning", 0.0),
    ]


def test_what_becomes_unknown_is_the_last_known_for_a_minute() -> None:
    book = AlertBook()
    headroom(book, 2.0, 0.0)
    headroom(book, 2.0, 0.5)
    alert = headroom(book, None, 1.0)
    assert alert is not None
    assert (alert.stale, "(last known)" in alert.text) == (True, True)
    assert headroom(book, None, 1.0 + UNKNOWN_S - 0.1) is not None
    fresh = headroom(book, 2.1, 1.0 + UNKNOWN_S - 0.05)
    assert fresh is not None
    assert not fresh.stale
    headroom(book, None, 100.0)
    assert headroom(book, None, 100.0 + UNKNOWN_S) is None


def test_constructed_cited_collapse_is_critical_before_its_end() -> None:
    """29.0 to 6.3 GiB in 11 s, 13.2 GiB of it within 3 s (vllm-project/vllm#56824)."""
    corners = [(0.0, 29.0), (5.0, 21.5), (8.0, 8.3), (11.0, 6.3)]
    book = AlertBook()
    points: list[tuple[float, int]] = []
    came: float | None = None
    for tick in range(int(11.0 * 4) + 1):
        t = tick / 4
        index = max(i for i, (at, _) in enumerate(corners[:-1]) if at <= t)
        (t0, y0), (t1, y1) = corners[index], corners[index + 1]
        size = int((y0 + (y1 - y0) * (t - t0) / (t1 - t0)) * GIB)
        points.append((t, size))
        slope = slope_bytes_per_s(points, 2.0)
        facts = AlertFacts(
            headroom_bytes=size,
            slope_bytes_per_s=slope,
            to_zero_s=time_to_zero_s(size, slope),
        )
        alert = only(book.update(facts, t), "headroom")
        if alert is not None and alert.level == "critical" and came is None:
            came = t
    assert came is not None
    assert 5.0 < came <= 7.5


def test_constructed_normal_load_raises_nothing() -> None:
    """80.76 GiB in 27 s from 113.1 GiB, ending at 24.1 GiB."""
    book = AlertBook()
    points: list[tuple[float, int]] = []
    for tick in range(27 * 10 + 1):
        t = tick / 10
        loaded = 80.76 * t / 27
        size = int((113.1 - loaded) * GIB)
        points.append((t, size))
        slope = slope_bytes_per_s(points, 2.0)
        facts = AlertFacts(
            state="loading",
            loading=True,
            headroom_bytes=size,
            projected_bytes=int(24.1 * GIB),
            slope_bytes_per_s=slope,
            to_zero_s=time_to_zero_s(size, slope),
        )
        assert book.update(facts, t) == ()


def test_low_power_needs_five_seconds_and_is_counted() -> None:
    book = AlertBook()
    low = AlertFacts(**LOW)
    well = replace(low, sm_clock_mhz=2380.0)
    assert only(book.update(low, 0.0), "low-power") is None
    assert only(book.update(low, 4.5), "low-power") is None
    first = only(book.update(low, 5.0), "low-power")
    assert first is not None
    assert (first.times, first.since) == (1, 0.0)
    # Between the two limits it stands.
    assert only(book.update(replace(low, sm_clock_mhz=1500.0), 60.0), "low-power") is not None
    assert only(book.update(well, 61.0), "low-power") is not None
    assert only(book.update(well, 71.0), "low-power") is None
    book.update(low, 1800.0)
    second = only(book.update(low, 1806.0), "low-power")
    assert second is not None
    assert (second.times, "(2 times in 24 h)" in second.text) == (2, True)


def test_low_power_that_nobody_saw_go_is_not_counted_again() -> None:
    book = AlertBook()
    low = AlertFacts(**LOW)
    idle = replace(low, utilisation_pct=0.0)
    book.update(low, 0.0)
    assert only(book.update(low, 6.0), "low-power") is not None
    stale = only(book.update(idle, 7.0), "low-power")
    assert stale is not None
    assert stale.stale
    assert only(book.update(idle, 7.0 + UNKNOWN_S), "low-power") is None
    book.update(low, 200.0)
    again = only(book.update(low, 206.0), "low-power")
    assert again is not None
    assert again.times == 1


def test_slow_decode_leaves_above_where_it_came() -> None:
    book = AlertBook()
    slow = AlertFacts(decode_tps=4.0, expected_tps=6.2, slow_samples=3)
    assert only(book.update(slow, 0.0), "slow-decode") is not None
    better = replace(slow, decode_tps=5.1, slow_samples=0)
    assert only(book.update(better, 60.0), "slow-decode") is not None
    well = replace(slow, decode_tps=5.4, slow_samples=0)
    assert only(book.update(well, 61.0), "slow-decode") is not None
    assert only(book.update(well, 71.0), "slow-decode") is None


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({**LOW, "power_pct": 75}, "low-power state at 695 MHz"),
        ({"throttle": ("HW thermal slowdown",), "power_pct": 75}, "HW thermal slowdown"),
        (
            {"residency": "mmap", "refault_bytes_per_s": 310e6, "headroom_bytes": GIB},
            "weights are read again, 310 MB/s",
        ),
        ({"headroom_bytes": GIB, "co_tenant": "x"}, "memory pressure, 1.0 GiB of headroom"),
        ({"co_tenant": "comfyui", "power_pct": 75}, "comfyui on the same GPU"),
        ({"power_pct": 75}, "--power 75"),
        ({"slow_core": True}, "it runs on a small core"),
        ({"power_pct": 100, "headroom_bytes": 20 * GIB}, "no cause found"),
    ],
)
def test_the_likeliest_cause_of_a_slow_decode(facts: dict[str, Any], cause: str) -> None:
    assert slow_cause(AlertFacts(**facts)) == cause


def test_reset_forgets() -> None:
    book = AlertBook()
    assert book.update(AlertFacts(state="failed"), 0.0)
    book.reset()
    assert book.standing(1.0) == ()


# The log's own facts -----------------------------------------------------------------------


def read(text: bytes) -> LogState:
    state, reader = LogState(), LogReader(StampClock(NOW, UTC))
    Reducer(state).apply([*reader.feed(text), *reader.close()])
    return state


def test_a_real_log_that_was_stopped_raises_nothing() -> None:
    log = read((DATA / "h200-copy" / "server.log").read_bytes())
    facts = facts_of_log(log, status_of(log, NOW))
    assert facts.context_limit_tokens == 131_072
    assert (facts.gone, facts.poisoned, facts.store_failed) == (False, None, None)
    found = {alert.rule for alert in alerts_now(facts, NOW)}
    assert "server-gone" not in found
    assert "start-failed" not in found


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("port-in-use", "port in use"),
        ("missing-model", "model not found"),
        ("unknown-option", "unknown option --no-mmap"),
    ],
)
def test_real_failed_starts(name: str, figure: str) -> None:
    log = read((DATA / "failures" / f"{name}.stderr").read_bytes())
    alert = only(alerts_now(facts_of_log(log, status_of(log, NOW)), NOW), "start-failed")
    assert alert is not None
    assert alert.level == "critical"
    assert figure in alert.figure


HEAD = (
    b"1124 10:00:00 ds4-server: context buffers 3109.74 MiB (ctx=131072, backend=cuda,"
    b" prefill_chunk=4096, raw_kv_rows=4352, compressed_kv_rows=32770)\n"
    b"1124 10:00:01 ds4-server: listening on http://127.0.0.1:8000\n"
)
FAILED = (
    b"1124 10:00:05 ds4-server: kv cache store failed (evict): No space left on device"
    b" save=1.0 ms\n"
)
STORED = (
    b"1124 10:00:09 ds4-server: kv cache stored tokens=4088 trimmed=0 reason=cold key=token-text"
    b" size=76.62 MiB save=61.2 ms\n"
)
ERROR = b"ds4: CUDA sync failed: an illegal memory access was encountered\n"


def test_constructed_store_failure_stands_until_a_save_succeeds() -> None:
    log = read(HEAD + FAILED)
    facts = facts_of_log(log, status_of(log, NOW))
    assert facts.store_failed == "store failed (evict): No space left on device"
    log = read(HEAD + FAILED + STORED)
    assert facts_of_log(log, status_of(log, NOW)).store_failed is None
    log = read(HEAD + STORED + FAILED.replace(b"10:00:05", b"10:00:12"))
    assert facts_of_log(log, status_of(log, NOW)).store_failed is not None
    restarted = HEAD.replace(b"10:00:0", b"10:01:0")
    log = read(HEAD + FAILED + restarted)
    assert facts_of_log(log, status_of(log, NOW)).store_failed is None


def test_constructed_poisoned_server_and_silence() -> None:
    log = read(HEAD + ERROR)
    found = alerts_now(facts_of_log(log, status_of(log, NOW)), NOW)
    assert [alert.rule for alert in found][:1] == ["poisoned"]
    start = b"1124 10:00:10 ds4-server: chat ctx=0..110000:110000 prompt start\n"
    log = read(HEAD + start)
    assert log.last_at is not None
    facts = facts_of_log(log, status_of(log, log.last_at + 3600.0))
    found = alerts_now(facts, NOW)
    assert {alert.rule for alert in found} == {"log-silent", "context"}
    context = only(found, "context")
    assert context is not None
    assert context.figure == "84 % used, 110,000 of 131,072"


def test_an_empty_log_tells_nothing() -> None:
    log = LogState()
    assert alerts_now(facts_of_log(log, status_of(log, NOW)), NOW) == ()


_GIBS = st.none() | st.floats(0, 30, allow_nan=False)


@given(st.lists(st.tuples(_GIBS, st.floats(0.05, 20)), max_size=60))
def test_no_sequence_breaks_the_book(steps: list[tuple[float | None, float]]) -> None:
    book, now = AlertBook(), 0.0
    lows = 0
    for gib, pause in steps:
        now += pause
        alert = headroom(book, gib, now)
        lows = lows + 1 if gib is not None and gib < 2.49 else 0
        if alert is not None:
            assert alert.since <= now
            assert alert.figure
            assert alert.fix
            assert gib is None or gib < 7.0 or alert.since < now
        if lows >= 2:
            assert alert is not None
            assert alert.level == "critical"
    for _ in range(3):
        now += 6.0
        last = headroom(book, 29.0, now)
    assert last is None
