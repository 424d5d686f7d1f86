"""Unified memory: the account that adds up, residency, headroom, levels, the next prefill."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.meminfo import MemorySample, sample_of
from ds4top.core.memory import (
    ARENAS_BYTES,
    GIB,
    MAPPED_ARENAS_BYTES,
    Residency,
    ServerMemory,
    context_bytes,
    fits_bytes,
    headroom_bytes,
    hot_bytes,
    largest_prefill,
    level_of,
    next_prefill,
    parts_of,
    projected_bytes,
    projected_mapped_bytes,
    residency_of,
    slope_bytes_per_s,
    time_to_zero_s,
)
from ds4top.sources.host import HostMemory
from tests.unit.memory_tools import DATA, MODEL, TOTAL, copied, gib, mapped, spark

SIZES = st.integers(0, 128 * GIB)


def optional(value: float | None) -> int | None:
    """Bytes of GiB that may be unknown."""
    return None if value is None else gib(value)


# The account ----------------------------------------------------------------------------------


def recorded() -> list[tuple[MemorySample, ServerMemory]]:
    """Every recorded sample of a server with a discrete card."""
    found = []
    for line in (DATA / "h200-copy.jsonl").read_text().splitlines():
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
    assert sum(server.residency is Residency.COPY for _, server in samples) > 300
    for each, server in samples:
        parts = parts_of(each, server, 5 * GIB, unified=False)
        assert parts.total == each.total_bytes == 131_981_020 * 1024
        assert (parts.server_weights, parts.other_gpu) == (0, 0)
        assert abs(parts.unaccounted) < 0.01 * each.total_bytes


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
    parts = parts_of(spark(0, 24, 15, **fields), server, other_gpu_bytes=gib(5))
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
    parts = parts_of(spark(0, 109, 20, Cached=gib(90)), mapped(80))
    assert (parts.server_weights, parts.server_working, parts.cache) == (gib(80), gib(4), gib(10))


def test_mapped_weights_are_no_more_than_the_cache_of_files() -> None:
    unread = ServerMemory(Residency.MMAP, MODEL, gib(4))
    parts = parts_of(spark(0, 60, 20, Cached=gib(42), Shmem=gib(2)), unread)
    assert (parts.server_weights, parts.cache) == (gib(40), 0)
    parts = parts_of(spark(0, 60, 20, Cached=gib(42), Shmem=gib(2)), mapped(80))
    assert (parts.server_weights, parts.cache) == (gib(40), 0)


def test_mixed_is_both() -> None:
    server = ServerMemory(Residency.MIXED, gib(90), gib(70), cached_bytes=gib(80))
    parts = parts_of(spark(0, 40, 10, Cached=gib(30)), server)
    # 70 on the GPU and the 20 that are still read from the file.
    assert parts.server_weights == gib(90)
    assert parts.cache == gib(10)


def test_what_nvml_does_not_tell_is_unaccounted() -> None:
    parts = parts_of(spark(0, 24, 22), ServerMemory(Residency.COPY, MODEL, None))
    assert (parts.server_weights, parts.server_working) == (0, 0)
    assert parts.unaccounted == TOTAL - gib(22)


@given(
    st.sampled_from(Residency),
    st.builds(
        ServerMemory,
        file_bytes=st.none() | SIZES,
        gpu_bytes=st.none() | SIZES,
        anon_bytes=SIZES,
        shmem_bytes=SIZES,
        cached_bytes=st.none() | SIZES,
    ),
    st.fixed_dictionaries({"MemTotal": SIZES, "MemFree": SIZES, "Cached": SIZES, "Shmem": SIZES}),
    SIZES,
    st.booleans(),
)
def test_the_parts_add_up_whatever_is_told(
    residency: Residency, known: ServerMemory, meminfo: dict[str, int], other: int, unified: bool
) -> None:
    server = ServerMemory(
        residency, known.file_bytes, known.gpu_bytes, known.anon_bytes, known.shmem_bytes,
        known.cached_bytes,
    )  # fmt: skip
    parts = parts_of(sample_of(0.0, 0.0, meminfo), server, other, unified=unified)
    assert sum(parts.as_dict().values()) == meminfo["MemTotal"]
    for name in ("server_weights", "server_working", "other_gpu", "other_processes", "kernel"):
        assert parts.as_dict()[name] >= 0


# Residency ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "cached", "wanted"),
    [
        (89.0, None, Residency.COPY),
        (89.0, 80.0, Residency.COPY),
        (4.0, 80.0, Residency.MMAP),
        (4.0, None, Residency.UNKNOWN),
        (4.0, 3.0, Residency.UNKNOWN),
        (50.0, 80.0, Residency.MIXED),
        (None, 80.0, Residency.UNKNOWN),
    ],
)
def test_residency_is_detected(held: float | None, cached: float | None, wanted: Residency) -> None:
    found, why = residency_of(MODEL, optional(held), optional(cached))
    assert found is wanted
    assert why


@pytest.mark.parametrize(
    ("held", "cached", "told", "wanted", "why"),
    [
        # The bytes win where they are clear.
        (89.0, 80.0, Residency.MMAP, Residency.COPY, "89.0 GiB on the GPU of a 80.8 GiB file"),
        (None, None, Residency.COPY, Residency.COPY, "by its start-up lines"),
        (4.0, None, Residency.MMAP, Residency.MMAP, "by its start-up lines"),
        # Aligned artifacts: 68.58 GiB of 90.89, the rest of the mapping is not read.
        (62.0, 80.0, Residency.COPY, Residency.COPY, "built as a copy by its start-up lines"),
        (62.0, 80.0, Residency.MMAP, Residency.MIXED, "62.0 GiB on the GPU"),
        # Mapped, and most of it pushed out by somebody else.
        (4.0, 9.0, Residency.MMAP, Residency.MMAP, "9.0 GiB in page cache"),
        (4.0, 9.0, Residency.COPY, Residency.UNKNOWN, "it may be loading"),
    ],
)
def test_start_up_lines_decide_where_the_bytes_do_not(
    held: float | None, cached: float | None, told: Residency, wanted: Residency, why: str
) -> None:
    found, sentence = residency_of(MODEL, optional(held), optional(cached), told=told)
    assert found is wanted
    assert why in sentence


def test_a_copy_that_is_loading_is_not_taken_for_a_mapping() -> None:
    halfway = (MODEL, gib(20), gib(60))
    assert residency_of(*halfway)[0] is Residency.MMAP
    assert residency_of(*halfway, loading=True) == (Residency.UNKNOWN, "it is loading")
    assert residency_of(*halfway, loading=True, told=Residency.COPY)[0] is Residency.COPY


def test_residency_without_a_file() -> None:
    assert residency_of(None, gib(89), None)[0] is Residency.UNKNOWN
    assert residency_of(None, gib(89), None, told=Residency.COPY)[0] is Residency.COPY


# Headroom -------------------------------------------------------------------------------------


def test_the_worked_example_of_a_copy() -> None:
    arenas = gib(87_992 / 1024) - MODEL
    context = context_bytes(131_072, 4096, 4352)
    available = gib(113.1) - MODEL - arenas - context
    left = headroom_bytes(available, copied())
    assert left is not None
    assert left / GIB == pytest.approx(24.1, abs=0.05)
    assert (fits_bytes(left) or 0) / GIB == pytest.approx(21.6, abs=0.05)
    assert projected_bytes(gib(113.1), MODEL, 0, context) == pytest.approx(left, rel=0.01)


def test_the_worked_example_of_a_mapping() -> None:
    context = context_bytes(131_072, 4096, 4352)
    available = gib(113.1) - gib(1.0) - context
    assert available / GIB == pytest.approx(109.1, abs=0.05)
    left = headroom_bytes(available, mapped())
    assert left is not None
    assert left / GIB == pytest.approx(28.3, abs=0.05)
    assert (fits_bytes(left) or 0) / GIB == pytest.approx(25.8, abs=0.05)
    assert projected_mapped_bytes(gib(113.1), MODEL, 0, context) == pytest.approx(left, abs=2)


@pytest.mark.parametrize(
    ("ctx", "chunk", "rows", "mib"),
    [
        (32_768, 2048, 2304, 751.71),
        (32_768, 4096, 4352, 1051.74),
        (65_536, 4096, 4352, 1737.74),
        (65_665, 2048, 2304, 1311.89),
        (131_072, 2048, 2304, 2425.71),
        (131_072, 4096, 4352, 3109.74),
        (200_000, 4096, 4352, 4552.74),
        (500_000, 2048, 2304, 8708.11),
        (1_000_000, 4096, 4352, 21_300.78),
    ],
)
def test_context_buffers_by_the_formula(ctx: int, chunk: int, rows: int, mib: float) -> None:
    assert context_bytes(ctx, chunk, rows) / (1 << 20) == pytest.approx(mib, abs=0.01)


def test_headroom_that_cannot_be_known() -> None:
    assert headroom_bytes(None, copied()) is None
    assert headroom_bytes(gib(20), ServerMemory()) is None
    assert headroom_bytes(gib(20), None) == gib(20)
    assert fits_bytes(None) is None
    assert fits_bytes(gib(2)) == 0


def test_hot_pages_that_cannot_be_read_are_what_the_cache_may_hold_of_them() -> None:
    unread = ServerMemory(Residency.MMAP, MODEL, gib(4))
    assert hot_bytes(unread) == MODEL
    assert hot_bytes(unread, gib(30)) == gib(30)
    assert headroom_bytes(gib(40), unread, gib(30)) == gib(10)
    # Where it is read, that counts.
    assert hot_bytes(mapped(60), gib(30)) == gib(60)


def test_slope_and_time_to_zero() -> None:
    points = [(t / 2, gib(20 - t)) for t in range(11)]
    assert slope_bytes_per_s(points, 2.0) == pytest.approx(-2 * GIB)
    assert time_to_zero_s(gib(10), -2.0 * GIB) == 5.0
    assert time_to_zero_s(gib(-1), -2.0 * GIB) == 0.0
    # A slow fall tells no time.
    assert time_to_zero_s(gib(10), -0.2 * GIB) is None
    assert slope_bytes_per_s(points[:1], 2.0) is None
    assert slope_bytes_per_s([(0.0, 1), (0.5, 2)], 2.0) is None


def test_levels() -> None:
    assert level_of(gib(6), None) == "ok"
    assert level_of(gib(5.9), None) == "warning"
    assert level_of(gib(2.5), None) == "warning"
    assert level_of(gib(2.4), None) == "critical"
    assert level_of(gib(30), 9.9) == "critical"
    assert level_of(gib(30), 10.0) == "ok"
    assert level_of(None, None) == "unknown"
    assert level_of(gib(1.8), None, ok_bytes=gib(1.5), critical_bytes=gib(0.9)) == "ok"


def test_a_projection() -> None:
    left = projected_bytes(gib(100), gib(80), gib(20), gib(3))
    assert left == gib(100) - gib(60) - gib(3) - ARENAS_BYTES
    # What is held beyond the weights are arenas and context: they do not come twice.
    held = gib(80) + gib(3) + ARENAS_BYTES
    assert projected_bytes(gib(24), gib(80), held - gib(1), gib(3)) == gib(23)
    assert projected_bytes(gib(24), gib(80), held + gib(1), gib(3)) == gib(24)


def test_a_projection_of_a_mapping() -> None:
    """Nothing is allocated for the weights, but they will be hot: 8 GiB are all that is left."""
    left = projected_mapped_bytes(gib(93), gib(81), 0, gib(3))
    assert left == gib(93) - gib(81) - gib(3) - MAPPED_ARENAS_BYTES
    assert projected_mapped_bytes(gib(89), gib(81), gib(9), gib(3)) == gib(8)


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
    assert next_prefill(64_000, gib(17), (), agent=True, ok_bytes=gib(3)).verdict == "fits"


def test_the_largest_prefill_that_fits() -> None:
    def largest(left: float | None, past: tuple[tuple[int, int], ...] = ()) -> int | None:
        found = largest_prefill(optional(left), past, agent=True, limit_tokens=131_072)
        return None if found is None else found.tokens

    assert largest(24.1) == 131_072
    # 10 GiB less the reserve are 7.5: by the prior, between 16K and 56K.
    assert largest(10) == 33_792
    below = next_prefill(33_792, gib(10), (), agent=True)
    above = next_prefill(33_792 + 1024, gib(10), (), agent=True)
    assert (below.verdict, above.verdict) == ("tight", "does not fit")
    assert largest(2.5) == 0
    assert largest(None) is None
    # This server took less than the prior for what it has done already.
    assert largest(10, ((60_000, gib(3)),)) == 119_808


def test_a_stock_build_takes_nothing_more_while_the_reserve_is_there() -> None:
    found = largest_prefill(gib(7), (), agent=False, limit_tokens=100_000)
    assert found is not None
    assert (found.tokens, found.need_bytes, found.verdict) == (100_000, 0, "fits")
