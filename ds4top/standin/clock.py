"""Simulated time: durations are given as a Spark would take them and last 1/speed of that."""

from __future__ import annotations

import random
import time


class Pace:
    """Waits for simulated durations without drifting: what one wait overslept, the next makes up.

    One instance a thread. `speed` is how many times faster than a Spark time runs.
    """

    _SLACK_S = 0.05
    _SHORTEST_S = 0.0004

    def __init__(self, speed: float, seed: int) -> None:
        """Seeded, so that the jitter is the same each time."""
        self.speed = speed
        self._random = random.Random(seed)
        self._due = 0.0

    def jitter(self) -> float:
        """A factor of 1 ± 3 %."""
        return 1.0 + self._random.uniform(-0.03, 0.03)

    def begin(self) -> None:
        """Start a new stretch of work: what was overslept before is not made up."""
        self._due = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Let simulated seconds pass."""
        now = time.monotonic()
        start = self._due if now - self._due < self._SLACK_S else now
        self._due = start + seconds / self.speed
        left = self._due - now
        if left > self._SHORTEST_S:
            time.sleep(left)  # the work that the real server would do in that time
