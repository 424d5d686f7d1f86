"""Memory over time: headroom of ten minutes and of a day, its slope, its level, what was counted.

Changed by ``take`` alone; time comes with the samples.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field

from ds4top.core.meminfo import MemorySample
from ds4top.core.memory import (
    GIB,
    Level,
    ServerMemory,
    headroom_bytes,
    level_of,
    projected_bytes,
    slope_bytes_per_s,
    time_to_zero_s,
)

RECENT_S = 600.0
MINUTE_S = 60.0
DAY_MINUTES = 1440
FAST_SLOPE_S = 2.0
SLOW_SLOPE_S = 10.0
TREND_S = 600.0
LEAVE_BYTES = GIB
LEAVE_S = 5.0
_RATE_S = 10.0
_UNKNOWN = -(1 << 62)
_ORDER: tuple[Level, ...] = ("unknown", "ok", "warning", "critical")


@dataclass(slots=True)
class Series:
    """Points of time and value of the last ``span_s``; two arrays, trimmed in steps."""

    span_s: float
    t: array[float] = field(default_factory=lambda: array("d"))
    value: array[int] = field(default_factory=lambda: array("q"))

    def add(self, t: float, value: int) -> None:
        """Append; older than the span goes, a tenth of it at a time."""
        self.t.append(t)
        self.value.append(value)
        if self.t[0] < t - 1.1 * self.span_s:
            extra = bisect_left(self.t, t - self.span_s)
            del self.t[:extra]
            del self.value[:extra]

    def since(self, t: float) -> list[tuple[float, int]]:
        """Points from ``t`` on."""
        at = bisect_left(self.t, t)
        return list(zip(self.t[at:], self.value[at:], strict=True))


@dataclass(slots=True)
class Counter:
    """Growth of a counter of the kernel: in all since it was first seen, and per second of late.

    A counter that goes down begins anew.
    """

    first: int | None = None
    last: int | None = None
    grown: int = 0
    points: Series = field(default_factory=lambda: Series(_RATE_S))

    def take(self, t: float, value: int | None) -> int:
        """The growth since the sample before."""
        if value is None:
            return 0
        step = 0 if self.last is None or value < self.last else value - self.last
        if self.first is None:
            self.first = value
        self.last = value
        self.grown += step
        self.points.add(t, self.grown)
        return step

    def per_s(self, t: float) -> float | None:
        """Per second over the last ten seconds; ``None`` where it is not counted."""
        return slope_bytes_per_s(self.points.since(t - _RATE_S), _RATE_S)


@dataclass(slots=True)
class Loading:
    """What a load still takes; judged by its projection. ``copies``: weights go to the GPU."""

    weights_bytes: int
    loaded_bytes: int
    context_bytes: int
    copies: bool = True


@dataclass(slots=True)
class MemoryTrack:
    """The store of memory. ``now`` figures are of the last sample."""

    sample: MemorySample | None = None
    headroom: int | None = None
    projected: int | None = None
    level: Level = "unknown"
    recent: Series = field(default_factory=lambda: Series(RECENT_S))
    minutes: array[int] = field(default_factory=lambda: array("q"))
    minutes_from: int | None = None
    oom_kills: Counter = field(default_factory=Counter)
    refaults: Counter = field(default_factory=Counter)
    swap_in: Counter = field(default_factory=Counter)
    swap_out: Counter = field(default_factory=Counter)
    major_faults: Counter = field(default_factory=Counter)
    oom_seen_wall: float | None = None
    _worse: int = 0
    _better_since: float | None = None
    _meaning: tuple[object, ...] = ()
    _trend_from: float = float("-inf")

    def take(
        self,
        sample: MemorySample,
        server: ServerMemory | None = None,
        loading: Loading | None = None,
        *,
        ok_bytes: int = 6 * GIB,
        critical_bytes: int = int(2.5 * GIB),
    ) -> None:
        """One sample, with what is known of the server and of a load that goes on."""
        self.sample = sample
        t = sample.t
        self.headroom = headroom_bytes(sample.available_bytes, server)
        if self.headroom is None and loading is not None:
            self.headroom = sample.available_bytes
        meaning = (server.residency if server else None, loading is not None)
        if meaning != self._meaning:
            # Another reading of the same memory, and the end of a load, are no fall.
            self._meaning, self._trend_from = meaning, t
        if self.oom_kills.take(t, sample.oom_kills):
            self.oom_seen_wall = sample.wall
        for counter, value in (
            (self.refaults, sample.refaults),
            (self.swap_in, sample.swap_in_pages),
            (self.swap_out, sample.swap_out_pages),
            (self.major_faults, sample.major_faults),
        ):
            counter.take(t, value)
        if self.headroom is not None:
            self.recent.add(t, self.headroom)
            self._minute(sample.wall, self.headroom)
        self.projected = None
        if loading is not None and self.headroom is not None:
            weights = loading.weights_bytes if loading.copies else loading.loaded_bytes
            self.projected = projected_bytes(
                self.headroom, weights, loading.loaded_bytes, loading.context_bytes
            )
        self._judge(t, loading is not None, ok_bytes, critical_bytes)

    def slope(self, window_s: float = SLOW_SLOPE_S) -> float | None:
        """Change of headroom in bytes per second over the last ``window_s``."""
        if self.sample is None:
            return None
        begin = max(self.sample.t - window_s, self._trend_from)
        return slope_bytes_per_s(self.recent.since(begin), window_s)

    @property
    def to_zero_s(self) -> float | None:
        """Seconds until nothing is left, by the last two seconds."""
        return time_to_zero_s(self.headroom, self.slope(FAST_SLOPE_S))

    @property
    def falling(self) -> bool:
        """Whether it falls fast enough to be looked at more often."""
        slope = self.slope(FAST_SLOPE_S)
        return slope is not None and slope < -0.3 * GIB

    def lowest(self, minutes: int = DAY_MINUTES) -> int | None:
        """The least headroom of the last minutes."""
        known = [value for value in self.minutes[-minutes:] if value != _UNKNOWN]
        return min(known) if known else None

    def by_minute(self) -> list[int | None]:
        """The least headroom of each minute of a day, oldest first; ``None`` where unknown."""
        return [None if value == _UNKNOWN else value for value in self.minutes]

    def _minute(self, wall: float, headroom: int) -> None:
        minute = int(wall // MINUTE_S)
        if self.minutes_from is None:
            self.minutes_from = minute
        at = minute - self.minutes_from
        if at < 0:
            # The clock went back: what is measured now belongs to the newest minute.
            at = len(self.minutes) - 1
        gap = at - len(self.minutes)
        if gap > DAY_MINUTES:
            self.minutes = array("q")
            self.minutes_from = minute
            at = gap = 0
        self.minutes.extend([_UNKNOWN] * (gap + 1))
        if self.minutes[at] == _UNKNOWN or headroom < self.minutes[at]:
            self.minutes[at] = headroom
        if (extra := len(self.minutes) - DAY_MINUTES) > 0:
            del self.minutes[:extra]
            self.minutes_from += extra

    def _judge(self, t: float, loading: bool, ok_bytes: int, critical_bytes: int) -> None:
        """Worse on the second sample in a row, better at 1 GiB more for 5 s."""
        judged = self.projected if loading else self.headroom
        # A normal load takes 3 to 4 GiB/s: its slope says nothing while its end is known to fit.
        trend = not loading or (judged is not None and judged < ok_bytes)
        to_zero = self.to_zero_s if trend else None
        limits = {"ok_bytes": ok_bytes, "critical_bytes": critical_bytes}
        now = level_of(judged, to_zero, **limits)
        if now == "unknown" or self.level == "unknown":
            self.level, self._worse, self._better_since = now, 0, None
            if now in ("warning", "critical"):
                # The first sample has none before it to agree with.
                self._worse, self.level = 1, "ok"
            return
        rank, held = _ORDER.index(now), _ORDER.index(self.level)
        if rank > held:
            self._worse += 1
            self._better_since = None
            if self._worse >= 2:
                self.level, self._worse = now, 0
            return
        self._worse = 0
        lasting = level_of(None if judged is None else judged - LEAVE_BYTES, to_zero, **limits)
        if _ORDER.index(lasting) >= held:
            self._better_since = None
            return
        if self._better_since is None:
            self._better_since = t
        elif t - self._better_since >= LEAVE_S:
            self.level, self._better_since = lasting, None
