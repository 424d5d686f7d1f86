"""Memory over time: headroom of ten minutes and of a day, its slope, its level, what was counted.

Changed by ``take`` and ``take_parts`` alone; time comes with the samples. The slope is that of
MemAvailable: model pages that come into page cache lower the headroom, but no memory leaves.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from ds4top.core.meminfo import MemorySample
from ds4top.core.memory import (
    FALLING_BYTES_PER_S,
    GIB,
    Level,
    Parts,
    ServerMemory,
    file_cache_bytes,
    headroom_bytes,
    level_of,
    projected_bytes,
    projected_mapped_bytes,
    time_to_zero_s,
)

RECENT_S = 600.0
MINUTE_S = 60.0
DAY_MINUTES = 1440
FAST_SLOPE_S = 2.0
SLOW_SLOPE_S = 10.0
LEAVE_BYTES = GIB
LEAVE_S = 5.0
PARTS_STEP_S = 5.0
_RATE_S = 10.0
_TINY_S = 1e-6
_UNKNOWN = -(1 << 62)
_ORDER: tuple[Level, ...] = ("unknown", "ok", "warning", "critical")


@dataclass(slots=True)
class Series:
    """Points of time and value of the last ``span_s``; two arrays, trimmed in steps."""

    span_s: float
    t: array[float] = field(default_factory=lambda: array("d"))
    value: array[int] = field(default_factory=lambda: array("q"))

    def add(self, t: float, value: int) -> None:
        """Append; the same time again replaces. Older than the span goes, a tenth at a time."""
        if self.t and self.t[-1] == t:
            self.value[-1] = value
            return
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

    def slope(self, window_s: float, since: float = float("-inf")) -> float | None:
        """Change per second over the last window, by its ends; ``None`` below half a window."""
        if len(self.t) < 2:
            return None
        end = self.t[-1]
        at = bisect_left(self.t, max(end - window_s, since) - _TINY_S)
        span = end - self.t[at]
        if span < window_s / 2:
            return None
        return (self.value[-1] - self.value[at]) / span

    def at(self, t: float) -> int | None:
        """The value at a time, between two points drawn straight; ``None`` of nothing."""
        if not self.t:
            return None
        right = bisect_left(self.t, t)
        if right in (0, len(self.t)):
            return self.value[min(right, len(self.t) - 1)]
        left = right - 1
        share = (t - self.t[left]) / (self.t[right] - self.t[left])
        return round(self.value[left] + share * (self.value[right] - self.value[left]))


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

    @property
    def count(self) -> int | None:
        """The growth; ``None`` where the kernel does not count."""
        return None if self.last is None else self.grown

    def per_s(self, t: float) -> float | None:
        """Per second over the last ten seconds; ``None`` where it is not counted."""
        if not self.points.t or self.points.t[-1] < t - _RATE_S:
            return None
        return self.points.slope(_RATE_S)


@dataclass(slots=True)
class PartsHistory:
    """Who held what, step by step of wall time: the last account of each step."""

    step_s: float
    count: int
    rows: array[int] = field(default_factory=lambda: array("q"))

    def take(self, wall: float, parts: Parts) -> None:
        """One account. A clock that goes back writes over the newest step."""
        step = int(wall // self.step_s)
        if self.rows and step <= self.rows[-_WIDTH]:
            step = self.rows[-_WIDTH]
            del self.rows[-_WIDTH:]
        self.rows.append(step)
        self.rows.extend(getattr(parts, name) for name in Parts.__slots__)
        oldest = step - self.count
        extra = 0
        while self.rows[extra] <= oldest:
            extra += _WIDTH
        del self.rows[:extra]

    def points(self) -> list[tuple[float, Parts]]:
        """Wall time of each step's begin and its account, oldest first; gaps are not filled."""
        return [
            (self.rows[at] * self.step_s, Parts(*self.rows[at + 1 : at + _WIDTH]))
            for at in range(0, len(self.rows), _WIDTH)
        ]


_WIDTH = 1 + len(Parts.__slots__)


@dataclass(slots=True)
class Loading:
    """What a load still takes; judged by its projection. ``copies``: weights go to the GPU.

    ``loaded_bytes`` is what the GPU holds already, read at ``loaded_t`` (``None``: when it was
    first handed over); ``None`` where neither NVML nor the log tells: then nothing is projected.
    """

    weights_bytes: int
    loaded_bytes: int | None
    context_bytes: int
    copies: bool = True
    loaded_t: float | None = None


@dataclass(slots=True)
class MemoryTrack:
    """The store of memory. ``now`` figures are of the last sample.

    ``falling``: fast enough to be looked at more often. It is a plain value, since the thread that
    reads the samples asks for it.
    """

    sample: MemorySample | None = None
    headroom: int | None = None
    projected: int | None = None
    level: Level = "unknown"
    falling: bool = False
    recent: Series = field(default_factory=lambda: Series(RECENT_S))
    available: Series = field(default_factory=lambda: Series(RECENT_S))
    minutes: array[int] = field(default_factory=lambda: array("q"))
    minutes_from: int | None = None
    parts_recent: PartsHistory = field(
        default_factory=lambda: PartsHistory(PARTS_STEP_S, int(RECENT_S / PARTS_STEP_S))
    )
    parts_day: PartsHistory = field(default_factory=lambda: PartsHistory(MINUTE_S, DAY_MINUTES))
    oom_kills: Counter = field(default_factory=Counter)
    refaults: Counter = field(default_factory=Counter)
    swap_in: Counter = field(default_factory=Counter)
    swap_out: Counter = field(default_factory=Counter)
    major_faults: Counter = field(default_factory=Counter)
    oom_seen_wall: float | None = None
    _loading: bool = False
    _trend_from: float = float("-inf")
    _reading: tuple[int, float | None] | None = None
    _reading_available: int = 0
    _judged_t: float | None = None
    _now: Level | None = None
    _before: Level | None = None
    _held: Level = "unknown"
    _better_since: float | None = None

    def take(
        self,
        sample: MemorySample,
        server: ServerMemory | None = None,
        loading: Loading | None = None,
        *,
        ok_bytes: int = 6 * GIB,
        critical_bytes: int = int(2.5 * GIB),
    ) -> None:
        """One sample, with what is known of the server and of a load that goes on.

        The same sample again, when more is known, is judged anew and counted once.
        """
        if self.sample is not None and sample.t < self.sample.t:
            self._forget()
        self.sample = sample
        t, available = sample.t, sample.available_bytes
        if (loading is not None) != self._loading:
            # A load falls fast and means well; its end must not be judged by that.
            self._loading, self._trend_from = loading is not None, t
            self._reading = None
        self._count(sample)
        if available is not None:
            self.available.add(t, available)
        self.headroom = headroom_bytes(available, server, file_cache_bytes(sample))
        if loading is not None and (loading.copies or self.headroom is None):
            # The file in page cache is what the copy is made of, not weights that are read there.
            self.headroom = available
        if self.headroom is not None:
            self.recent.add(t, self.headroom)
            self._minute(sample.wall, self.headroom)
        self.projected = None if loading is None else self._project(t, available, loading)
        slope = self.slope(FAST_SLOPE_S)
        self.falling = slope is not None and slope < -FALLING_BYTES_PER_S
        self._judge(t, ok_bytes, critical_bytes)

    def take_parts(self, wall: float, parts: Parts) -> None:
        """The account of the last sample."""
        self.parts_recent.take(wall, parts)
        self.parts_day.take(wall, parts)

    def slope(self, window_s: float = SLOW_SLOPE_S) -> float | None:
        """Change of MemAvailable in bytes per second over the last ``window_s``."""
        return self.available.slope(window_s, self._trend_from)

    @property
    def to_zero_s(self) -> float | None:
        """Seconds until nothing is left, by the last two seconds; an upper bound where the
        headroom is not known."""
        left = self.headroom
        if left is None and self.sample is not None:
            left = self.sample.available_bytes
        return time_to_zero_s(left, self.slope(FAST_SLOPE_S))

    def lowest(self, minutes: int = DAY_MINUTES) -> int | None:
        """The least headroom of the last minutes."""
        known = [value for value in self.minutes[-minutes:] if value != _UNKNOWN]
        return min(known) if known else None

    def by_minute(self) -> list[int | None]:
        """The least headroom of each minute of a day, oldest first; ``None`` where unknown."""
        return [None if value == _UNKNOWN else value for value in self.minutes]

    def recall(self, minima: Iterable[tuple[float, int]]) -> None:
        """Minutes before the first one that was seen, from a history: their begin and headroom."""
        if self.minutes_from is None:
            return
        newest = self.minutes_from + len(self.minutes) - 1
        known = {int(at // MINUTE_S): value for at, value in minima}
        begin = min((each for each in known if each > newest - DAY_MINUTES), default=newest)
        if begin < self.minutes_from:
            before = range(begin, self.minutes_from)
            self.minutes[:0] = array("q", [known.get(minute, _UNKNOWN) for minute in before])
            self.minutes_from = begin

    def _forget(self) -> None:
        """Time went back (a replay): what was seen belongs to another run."""
        self.recent, self.available = Series(RECENT_S), Series(RECENT_S)
        self.minutes, self.minutes_from = array("q"), None
        self.parts_recent.rows, self.parts_day.rows = array("q"), array("q")
        self.oom_kills, self.refaults, self.major_faults = Counter(), Counter(), Counter()
        self.swap_in, self.swap_out = Counter(), Counter()
        self.oom_seen_wall = self._reading = self._better_since = None
        self._judged_t = self._now = self._before = None
        self.level = self._held = "unknown"
        self._trend_from = float("-inf")

    def _count(self, sample: MemorySample) -> None:
        if self.oom_kills.take(sample.t, sample.oom_kills):
            self.oom_seen_wall = sample.wall
        for counter, value in (
            (self.refaults, sample.refaults),
            (self.swap_in, sample.swap_in_pages),
            (self.swap_out, sample.swap_out_pages),
            (self.major_faults, sample.major_faults),
        ):
            counter.take(sample.t, value)

    def _project(self, t: float, available: int | None, loading: Loading) -> int | None:
        """Headroom at the end of the load.

        What is loaded is read less often than MemAvailable, and a load takes 4 GiB/s: what went
        since the reading counts as loaded too, else each reading would be an alarm.
        """
        if available is None or loading.loaded_bytes is None:
            return None
        reading = (loading.loaded_bytes, loading.loaded_t)
        if reading != self._reading:
            then = self.available.at(t if loading.loaded_t is None else loading.loaded_t)
            self._reading = reading
            self._reading_available = available if then is None else then
        loaded = loading.loaded_bytes + max(self._reading_available - available, 0)
        project = projected_bytes if loading.copies else projected_mapped_bytes
        return project(available, loading.weights_bytes, loaded, loading.context_bytes)

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

    def _judge(self, t: float, ok_bytes: int, critical_bytes: int) -> None:
        """Worse on the second sample in a row, better at 1 GiB more for 5 s."""
        judged = self.headroom if self.projected is None else self.projected
        # A normal load takes 3 to 4 GiB/s: its slope says nothing while its end is known to fit.
        trend = not self._loading or (judged is not None and judged < ok_bytes)
        to_zero = self.to_zero_s if trend else None
        limits = {"ok_bytes": ok_bytes, "critical_bytes": critical_bytes}
        now = level_of(judged, to_zero, **limits)
        if judged is None and self.sample is not None:
            # Headroom is never more than MemAvailable: that may condemn, but not acquit.
            bound = level_of(self.sample.available_bytes, to_zero, **limits)
            now = "unknown" if bound == "ok" else bound
        if t != self._judged_t:
            self._judged_t, self._before, self._held = t, self._now, self.level
        self._now = now
        if self._before is None:
            # One look alone is all that there is.
            self.level = now
            return
        held = _ORDER.index(self._held)
        entering = min(_ORDER.index(now), _ORDER.index(self._before))
        if now == "unknown" or self._held == "unknown":
            self._better_since = None
            self.level = now if now in ("unknown", "ok") else _ORDER[entering]
        elif _ORDER.index(now) >= held:
            self._better_since = None
            self.level = _ORDER[max(entering, held)]
        else:
            lasting = level_of(None if judged is None else judged - LEAVE_BYTES, to_zero, **limits)
            self.level = self._left(t, lasting)

    def _left(self, t: float, lasting: Level) -> Level:
        """The level held, or the one below it that has lasted long enough."""
        if _ORDER.index(lasting) >= _ORDER.index(self._held):
            self._better_since = None
        elif self._better_since is None:
            self._better_since = t
        elif t - self._better_since >= LEAVE_S:
            self._better_since = None
            return lasting
        return self._held
