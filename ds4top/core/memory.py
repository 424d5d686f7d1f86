"""Unified memory: who holds what, how much is left, and what the next prefill takes.

Pure figures of samples. On a GB10 the GPU's memory is the machine's: CUDA allocations are in no
counter of the kernel but lower MemFree and MemAvailable, and NVML tells them by process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from ds4top.core.fit import middle
from ds4top.core.meminfo import MemorySample

GIB = 1 << 30
OK_BYTES = 6 * GIB
CRITICAL_BYTES = int(2.5 * GIB)
RESERVE_BYTES = CRITICAL_BYTES
"""Kept back only where it is said what still fits."""
CRITICAL_S = 10.0
FALLING_BYTES_PER_S = 0.3 * GIB
"""Slower falls tell no time to zero: a copy of a file is one."""
ARENAS_BYTES = int(5.2 * GIB)
"""Arenas, q8 to f16 cache and CUDA context beside the weights: 87,992 MiB were seen for 80.76 GiB
(antirez/ds4#158)."""
MAPPED_ARENAS_BYTES = GIB
"""The same beside mapped weights; nobody has measured it."""
COPY_SHARE = 0.8
MAPPED_SHARE = 0.3

Level = Literal["ok", "warning", "critical", "unknown"]


class Residency(StrEnum):
    """How the weights are held, as detected."""

    MMAP = "mmap"
    COPY = "copy"
    MIXED = "mixed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Parts:
    """Who holds the machine's memory, in bytes; they add up to it, ``unaccounted`` is signed."""

    server_weights: int
    server_working: int
    other_gpu: int
    other_processes: int
    cache: int
    kernel: int
    free: int
    unaccounted: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, name) for name in self.__slots__)

    def as_dict(self) -> dict[str, int]:
        """By the names of the machine-readable status."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What is known of the server's own memory. ``cached_bytes``: of its model file.

    ``gpu_bytes`` is NVML's figure of its pid; ``None`` where NVML does not tell.
    """

    residency: Residency = Residency.UNKNOWN
    file_bytes: int | None = None
    gpu_bytes: int | None = None
    anon_bytes: int = 0
    shmem_bytes: int = 0
    cached_bytes: int | None = None


def residency_of(
    file_bytes: int | None,
    gpu_bytes: int | None,
    cached_bytes: int | None,
    *,
    told: Residency = Residency.UNKNOWN,
    loading: bool = False,
) -> tuple[Residency, str]:
    """Mode by where the bytes are, and the sentence that says why.

    ``told`` is what the start-up lines say: it decides where the bytes do not, and while the model
    is ``loading``, when the file fills the page cache and the GPU alike. Between the two shares it
    tells aligned artifacts, which count as a copy, from a real mixture.
    """
    by_log = (told, "by its start-up lines") if told is not Residency.UNKNOWN else None
    if loading:
        return by_log or (Residency.UNKNOWN, "it is loading")
    if not file_bytes:
        return by_log or (Residency.UNKNOWN, "the model file's size is not known")
    if gpu_bytes is None:
        return by_log or (Residency.UNKNOWN, "NVML does not tell what it holds on the GPU")
    held = f"{gpu_bytes / GIB:.1f} GiB on the GPU of a {file_bytes / GIB:.1f} GiB file"
    if gpu_bytes >= COPY_SHARE * file_bytes:
        return Residency.COPY, held
    if gpu_bytes >= MAPPED_SHARE * file_bytes:
        if told is Residency.COPY:
            return Residency.COPY, f"{held}, built as a copy by its start-up lines"
        return Residency.MIXED, held
    if cached_bytes is None:
        return by_log or (
            Residency.UNKNOWN,
            f"{held}; how much is in page cache is not known",
        )
    cached = f"{held}, {cached_bytes / GIB:.1f} GiB in page cache"
    if cached_bytes >= MAPPED_SHARE * file_bytes or told is Residency.MMAP:
        return Residency.MMAP, cached
    return Residency.UNKNOWN, f"{cached}: it may be loading"


def file_cache_bytes(sample: MemorySample) -> int:
    """Page cache that holds files; ``Cached`` counts shared memory too."""
    return max(sample.cached_bytes - sample.shmem_bytes, 0)


def hot_bytes(server: ServerMemory, cache_bytes: int | None = None) -> int | None:
    """Model bytes that live in page cache and are read for every token; losing them ruins decode.

    ``None`` where that is not known; of a copy there are none. ``cache_bytes`` is all page cache
    of files: what the model has there at most, where its own share cannot be read.
    """
    if server.residency is Residency.COPY:
        return 0
    if server.file_bytes is None or server.residency is Residency.UNKNOWN:
        return None
    known = cache_bytes if server.cached_bytes is None else server.cached_bytes
    hot = server.file_bytes if known is None else min(known, server.file_bytes)
    if server.residency is Residency.MIXED:
        return min(hot, max(server.file_bytes - (server.gpu_bytes or 0), 0))
    return hot


def headroom_bytes(
    available_bytes: int | None, server: ServerMemory | None, cache_bytes: int | None = None
) -> int | None:
    """MemAvailable less the hot model bytes in page cache. Without a server: MemAvailable."""
    if available_bytes is None:
        return None
    if server is None:
        return available_bytes
    hot = hot_bytes(server, cache_bytes)
    return None if hot is None else available_bytes - hot


def parts_of(
    sample: MemorySample,
    server: ServerMemory | None = None,
    other_gpu_bytes: int = 0,
    *,
    unified: bool = True,
) -> Parts:
    """Everything of MemTotal, each byte once: CUDA memory is in no counter of the kernel, mapped
    weights are in ``Cached``. On a discrete GPU NVML's terms are 0 here."""
    server = server or ServerMemory()
    gpu = (server.gpu_bytes or 0) if unified else 0
    files = file_cache_bytes(sample)
    hot = min(hot_bytes(server, files) or 0, files)
    mapped = 0
    if server.residency is Residency.COPY:
        weights = min(server.file_bytes or 0, gpu)
        working = gpu - weights
    elif server.residency is Residency.MMAP:
        weights = mapped = hot
        working = gpu
    elif server.residency is Residency.MIXED:
        on_gpu = min(server.file_bytes or 0, gpu)
        mapped = hot
        weights, working = on_gpu + mapped, gpu - on_gpu
    else:
        weights, working = 0, gpu
    own = server.anon_bytes + server.shmem_bytes
    cache = (
        sample.cached_bytes
        + sample.buffers_bytes
        + sample.swap_cached_bytes
        + (sample.reclaimable_bytes or 0)
        - sample.shmem_bytes
        - mapped
    )
    named = {
        "server_weights": weights,
        "server_working": working + own,
        "other_gpu": other_gpu_bytes if unified else 0,
        "other_processes": max(sample.anon_bytes + sample.shmem_bytes - own, 0),
        "cache": cache,
        "kernel": sample.kernel_bytes + sample.huge_bytes,
        "free": sample.free_bytes,
    }
    return Parts(**named, unaccounted=sample.total_bytes - sum(named.values()))


def projected_bytes(
    available_bytes: int, weights_bytes: int, loaded_bytes: int, context_bytes: int
) -> int:
    """Headroom once a copying load is through: what is still to come is taken off.

    ``loaded_bytes`` is what the GPU holds for it already. Once that is more than the weights, the
    rest are arenas and context, which are not to come a second time.
    """
    to_come = weights_bytes + context_bytes + ARENAS_BYTES - loaded_bytes
    return available_bytes - max(to_come, 0)


def projected_mapped_bytes(
    available_bytes: int, file_bytes: int, loaded_bytes: int, context_bytes: int
) -> int:
    """The same where weights stay in page cache: no allocation, but hot once they are read."""
    to_come = context_bytes + MAPPED_ARENAS_BYTES - loaded_bytes
    return available_bytes - file_bytes - max(to_come, 0)


def slope_bytes_per_s(points: Sequence[tuple[float, int]], window_s: float) -> float | None:
    """Change over the last ``window_s`` by its ends; ``None`` below half a window of points."""
    if len(points) < 2:
        return None
    end = points[-1]
    begin = next(point for point in points if point[0] >= end[0] - window_s)
    span = end[0] - begin[0]
    if span < window_s / 2:
        return None
    return (end[1] - begin[1]) / span


def time_to_zero_s(headroom: int | None, slope: float | None) -> float | None:
    """Seconds until nothing is left at this pace; only for falls faster than 0.3 GiB/s."""
    if headroom is None or slope is None or slope > -FALLING_BYTES_PER_S:
        return None
    return max(headroom, 0) / -slope


def level_of(
    headroom: int | None,
    to_zero_s: float | None,
    *,
    ok_bytes: int = OK_BYTES,
    critical_bytes: int = CRITICAL_BYTES,
) -> Level:
    """The level of one sample, without hysteresis."""
    if headroom is None:
        return "unknown"
    if headroom < critical_bytes or (to_zero_s is not None and to_zero_s < CRITICAL_S):
        return "critical"
    return "warning" if headroom < ok_bytes else "ok"


def context_bytes(ctx_tokens: int, prefill_chunk: int, raw_rows: int) -> int:
    """Context buffers of a session (ds4.c at 8d57664; within 2 MiB of newer builds).

    raw K/V of 43 layers, compressed rows of 41 layers (ratio 4 or 128), indexer and scratch.
    """
    raw = 43 * raw_rows * 512 * 4
    fine, coarse = ctx_tokens // 4 + 2, ctx_tokens // 128 + 2
    compressed = (21 * fine + 20 * coarse) * 512 * 4 + 21 * fine * 128 * 4
    return raw + compressed + 2 * fine * prefill_chunk * 4


Origin = Literal["measured", "estimated"]
Verdict = Literal["fits", "tight", "does not fit", "unknown"]
_SIMILAR = 2.0
_STEP_TOKENS = 1024
_AGENT_PRIOR = ((16_384, 2 * GIB), (56_000, 14 * GIB))
"""A daily-agent build takes about 14 GB of checkpoints at large contexts; at 56K it ended in a
global OOM. Below 16K nothing was seen; between the two it is drawn straight."""


@dataclass(frozen=True, slots=True)
class NextPrefill:
    """What a prefill of ``tokens`` takes, how that is known, and whether it fits."""

    tokens: int
    need_bytes: int
    origin: Origin
    verdict: Verdict


def _prior(tokens: int, *, agent: bool) -> int:
    if not agent:
        # Stock builds allocate everything at the start.
        return 0
    (small, low), (large, high) = _AGENT_PRIOR
    if tokens <= small:
        return int(low * tokens / small)
    return min(int(low + (high - low) * (tokens - small) / (large - small)), high)


def next_prefill(
    tokens: int,
    headroom: int | None,
    past: Iterable[tuple[int, int]],
    *,
    agent: bool,
    ok_bytes: int = OK_BYTES,
) -> NextPrefill:
    """``past``: tokens and drop of headroom of this server's own prefills.

    The median drop of those of at least half and at most twice the size, else the build's prior.
    """
    alike = [drop for size, drop in past if tokens / _SIMILAR <= size <= tokens * _SIMILAR]
    origin: Origin = "measured" if alike else "estimated"
    need = max(int(middle(alike)) if alike else _prior(tokens, agent=agent), 0)
    if headroom is None:
        verdict: Verdict = "unknown"
    elif headroom - need >= ok_bytes:
        verdict = "fits"
    else:
        verdict = "tight" if headroom - need >= RESERVE_BYTES else "does not fit"
    return NextPrefill(tokens, need, origin, verdict)


def largest_prefill(
    headroom: int | None, past: Iterable[tuple[int, int]], *, agent: bool, limit_tokens: int
) -> NextPrefill | None:
    """The largest prefill up to the context limit that leaves the reserve, in steps of 1,024.

    ``tokens`` is 0 where not even the smallest fits; ``None`` where the headroom is not known.
    """
    if headroom is None:
        return None
    known = tuple(past)
    steps = range(limit_tokens, 0, -_STEP_TOKENS)
    each = (next_prefill(tokens, headroom, known, agent=agent) for tokens in steps)
    fitting = (found for found in each if found.verdict != "does not fit")
    return next(fitting, NextPrefill(0, 0, "estimated", "does not fit"))


def fits_bytes(headroom: int | None) -> int | None:
    """What can still be allocated with the reserve kept back."""
    return None if headroom is None else max(headroom - RESERVE_BYTES, 0)
