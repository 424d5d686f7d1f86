"""The machine's memory as the kernel tells it: parsers of /proc texts, and one frozen sample.

Sources: proc_meminfo(5), proc_vmstat(5), Documentation/accounting/psi.rst, proc_buddyinfo(5).
A field that a kernel does not have is ``None``, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

MIB = 1 << 20
BIG_BLOCK_BYTES = 2 * MIB
"""What the driver asks for at a time; without free blocks of this size launches stall."""
HUGE_BLOCK_BYTES = 16 * MIB
_MOST_DIGITS = 20
"""Of a 64-bit counter; more is no counter."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Free blocks of at least 2 and 16 MiB (/proc/buddyinfo).

    ``listed_bytes`` is the largest size that this kernel keeps a list of: 4 MiB with pages of
    4 KiB. Above it the count is 0 because there is no list, not because memory is in pieces.
    """

    big: int
    huge: int
    listed_bytes: int = 0

    @property
    def huge_known(self) -> int | None:
        """Blocks of 16 MiB; ``None`` where the kernel has no such list."""
        return self.huge if self.listed_bytes >= HUGE_BLOCK_BYTES else None


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Memory at monotonic ``t`` (``wall``: epoch seconds). Counters grow since the boot.

    Queued: a collapse takes seconds, and a paint every ten must not thin its samples out.
    """

    queued: ClassVar[bool] = True
    t: float
    wall: float
    total_bytes: int
    free_bytes: int
    available_bytes: int | None
    cached_bytes: int = 0
    buffers_bytes: int = 0
    swap_cached_bytes: int = 0
    anon_bytes: int = 0
    shmem_bytes: int = 0
    reclaimable_bytes: int | None = None
    kernel_bytes: int = 0
    huge_bytes: int = 0
    swap_total_bytes: int | None = None
    swap_free_bytes: int | None = None
    swap_in_pages: int | None = None
    swap_out_pages: int | None = None
    major_faults: int | None = None
    refaults: int | None = None
    oom_kills: int | None = None
    psi_some_pct: float | None = None
    psi_full_pct: float | None = None
    blocks: Blocks | None = None
    page_bytes: int = 4096

    @property
    def swap_used_bytes(self) -> int | None:
        """Swap in use."""
        if self.swap_total_bytes is None or self.swap_free_bytes is None:
            return None
        return self.swap_total_bytes - self.swap_free_bytes


def _number(word: str) -> int | None:
    ours = word.isascii() and word.isdecimal() and len(word) <= _MOST_DIGITS
    return int(word) if ours else None


def parse_meminfo(text: str) -> dict[str, int]:
    """Fields in bytes (counts of huge pages as they are). Lines that are none are left out."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        words = rest.split()
        value = _number(words[0]) if colon and words else None
        if value is not None:
            found[name.strip()] = value * (1024 if words[1:2] == ["kB"] else 1)
    return found


def parse_vmstat(text: str) -> dict[str, int]:
    """Counters by name."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        value = _number(words[1]) if len(words) == 2 else None
        if value is not None:
            found[words[0]] = value
    return found


def parse_pressure(text: str) -> dict[str, float]:
    """Share of the last 10 s in percent: ``some`` (a task waited) and ``full`` (all did)."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        words = line.split()
        for word in words[1:]:
            name, equal, value = word.partition("=")
            if name == "avg10" and equal:
                try:
                    share = float(value)
                except ValueError:
                    continue
                if isfinite(share):
                    found[words[0]] = share
    return found


def parse_buddyinfo(text: str, page_bytes: int) -> Blocks | None:
    """Free big blocks over all zones; a block of column n has 2**n pages."""
    big = huge = listed = 0
    for line in text.splitlines():
        _, zone, rest = line.partition("zone")
        counts = [_number(word) for word in rest.split()[1:]] if zone else []
        if not counts or None in counts:
            continue
        for order, count in enumerate(counts):
            size = page_bytes << order
            listed = max(listed, size)
            big += (count or 0) if size >= BIG_BLOCK_BYTES else 0
            huge += (count or 0) if size >= HUGE_BLOCK_BYTES else 0
    return Blocks(big, huge, listed) if listed else None


def _kernel(meminfo: Mapping[str, int]) -> int:
    """Memory of the kernel itself; where only ``Slab`` is told apart, all of it counts."""
    names = ("SUnreclaim", "KernelStack", "PageTables", "SecPageTables", "Percpu")
    slab = meminfo.get("Slab", 0) if "SUnreclaim" not in meminfo else 0
    return slab + sum(meminfo.get(name, 0) for name in names)


def _huge(meminfo: Mapping[str, int]) -> int:
    """Huge pages of every size where the kernel sums them (4.19 and newer), else the usual one."""
    usual = meminfo.get("HugePages_Total", 0) * meminfo.get("Hugepagesize", 0)
    return meminfo.get("Hugetlb", usual)


def sample_of(
    t: float,
    wall: float,
    meminfo: Mapping[str, int],
    vmstat: Mapping[str, int] | None = None,
    pressure: Mapping[str, float] | None = None,
    blocks: Blocks | None = None,
    page_bytes: int = 4096,
) -> MemorySample:
    """One sample of parsed texts. Raises ``ValueError`` without MemTotal and MemFree."""
    if "MemTotal" not in meminfo or "MemFree" not in meminfo:
        raise ValueError("meminfo has no MemTotal or MemFree")
    vmstat, pressure = vmstat or {}, pressure or {}
    reclaimable = meminfo.get("SReclaimable")
    return MemorySample(
        t=t,
        wall=wall,
        total_bytes=meminfo["MemTotal"],
        free_bytes=meminfo["MemFree"],
        available_bytes=meminfo.get("MemAvailable"),
        cached_bytes=meminfo.get("Cached", 0),
        buffers_bytes=meminfo.get("Buffers", 0),
        swap_cached_bytes=meminfo.get("SwapCached", 0),
        anon_bytes=meminfo.get("AnonPages", 0),
        shmem_bytes=meminfo.get("Shmem", 0),
        reclaimable_bytes=reclaimable if "SUnreclaim" in meminfo else None,
        kernel_bytes=_kernel(meminfo),
        huge_bytes=_huge(meminfo),
        swap_total_bytes=meminfo.get("SwapTotal"),
        swap_free_bytes=meminfo.get("SwapFree"),
        swap_in_pages=vmstat.get("pswpin"),
        swap_out_pages=vmstat.get("pswpout"),
        major_faults=vmstat.get("pgmajfault"),
        refaults=vmstat.get("workingset_refault_file", vmstat.get("workingset_refault")),
        oom_kills=vmstat.get("oom_kill"),
        psi_some_pct=pressure.get("some"),
        psi_full_pct=pressure.get("full"),
        blocks=blocks,
        page_bytes=page_bytes,
    )
