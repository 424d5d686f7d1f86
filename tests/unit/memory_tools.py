"""Samples of a Spark, sizes in GiB, for the tests of memory."""

from __future__ import annotations

from pathlib import Path

from ds4top.core.meminfo import MemorySample, sample_of
from ds4top.core.memory import GIB, Residency, ServerMemory

DATA = Path(__file__).parents[1] / "data" / "memory"
MODEL = int(80.76 * GIB)
TOTAL = 127_600_748 * 1024


def gib(value: float) -> int:
    """Bytes."""
    return int(value * GIB)


def spark(t: float, available: float, free: float = 2.0, **fields: int) -> MemorySample:
    """A sample of a Spark at ``t``; further fields of meminfo in bytes."""
    meminfo = {"MemTotal": TOTAL, "MemFree": gib(free), "MemAvailable": gib(available)}
    return sample_of(t, 1_000.0 + t, meminfo | fields)


def copied() -> ServerMemory:
    """A server whose weights are on the GPU."""
    return ServerMemory(Residency.COPY, MODEL, gib(89.0))


def mapped(cached: float = 80.76) -> ServerMemory:
    """A server whose weights are in page cache, so much of them at the moment."""
    return ServerMemory(Residency.MMAP, MODEL, gib(4), cached_bytes=gib(cached))
