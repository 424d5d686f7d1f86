"""Texts of /proc in the kernel's own formats, made of the simulated machine's figures.

Formats and order of fields: fs/proc/meminfo.c, mm/vmstat.c and kernel/sched/psi.c of Linux 6.17,
the kernel of DGX OS. Both parsers and readers that want the whole file find what they know.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GIB = 1 << 30
TOTAL_BYTES = 127_600_748 * 1024
PAGE_BYTES = resource.getpagesize()
FILES = ("meminfo", "vmstat", "pressure/memory", "buddyinfo")
_BIG_BYTES = 2 << 20
_LARGEST_BYTES = 32 << 20
_LOW_MARK_GIB = 0.1
_RESERVE_GIB = 0.35
"""What the kernel keeps for itself before it calls anything available."""
_BURST = 75
"""Lines of one burst before a machine hung (NVIDIA/open-gpu-kernel-modules#1358)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The machine's memory in GiB; ``free`` is what the others leave. ``dark`` is in no counter."""

    free: float
    cached: float
    buffers: float
    anon: float
    shmem: float
    reclaimable: float
    unreclaimable: float
    stacks: float
    tables: float
    percpu: float
    swap_total: float
    swap_free: float
    mapped: float

    @property
    def available(self) -> float:
        """MemAvailable as mm/show_mem.c counts it."""
        files = max(self.cached + self.buffers - self.shmem, 0.0)
        usable = files - min(files / 2, _LOW_MARK_GIB)
        slab = self.reclaimable - min(self.reclaimable / 2, _LOW_MARK_GIB)
        return max(self.free - _RESERVE_GIB + usable + slab, 0.0)


@dataclass(frozen=True, slots=True)
class Counters:
    """What grows since the boot, in bytes, events or microseconds, 64 bits wide as the kernel's.

    The defaults are those of a machine that has been up for some days.
    """

    read_bytes: float = 6.1e12
    written_bytes: float = 2.2e12
    swapped_in_bytes: float = 0.0
    swapped_out_bytes: float = 0.0
    refaulted_bytes: float = 3.1e8
    faults: float = 9.4e9
    major_faults: float = 1602.0
    scanned_bytes: float = 4.0e10
    stalls: float = 12.0
    compactions: float = 310.0
    oom_kills: int = 0
    some_us: float = 41_233.0
    full_us: float = 9_120.0


def meminfo(memory: Memory) -> str:
    """The file ``meminfo``."""
    m = memory
    slab = m.reclaimable + m.unreclaimable
    # The cache's older part is inactive, as on a machine that read one large file.
    files = max(m.cached + m.buffers - m.shmem, 0.0)
    young = min(files / 2, 2.0)
    swap_used = m.swap_total - m.swap_free
    lines: tuple[tuple[str, float], ...] = (
        ("MemFree", m.free), ("MemAvailable", m.available), ("Buffers", m.buffers),
        ("Cached", m.cached), ("SwapCached", 0.02 * swap_used),
        ("Active", m.anon * 0.3 + young), ("Inactive", m.anon * 0.7 + m.shmem + files - young),
        ("Active(anon)", m.anon * 0.3), ("Inactive(anon)", m.anon * 0.7 + m.shmem),
        ("Active(file)", young), ("Inactive(file)", files - young), ("Unevictable", 0.03),
        ("Mlocked", 0.026), ("SwapTotal", m.swap_total), ("SwapFree", m.swap_free),
        ("Zswap", 0), ("Zswapped", 0), ("Dirty", 0.004), ("Writeback", 0),
        ("AnonPages", m.anon), ("Mapped", m.mapped), ("Shmem", m.shmem),
        ("KReclaimable", m.reclaimable), ("Slab", slab), ("SReclaimable", m.reclaimable),
        ("SUnreclaim", m.unreclaimable), ("KernelStack", m.stacks), ("PageTables", m.tables),
        ("SecPageTables", 0), ("NFS_Unstable", 0), ("Bounce", 0), ("WritebackTmp", 0),
        ("CommitLimit", TOTAL_BYTES / GIB / 2 + m.swap_total), ("Committed_AS", m.anon * 1.6),
        ("VmallocTotal", 126_976.0), ("VmallocUsed", 0.3), ("VmallocChunk", 0),
        ("Percpu", m.percpu), ("HardwareCorrupted", 0), ("AnonHugePages", m.anon * 0.4),
        ("ShmemHugePages", 0), ("ShmemPmdMapped", 0), ("FileHugePages", 0), ("FilePmdMapped", 0),
        ("CmaTotal", 0.031), ("CmaFree", 0.03), ("Balloon", 0),
    )  # fmt: skip
    rows = [_kb("MemTotal", TOTAL_BYTES // 1024)]
    rows += [_kb(name, int(gib * (GIB // 1024))) for name, gib in lines]
    rows += [f"{f'HugePages_{name}:':<16}{0:>8}\n" for name in ("Total", "Free", "Rsvd", "Surp")]
    return "".join((*rows, _kb("Hugepagesize", 2048), _kb("Hugetlb", 0)))


def _kb(name: str, kilobytes: int) -> str:
    return f"{name + ':':<16}{kilobytes:>8} kB\n"


def vmstat(memory: Memory, counters: Counters, page_bytes: int = PAGE_BYTES) -> str:
    """The file ``vmstat``: the rows that tell of memory, of the 190 there are."""
    m, c = memory, counters

    def pages(size_bytes: float) -> int:
        return int(size_bytes) // page_bytes

    scanned = pages(c.scanned_bytes)
    refaulted = pages(c.refaulted_bytes)
    rows = {
        "nr_free_pages": pages(m.free * GIB),
        "nr_mlock": pages(0.026 * GIB),
        "nr_slab_reclaimable": pages(m.reclaimable * GIB),
        "nr_slab_unreclaimable": pages(m.unreclaimable * GIB),
        "workingset_nodes": 41_233,
        "workingset_refault_anon": pages(c.swapped_in_bytes),
        "workingset_refault_file": refaulted,
        "workingset_activate_anon": 0,
        "workingset_activate_file": refaulted * 9 // 10,
        "workingset_restore_file": refaulted // 3,
        "nr_anon_pages": pages(m.anon * GIB),
        "nr_mapped": pages(m.mapped * GIB),
        "nr_file_pages": pages((m.cached + m.buffers) * GIB),
        "nr_dirty": 1_024,
        "nr_writeback": 0,
        "nr_shmem": pages(m.shmem * GIB),
        "pgpgin": int(c.read_bytes) // 1024,
        "pgpgout": int(c.written_bytes) // 1024,
        "pswpin": pages(c.swapped_in_bytes),
        "pswpout": pages(c.swapped_out_bytes),
        "pgalloc_normal": int(c.faults * 1.4),
        "allocstall_normal": int(c.stalls),
        "allocstall_movable": int(c.stalls * 3),
        "pgfree": int(c.faults * 1.4) + 29_000_000,
        "pgfault": int(c.faults),
        "pgmajfault": int(c.major_faults),
        "pgsteal_kswapd": scanned * 9 // 10,
        "pgsteal_direct": scanned // 20,
        "pgscan_kswapd": scanned,
        "pgscan_direct": scanned // 15,
        "oom_kill": c.oom_kills,
        "compact_stall": int(c.compactions),
        "compact_fail": int(c.compactions * 0.7),
        "compact_success": int(c.compactions * 0.3),
    }
    return "".join(f"{name} {value}\n" for name, value in rows.items())


def pressure(
    some: tuple[float, float, float], full: tuple[float, float, float], c: Counters
) -> str:
    """The file ``pressure/memory``: shares in percent over 10, 60 and 300 s, and microseconds."""
    return "".join(
        f"{name} avg10={ten:.2f} avg60={minute:.2f} avg300={five:.2f} total={int(total)}\n"
        for name, (ten, minute, five), total in (
            ("some", some, c.some_us),
            ("full", full, c.full_us),
        )
    )


def buddyinfo(free_gib: float, big_share: float, page_bytes: int = PAGE_BYTES) -> str:
    """The file ``buddyinfo``: its blocks add up to what is free, ``big_share`` of it in blocks of
    2 MiB and more (0: all of it is in small pieces, as after weeks of serving)."""
    orders = (_LARGEST_BYTES // page_bytes).bit_length()
    pages = int(free_gib * GIB) // page_bytes
    device = min(pages // 40, 500_000)
    return _zone("DMA", device, big_share, orders, page_bytes) + _zone(
        "Normal", pages - device, big_share, orders, page_bytes
    )


def _zone(name: str, pages: int, big_share: float, orders: int, page_bytes: int) -> str:
    counts = [0] * orders
    small = [at for at in range(orders) if page_bytes << at < _BIG_BYTES]
    large = [at for at in range(orders) if page_bytes << at >= _BIG_BYTES]
    left = pages
    for among, part in ((large, int(pages * big_share)), (small, None)):
        room = left if part is None else part
        for at in reversed(among):
            # Half of what is left goes to the largest, the rest to the next; order 0 takes all.
            count = room >> at if at == 0 else (room >> at) // 2
            counts[at] += count
            room -= count << at
            left -= count << at
    return f"Node 0, zone {name:>8} " + "".join(f"{count:>6} " for count in counts) + "\n"


def kernel_log(kind: str, pid: int | None) -> list[str]:
    """Messages of the kernel and of the NVIDIA driver for what was brought about.

    Words as in mm/oom_kill.c, antirez/ds4#621 and NVIDIA/open-gpu-kernel-modules#1358.
    """
    of_server = {
        "oom": [
            "ds4-server invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), "
            "order=0, oom_score_adj=0",
            "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,"
            f"global_oom,task_memcg=/,task=ds4-server,pid={pid},uid=1000",
            f"Out of memory: Killed process {pid} (ds4-server) total-vm:339738624kB, "
            "anon-rss:412340kB, file-rss:131072kB, shmem-rss:0kB, UID:1000 pgtables:188416kB "
            "oom_score_adj:0",
            f"oom_reaper: reaped process {pid} (ds4-server), now anon-rss:0kB, file-rss:0kB, "
            "shmem-rss:0kB",
        ],
        "poison": [
            "NVRM: Xid (PCI:000f:01:00): 13, Graphics SM Warp Exception on (GPC 1, TPC 2, SM 0): "
            "Out Of Range Address",
            f"NVRM: Xid (PCI:000f:01:00): 43, pid={pid}, name=ds4-server, channel 0x00000002",
        ],
    }
    of_driver = {
        "gpu-lost": [
            "NVRM: Xid (PCI:000f:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off "
            "the bus."
        ],
        "no-memory": [
            "NVRM: nvCheckOkFailedNoLog: Check failed: Out of memory [NV_ERR_NO_MEMORY] "
            "(0x00000051) returned from _memdescAllocInternal(pMemDesc) @ mem_desc.c:1359"
        ]
        * _BURST,
    }
    return (of_server.get(kind, []) if pid is not None else []) + of_driver.get(kind, [])


def write(directory: Path, text: Callable[[str], str]) -> None:
    """Put the files under a directory, each in one step so that none is read half written.

    ``text`` gives a file by its name. Raises ``OSError``.
    """
    for name in FILES:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_text(text(name), encoding="ascii")
        os.replace(fresh, path)
