"""Texts of /proc about memory: real ones to exact values, and any other without a crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds4top.core.meminfo import (
    Blocks,
    parse_buddyinfo,
    parse_meminfo,
    parse_pressure,
    parse_vmstat,
    sample_of,
)
from tests.unit.memory_tools import DATA, TOTAL

KB = 1024
LINE = "Node 0, zone   Normal   10 9 8 7 6 5 4 3 2 1 4 2 1\n"
NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1)
COUNTS = st.integers(0, 10**15)


def test_a_recorded_machine() -> None:
    sample = sample_of(
        1.0,
        2.0,
        parse_meminfo((DATA / "h200-meminfo.txt").read_text()),
        parse_vmstat((DATA / "h200-vmstat.txt").read_text()),
        parse_pressure((DATA / "h200-pressure.txt").read_text()),
    )
    assert sample.total_bytes == 131_981_020 * KB
    assert sample.free_bytes == 44_946_532 * KB
    assert sample.available_bytes == 130_495_068 * KB
    assert sample.cached_bytes == 86_300_228 * KB
    assert (sample.swap_used_bytes, sample.oom_kills, sample.swap_in_pages) == (0, 0, 0)
    assert (sample.major_faults, sample.refaults) == (1_602, 0)
    assert (sample.psi_some_pct, sample.psi_full_pct) == (0.0, 0.0)
    assert sample.blocks is None


def test_texts_of_the_kernel() -> None:
    assert parse_meminfo("MemTotal:       127600748 kB\nHugePages_Total:       3\nx\n") == {
        "MemTotal": TOTAL,
        "HugePages_Total": 3,
    }
    assert parse_vmstat("oom_kill 2\npswpin 7\nodd line here\n") == {"oom_kill": 2, "pswpin": 7}
    assert parse_pressure(
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=8\nfull avg10=0.25 avg60=0 total=1\n"
    ) == {"some": 1.5, "full": 0.25}
    assert parse_pressure("some avg10=nan\nfull avg10=\n") == {}


def test_free_blocks_by_page_size() -> None:
    # 4 KiB pages: order 9 is 2 MiB, order 12 is 16 MiB.
    small = parse_buddyinfo(LINE, 4096)
    assert small == Blocks(big=1 + 4 + 2 + 1, huge=1, listed_bytes=16 << 20)
    assert small.huge_known == 1
    # 64 KiB pages: order 5 is 2 MiB, order 8 is 16 MiB.
    large = parse_buddyinfo(LINE, 65_536)
    assert large == Blocks(5 + 4 + 3 + 2 + 1 + 4 + 2 + 1, 2 + 1 + 4 + 2 + 1, 256 << 20)
    assert large.huge_known == 10


def test_zones_are_summed_and_a_kernel_without_large_lists_says_so() -> None:
    text = (
        "Node 0, zone      DMA      0      0      0      0      0      0      0      0      1"
        "      1      3 \n"
        "Node 0, zone   Normal   2279    799    522   1224   1664    912    546    302    161"
        "     65    196 \n"
    )
    found = parse_buddyinfo(text, 4096)
    assert found == Blocks(1 + 3 + 65 + 196, 0, 4 << 20)
    assert found.huge_known is None
    assert parse_buddyinfo("", 4096) is None
    assert parse_buddyinfo("Node 0, zone Normal 1 x 2\n", 4096) is None


def test_what_a_kernel_does_not_tell_is_unknown() -> None:
    found = sample_of(0.0, 0.0, {"MemTotal": 10, "MemFree": 5})
    assert (found.available_bytes, found.oom_kills, found.swap_used_bytes) == (None, None, None)
    assert (found.psi_full_pct, found.refaults, found.blocks) == (None, None, None)
    assert (found.swap_in_pages, found.major_faults) == (None, None)
    for broken in ({}, {"MemTotal": 10}, {"MemFree": 5}):
        with pytest.raises(ValueError, match="MemTotal"):
            sample_of(0.0, 0.0, broken)


def test_the_kernels_own_memory() -> None:
    base = {"MemTotal": 100, "MemFree": 1}
    told = {"Slab": 30, "SUnreclaim": 10, "SReclaimable": 20, "KernelStack": 1, "PageTables": 2}
    more = {"SecPageTables": 3, "Percpu": 4}
    full = sample_of(0.0, 0.0, base | told | more)
    assert (full.kernel_bytes, full.reclaimable_bytes) == (10 + 1 + 2 + 3 + 4, 20)
    # Where only Slab is told, all of it is the kernel's.
    old = sample_of(0.0, 0.0, base | {"Slab": 30, "KernelStack": 1})
    assert (old.kernel_bytes, old.reclaimable_bytes) == (31, None)


def test_huge_pages_of_all_sizes_where_they_are_summed() -> None:
    base = {"MemTotal": 100, "MemFree": 1, "HugePages_Total": 3, "Hugepagesize": 10}
    assert sample_of(0.0, 0.0, base).huge_bytes == 30
    assert sample_of(0.0, 0.0, base | {"Hugetlb": 70}).huge_bytes == 70


def test_older_kernels_call_refaults_otherwise() -> None:
    base = {"MemTotal": 10, "MemFree": 5}
    assert sample_of(0.0, 0.0, base, {"workingset_refault": 4}).refaults == 4
    both = {"workingset_refault": 4, "workingset_refault_file": 9}
    assert sample_of(0.0, 0.0, base, both).refaults == 9


@given(st.dictionaries(NAMES, COUNTS))
def test_meminfo_is_read_back(fields: dict[str, int]) -> None:
    text = "".join(f"{name}: {value:>20} kB\n" for name, value in fields.items())
    assert parse_meminfo(text) == {name: value * KB for name, value in fields.items()}


@given(st.dictionaries(NAMES, COUNTS))
def test_vmstat_is_read_back(fields: dict[str, int]) -> None:
    text = "".join(f"{name} {value}\n" for name, value in fields.items())
    assert parse_vmstat(text) == fields


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=14), st.sampled_from([4096, 65_536]))
def test_blocks_are_counted_once_a_size(counts: list[int], page: int) -> None:
    found = parse_buddyinfo(f"Node 0, zone Normal {' '.join(map(str, counts))}\n", page)
    assert found is not None
    sizes = [page << order for order in range(len(counts))]
    for least, value in ((2 << 20, found.big), (16 << 20, found.huge)):
        assert value == sum(c for c, size in zip(counts, sizes, strict=True) if size >= least)
    assert found.listed_bytes == sizes[-1]


@given(st.text() | st.text("MemTotal: zonedav10=.\n \t0123456789٣²", max_size=200))
def test_no_text_raises(text: str) -> None:
    parse_meminfo(text)
    parse_vmstat(text)
    parse_pressure(text)
    parse_buddyinfo(text, 4096)


def test_numbers_that_are_none_are_left_out() -> None:
    endless = "9" * 5_000
    assert parse_meminfo(f"MemTotal: {endless} kB\nMemFree: ٣ kB\nBuffers: -1 kB\n") == {}
    assert parse_vmstat(f"a {endless}\nb ²\n") == {}
    assert parse_buddyinfo(f"Node 0, zone Normal {endless}\n", 4096) is None
