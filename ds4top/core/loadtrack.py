"""How the weights of a server that starts come in: bytes over wall time. Pure; time is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ds4top.core.memtrack import Series
from ds4top.core.target import Target

WINDOW_S = 10.0
BY_LOG, BY_NVML, BY_RSS, BY_CACHE, BY_IO = (
    "its log", "NVML", "its mapped pages", "page cache", "what it read",
)  # fmt: skip
"""Who tells how much is loaded."""


_AHEAD = 1.25
"""So far ahead another source knows more; nearer it is only earlier. The log's lines are rare:
whoever is ahead of them takes their place."""


@dataclass(slots=True)
class LoadTrack:
    """One load: begins anew with another process. ``source`` tells the largest figure."""

    target: Target | None = None
    done_bytes: int | None = None
    source: str = ""
    begun_wall: float | None = None
    points: Series = field(default_factory=lambda: Series(2 * WINDOW_S))

    def take(self, wall: float, target: Target, told: Iterable[tuple[str, int | None]]) -> None:
        """One look. What is loaded does not get less: a counter that falls told something else."""
        if target != self.target:
            self.target, self.begun_wall = target, wall
            self.done_bytes, self.source, self.points = None, "", Series(2 * WINDOW_S)
        known = {source: size for source, size in told if size is not None}
        if not known:
            return
        best = max(known, key=known.__getitem__)
        own = known.get(self.source)
        ahead = 1.0 if self.source == BY_LOG else _AHEAD
        if own is None or known[best] > ahead * own:
            self.source, own = best, known[best]
        self.done_bytes = max(own, self.done_bytes or 0)
        self.points.add(wall, self.done_bytes)

    def bytes_per_s(self) -> float | None:
        """Of the last ten seconds; by the log, whose lines come 16 GiB apart, the mean so far."""
        if self.source != BY_LOG:
            return self.points.slope(WINDOW_S)
        if self.begun_wall is None or not self.points.t or self.done_bytes is None:
            return None
        passed = self.points.t[-1] - self.begun_wall
        return self.done_bytes / passed if passed >= WINDOW_S / 2 else None
