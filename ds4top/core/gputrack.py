"""What a GPU's track is made of: slowed time, low-power spells, energy.

Each is changed by its ``take`` alone and is given its time. Nothing here knows NVML.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

GAP_S = 30.0
"""What lies further apart is not one stretch of time: the machine slept, the driver hung."""


@dataclass(slots=True)
class Slowed:
    """How long the clocks were held down, by reason, from counters that only grow."""

    share: dict[str, float] = field(default_factory=dict)
    """Of the time between the last two readings, 0 to 1; only what grew."""
    _last: tuple[float, dict[str, int]] | None = None

    def take(self, now: float, read_t: float, counters_us: Sequence[tuple[str, int]]) -> None:
        """Counters in microseconds as read at ``read_t``; the same reading again changes nothing.

        They are read less often than the rest, so a step belongs to the time between readings.
        """
        last = self._last
        if not counters_us or (last is not None and read_t <= last[0]):
            if last is None or now - last[0] > GAP_S:
                self.share = {}
            return
        counters = dict(counters_us)
        if last is not None and any(counters[n] < v for n, v in last[1].items() if n in counters):
            # The driver was loaded anew.
            last = None
        self._last = (read_t, counters)
        self.share = {}
        if last is not None:
            span_us = (read_t - last[0]) * 1e6
            self.share = {
                name: min(grown / span_us, 1.0) for name, grown in _growth(last[1], counters)
            }


def _growth(old: dict[str, int], new: dict[str, int]) -> list[tuple[str, int]]:
    return [(name, v - old[name]) for name, v in new.items() if name in old and v > old[name]]


@dataclass(slots=True)
class Spell:
    """One time in the low-power state: when it was first and last seen, seconds of the epoch."""

    begin_wall: float
    last_wall: float


_LOOKS = 10
_HITS = 8
_APART_S = 30.0
_UNSEEN_S = 600.0
_SPELLS = 200


@dataclass(slots=True)
class LowPower:
    """The low-power fault over time. It is invisible while idle, so an idle GPU changes nothing.

    Seen in 8 of 10 looks it is there; 8 looks at a busy and healthy GPU, or ten minutes in which
    nothing was seen of it, end it. Spells less than half a minute apart are one: three machines
    fell into it for 5 to 10 minutes each half hour (reported by dredyson.com).
    """

    there: bool = False
    spells: list[Spell] = field(default_factory=list)
    _looks: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=_LOOKS))
    _well: int = 0
    _last_t: float = float("-inf")

    def take(self, t: float, wall: float, low: bool | None) -> None:
        """One look: low, not low, or ``None`` where an idle or silent GPU tells nothing."""
        if t - self._last_t > GAP_S:
            self._looks.clear()
        self._last_t = t
        self._looks.append((wall, low is True))
        if low is not None:
            self._well = 0 if low else self._well + 1
        if not self.there:
            self._begin(wall)
            return
        spell = self.spells[-1]
        if low:
            spell.last_wall = wall
        elif self._well >= _HITS or wall - spell.last_wall > _UNSEEN_S:
            self.there = False

    def _begin(self, wall: float) -> None:
        seen = [when for when, low in self._looks if low]
        if len(seen) < _HITS:
            return
        self.there = True
        if self.spells and seen[0] - self.spells[-1].last_wall < _APART_S:
            self.spells[-1].last_wall = wall
            return
        self.spells.append(Spell(seen[0], wall))
        del self.spells[:-_SPELLS]

    def count(self, since_wall: float) -> int:
        """Spells that were seen since then."""
        return sum(1 for spell in self.spells if spell.last_wall >= since_wall)


@dataclass(slots=True)
class Energy:
    """Joules of decoding in the last ten minutes, with the tokens decoded.

    From the energy counter where there is one, else from power times time.
    """

    _points: deque[tuple[float, float, int]] = field(default_factory=lambda: deque(maxlen=600))
    _last: tuple[float | None, float | None] = (None, None)

    def take(
        self,
        t: float,
        energy_j: float | None,
        power_w: float | None,
        tokens: int,
        decoding: bool | None,
    ) -> None:
        """One reading. ``tokens`` counts what was decoded so far; ``decoding`` is ``None`` where it
        is not known whether this is decode: then all energy counts as its."""
        step = self._step(t, energy_j, power_w)
        self._last = (energy_j, power_w)
        if step is None or tokens < self._points[-1][2]:
            # Energy or tokens without the other would make a wrong quotient: begin anew.
            self._points.clear()
            self._points.append((t, 0.0, tokens))
            return
        spent_j = 0.0 if decoding is False else step
        self._points.append((t, self._points[-1][1] + spent_j, tokens))

    def _step(self, t: float, energy_j: float | None, power_w: float | None) -> float | None:
        if not self._points:
            return None
        span_s = t - self._points[-1][0]
        if not 0 < span_s <= GAP_S:
            return None
        old_j, old_w = self._last
        if energy_j is not None and old_j is not None:
            return energy_j - old_j if energy_j >= old_j else None
        if power_w is not None and old_w is not None:
            return (power_w + old_w) / 2 * span_s
        return None

    def per_token(self, least: int) -> float | None:
        """Joules per decoded token; ``None`` below ``least`` tokens."""
        if len(self._points) < 2:
            return None
        (_, first_j, first), (_, last_j, last) = self._points[0], self._points[-1]
        tokens = last - first
        return (last_j - first_j) / tokens if tokens >= least and last_j > first_j else None
