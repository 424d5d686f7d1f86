"""Unified memory: parsers, the account that adds up, headroom, levels, the next prefill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.meminfo import (
    Blocks,
    MemorySample,
    parse_buddyinfo,
    parse_meminfo,
    parse_pressure,
    parse_vmstat,
    sample_of,
)
from ds4top.core.memory import (
    ARENAS_BYTES,
    GIB,
    Residency,
    ServerMemory,
    context_bytes,
    fits_bytes,
    headroom_bytes,
    level_of,
    next_prefill,
    parts_of,
    projected_bytes,
    residency_of,
    slope_bytes_per_s,
    time_to_zero_s,
)
from ds4top.core.memtrack import Loading, MemoryTrack
from ds4top.sources.base import SYSTEM_CLOCK, SourceFault
from ds4top.sources.host import FAST_S, STEADY_S, HostMemory

DATA = Path(__file__).parents[1] / "data" / "memory" / "h200-copy.jsonl"
MODEL = int(80.76 * GIB)
TOTAL = 127_600_748 * 1024


def gib(value: float) -> int:
    """Bytes."""
    return int(value * GIB)


def sample(t: float, available: float, free: float = 2.0, **fields: int) -> MemorySample:
    """A sample of a Spark; GiB."""
    meminfo = {"MemTotal": TOTAL, "MemFree": gib(free), "MemAvailable": gib(available)}
    return sample_of(t, 1_000.0 + t, meminfo | fields)


def copy() -> ServerMemory:
    """A server in copy mode, as gb10.md's worked example has it."""
    return ServerMemory(Residency.COPY, MODEL, gib(89.0))


# Parsers --------------------------------------------------------------------------------------


def test_texts_of_the_kernel() -> None:
    assert parse_meminfo("MemTotal:       127600748 kB\nHugePages_Total:       3\nx\n") == {
        "MemTotal": TOTAL,
        "HugePages_Total": 3,
    }
    assert parse_vmstat("oom_kill 2\npswpin 7\nodd line here\n") == {"oom_kill": 2, "pswpin": 7}
    assert parse_pressure(
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=8\nfull avg10=0.25 avg60=0 total=1\n"
    ) == {"some": 1.5, "full": 0.25}
    line = "Node 0, zone   Normal   10 9 8 7 6 5 4 3 2 1 4 2 1\n"
    # 4 KiB pages: order 9 is 2 MiB, order 12 is 16 MiB.
    assert parse_buddyinfo(line, 4096) == Blocks(1 + 4 + 2 + 1, 1)
    # 64 KiB pages: order 5 is 2 MiB, order 8 is 16 MiB.
    assert parse_buddyinfo(line, 65_536) == Blocks(5 + 4 + 3 + 2 + 1 + 4 + 2 + 1, 2 + 1 + 4 + 2 + 1)
    assert parse_buddyinfo("", 4096) is None


def test_what_a_kernel_does_not_tell_is_unknown() -> None:
    found = sample_of(0.0, 0.0, {"MemTotal": 10, "MemFree": 5})
    assert (found.available_bytes, found.oom_kills, found.swap_used_bytes) == (None, None, None)
    assert (found.psi_full_pct, found.refaults, found.blocks) == (None, None, None)
    with pytest.raises(ValueError, match="MemTotal"):
        sample_of(0.0, 0.0, {})


@given(st.text())
def test_no_text_raises(text: str) -> None:
    parse_meminfo(text)
    parse_vmstat(text)
    parse_pressure(text)
    parse_buddyinfo(text, 4096)


# The account ----------------------------------------------------------------------------------


def recorded() -> list[tuple[MemorySample, ServerMemory]]:
    """Every recorded sample of a server with a discrete card."""
    found = []
    for line in DATA.read_text().splitlines():
        data = json.loads(line)
        meminfo = {name: value * 1024 for name, value in data["meminfo"].items()}
        server = ServerMemory(
            Residency.COPY if data["gpu"] else Residency.UNKNOWN,
            MODEL,
            data["gpu"][0]["used"] if data["gpu"] else None,
            (data["rss_anon_kb"] or 0) * 1024,
            (data["rss_shmem_kb"] or 0) * 1024,
        )
        found.append((sample_of(data["t"], data["t"], meminfo, data["vmstat"]), server))
    return found


def test_the_parts_of_every_recorded_sample_add_up() -> None:
    samples = recorded()
    assert len(samples) == 449
    worst = 0.0
    for each, server in samples:
        parts = parts_of(each, server, unified=False)
        assert parts.total == each.total_bytes
        assert parts.server_weights == 0
        worst = max(worst, abs(parts.unaccounted) / each.total_bytes)
    assert worst < 0.01


def test_the_parts_of_this_machine_add_up() -> None:
    source = HostMemory()
    source.open()
    found = source.read(0.0)[0]
    source.close()
    parts = parts_of(found)
    assert parts.total == found.total_bytes
    assert abs(parts.unaccounted) < 0.01 * found.total_bytes


def test_a_copy_on_unified_memory() -> None:
    fields = {
        "Cached": gib(9),
        "Shmem": gib(0.5),
        "AnonPages": gib(2),
        "SUnreclaim": gib(0.5),
        "SReclaimable": gib(0.25),
        "Slab": gib(0.75),
    }
    server = ServerMemory(Residency.COPY, MODEL, gib(89), anon_bytes=gib(0.5))
    parts = parts_of(sample(0, 24, 15, **fields), server, other_gpu_bytes=gib(5))
    assert parts.as_dict() == {
        "server_weights": MODEL,
        "server_working": gib(89) - MODEL + gib(0.5),
        "other_gpu": gib(5),
        "other_processes": gib(2),
        "cache": gib(8.75),
        "kernel": gib(0.5),
        "free": gib(15),
        "unaccounted": TOTAL - gib(89 + 0.5 + 5 + 2 + 8.75 + 0.5 + 15),
    }


def test_mapped_weights_are_cache_that_is_named() -> None:
    server = ServerMemory(Residency.MMAP, MODEL, gib(4), cached_bytes=gib(80))
    parts = parts_of(sample(0, 109, 20, Cached=gib(90)), server)
    assert (parts.server_weights, parts.server_working, parts.cache) == (gib(80), gib(4), gib(10))


def test_mixed_is_both() -> None:
    server = ServerMemory(Residency.MIXED, gib(90), gib(70), cached_bytes=gib(80))
    parts = parts_of(sample(0, 40, 10, Cached=gib(30)), server)
    # 70 on the GPU and the 20 that are still read from the file.
    assert parts.server_weights == gib(90)
    assert parts.cache == gib(10)


@pytest.mark.parametrize(
    ("held", "cached", "wanted"),
    [
        (89.0, None, Residency.COPY),
        (4.0, 80.0, Residency.MMAP),
        (4.0, None, Residency.UNKNOWN),
        (4.0, 3.0, Residency.UNKNOWN),
        (50.0, 80.0, Residency.MIXED),
        (None, 80.0, Residency.UNKNOWN),
    ],
)
def test_residency_is_detected(held: float | None, cached: float | None, wanted: Residency) -> None:
    found, why = residency_of(
        MODEL, None if held is None else gib(held), None if cached is None else gib(cached)
    )
    assert found is wanted
    assert why


# Headroom -------------------------------------------------------------------------------------


def test_the_worked_examples() -> None:
    before = gib(113.1)
    arenas = gib(87_992 / 1024) - MODEL
    context = context_bytes(131_072, 4096, 4352)
    assert context / (1 << 20) == pytest.approx(3109.74, abs=0.01)
    available = before - MODEL - arenas - context
    left = headroom_bytes(available, copy())
    assert left is not None
    assert left / GIB == pytest.approx(24.1, abs=0.1)
    assert (fits_bytes(left) or 0) / GIB == pytest.approx(21.6, abs=0.1)
    mapped = ServerMemory(Residency.MMAP, MODEL, gib(4), cached_bytes=MODEL)
    left = headroom_bytes(gib(109.1), mapped)
    assert left is not None
    assert left / GIB == pytest.approx(28.3, abs=0.1)
    assert (fits_bytes(left) or 0) / GIB == pytest.approx(25.8, abs=0.1)


@pytest.mark.parametrize(
    ("ctx", "chunk", "rows", "mib"),
    [
        (32_768, 2048, 2304, 751.71),
        (65_665, 2048, 2304, 1311.89),
        (131_072, 2048, 2304, 2425.71),
        (200_000, 4096, 4352, 4552.74),
        (1_000_000, 4096, 4352, 21_300.78),
    ],
)
def test_context_buffers_by_the_formula(ctx: int, chunk: int, rows: int, mib: float) -> None:
    assert context_bytes(ctx, chunk, rows) / (1 << 20) == pytest.approx(mib, abs=0.01)


def test_headroom_that_cannot_be_known() -> None:
    assert headroom_bytes(None, copy()) is None
    assert headroom_bytes(gib(20), ServerMemory()) is None
    assert headroom_bytes(gib(20), None) == gib(20)


def test_slope_and_time_to_zero() -> None:
    points = [(t / 2, gib(20 - t)) for t in range(11)]
    assert slope_bytes_per_s(points, 2.0) == pytest.approx(-2 * GIB)
    assert time_to_zero_s(gib(10), -2.0 * GIB) == 5.0
    # A slow fall tells no time.
    assert time_to_zero_s(gib(10), -0.2 * GIB) is None
    assert slope_bytes_per_s(points[:1], 2.0) is None
    assert slope_bytes_per_s([(0.0, 1), (0.5, 2)], 2.0) is None


def test_levels() -> None:
    assert level_of(gib(6), None) == "ok"
    assert level_of(gib(5.9), None) == "warning"
    assert level_of(gib(2.4), None) == "critical"
    assert level_of(gib(30), 9.9) == "critical"
    assert level_of(None, None) == "unknown"


def test_constructed_collapse_is_critical_before_its_end() -> None:
    """29.0 to 6.3 GiB in 11 s, with 13.2 GiB of it within 3 s, as cited."""
    track = MemoryTrack()
    ends = [(-5.0, 29.0), (0.0, 29.0), (4.0, 26.0), (7.0, 12.8), (11.0, 6.3)]
    at = None
    for turn in range(81):
        t = -5.0 + turn * 0.2
        left = next(i for i in range(len(ends) - 1) if ends[i][0] <= t <= ends[i + 1][0] + 1e-9)
        (a, x), (b, y) = ends[left], ends[left + 1]
        track.take(sample(100 + t, x + (y - x) * (t - a) / (b - a)), copy())
        if track.level == "critical" and at is None:
            at = t
    assert at is not None
    assert 4.0 < at < 6.5


def test_constructed_load_of_80_gib_alarms_nobody() -> None:
    track = MemoryTrack()
    levels = set()
    context = context_bytes(131_072, 4096, 4352)
    for turn in range(130):
        loaded = min(turn * 0.2 * 3.5, 80.76)
        # Arenas and context come last, within a second, and then it listens.
        rest = min(max(turn - 116, 0) / 5, 1.0) * (context + ARENAS_BYTES) / GIB
        done = turn > 121
        now = sample(float(turn) / 5, 113.1 - loaded - rest)
        loading = None if done else Loading(MODEL, gib(loaded), context)
        track.take(now, copy() if done else ServerMemory(), loading)
        levels.add(track.level)
    assert levels == {"ok"}
    assert (track.headroom or 0) / GIB == pytest.approx(24.1, abs=0.2)


def test_constructed_mapped_load_alarms_nobody() -> None:
    """Weights fill the page cache; once they are seen there, headroom is another figure."""
    track = MemoryTrack()
    levels = set()
    mapped = ServerMemory(Residency.MMAP, MODEL, gib(4), cached_bytes=MODEL)
    for turn in range(60):
        done = turn > 30
        loading = None if done else Loading(MODEL, 0, gib(3), copies=False)
        track.take(sample(turn / 2, 109.1), mapped if done else ServerMemory(), loading)
        levels.add(track.level)
    assert levels == {"ok"}
    assert (track.headroom or 0) / GIB == pytest.approx(28.3, abs=0.1)


def test_constructed_load_that_will_not_fit_is_critical_while_it_runs() -> None:
    track = MemoryTrack()
    for turn in range(10):
        loaded = turn * 0.7
        track.take(
            sample(turn / 5, 85.0 - loaded), ServerMemory(), Loading(MODEL, gib(loaded), gib(3))
        )
    assert track.level == "critical"
    assert track.projected is not None
    assert track.projected < 0


def test_a_projection() -> None:
    left = projected_bytes(gib(100), gib(80), gib(20), gib(3))
    assert left == gib(100) - gib(60) - gib(3) - ARENAS_BYTES


def test_hysteresis() -> None:
    track = MemoryTrack()
    server = copy()

    def at(t: float, left: float) -> str:
        track.take(sample(t, left), server)
        return track.level

    assert at(0.0, 6.2) == "ok"
    assert at(0.5, 5.9) == "ok"
    assert at(1.0, 5.9) == "warning"
    # Just above the line is no way out; 1 GiB more for 5 s is.
    assert [at(1.5 + n * 0.5, 6.5) for n in range(14)] == ["warning"] * 14
    assert at(10.0, 7.1) == "warning"
    assert at(14.5, 7.1) == "warning"
    assert at(15.5, 7.1) == "ok"


def test_minutes_keep_the_least() -> None:
    track = MemoryTrack()
    for t, left in ((0, 20.0), (10, 18.0), (61, 19.0), (240, 21.0)):
        track.take(sample(t, left), copy())
    lows = [None if value is None else value / GIB for value in track.by_minute()]
    assert lows == [18.0, 19.0, None, None, 21.0]
    assert track.lowest() == gib(18)
    track.take(sample(200_000, 5.0), copy())
    assert track.by_minute() == [gib(5)]


def test_history_is_bounded() -> None:
    track = MemoryTrack()
    for turn in range(40_000):
        track.take(sample(turn * 0.2, 20.0), copy())
    assert len(track.recent.t) <= 3_301
    assert len(track.minutes) <= 1_440


def test_counters_of_the_kernel() -> None:
    track = MemoryTrack()
    for t, kills, refaults in ((0.0, 5, 100), (5.0, 5, 1_100), (10.0, 6, 2_100)):
        each = sample_of(
            t,
            t,
            {"MemTotal": TOTAL, "MemFree": 1, "MemAvailable": gib(9)},
            {"oom_kill": kills, "workingset_refault_file": refaults},
        )
        track.take(each, copy())
    assert track.oom_kills.grown == 1
    assert track.oom_seen_wall == 10.0
    assert track.refaults.per_s(10.0) == pytest.approx(200.0)
    assert track.swap_in.per_s(10.0) is None


# The next prefill -----------------------------------------------------------------------------


def test_the_next_prefill() -> None:
    daily = next_prefill(64_000, gib(24.1), (), agent=True)
    assert (daily.need_bytes, daily.origin, daily.verdict) == (14 * GIB, "estimated", "fits")
    assert next_prefill(64_000, gib(17), (), agent=True).verdict == "tight"
    assert next_prefill(64_000, gib(16), (), agent=True).verdict == "does not fit"
    assert next_prefill(64_000, gib(7), (), agent=False).need_bytes == 0
    past = [(40_000, gib(3)), (60_000, gib(5)), (50_000, gib(4)), (2_000, gib(1))]
    own = next_prefill(50_000, gib(24), past, agent=True)
    assert (own.need_bytes, own.origin) == (gib(4), "measured")
    assert next_prefill(64_000, None, (), agent=True).verdict == "unknown"


# The source -----------------------------------------------------------------------------------


def test_the_source_reads_a_tree_and_paces_itself(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 50 kB\nMemAvailable: 70 kB\n")
    (tmp_path / "vmstat").write_text("oom_kill 3\n")
    fast = False
    source = HostMemory(tmp_path, lambda: fast)
    source.open()
    found = source.read(5.0)[0]
    assert (found.t, found.total_bytes, found.available_bytes) == (5.0, 102_400, 71_680)
    assert (found.oom_kills, found.psi_full_pct, found.blocks) == (3, None, None)
    assert source.interval_s == STEADY_S
    fast = True
    assert source.interval_s == FAST_S
    (tmp_path / "meminfo").write_text("nonsense\n")
    with pytest.raises(SourceFault, match="no MemTotal"):
        source.read(6.0)
    source.close()
    with pytest.raises(FileNotFoundError):
        HostMemory(tmp_path / "none", clock=SYSTEM_CLOCK).open()
