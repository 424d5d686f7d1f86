"""What ds4top itself costs: processor, memory, what it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file or folder that ds4top writes; ``size_bytes`` is ``None`` where it is not there."""

    name: str
    holds: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class OwnCost:
    """One look at ds4top's own process. ``None`` where it may not be read, or not yet.

    ``cpu_share``: of one core over the last ``span_s`` seconds; ``cpu_s`` and ``up_s`` since its
    start. ``threads``: the share of each by its name. ``written_bytes``: to the terminal, since the
    start; ``written_per_min`` over the span. ``stored_bytes``: what the kernel sent to storage for
    it. ``folder``: where its files lie.
    """

    span_s: float = 0.0
    cpu_share: float | None = None
    cpu_s: float = 0.0
    up_s: float | None = None
    threads: Mapping[str, float] = field(default_factory=dict)
    thread_count: int | None = None
    rss_bytes: int | None = None
    rss_peak_bytes: int | None = None
    open_files: int | None = None
    written_bytes: int | None = None
    written_per_min: float | None = None
    stored_bytes: int | None = None
    folder: str = ""
    files: tuple[OwnFile, ...] = ()
