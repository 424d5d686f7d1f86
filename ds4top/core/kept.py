"""What earlier runs of ds4top have kept of this machine, read back. Plain values; times epoch.

``last_starts`` puts the starts of the log beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ds4top.core.machine import log_residency
from ds4top.core.memory import Residency
from ds4top.core.state import Life, LogState


@dataclass(frozen=True, slots=True)
class PastStart:
    """A start that came up: how weights were held, seconds to load, when (epoch seconds)."""

    residency: str
    load_s: float
    at: float


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the past; ``at`` epoch seconds."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class PastPrompts:
    """Requests of the last days: how many, mean prompt, most that one had to prefill, and how many
    were cold because their checkpoint had been evicted."""

    count: int
    mean_tokens: float
    most_new_tokens: int
    evicted: int


@dataclass(frozen=True, slots=True)
class Kept:
    """``starts`` newest first; ``decode``: time, context and tok/s of samples of the same machine,
    build, model and residency, oldest first; ``minima``: headroom by the minute of the last day.
    """

    starts: tuple[PastStart, ...] = ()
    decode: tuple[tuple[float, int, float], ...] = ()
    minima: tuple[tuple[float, int], ...] = ()
    events: tuple[PastEvent, ...] = ()
    prompts: PastPrompts | None = None
    alerts: tuple[PastEvent, ...] = ()


NOTHING_KEPT = Kept()


def start_s(life: Life | None, started_wall: float | None = None) -> float | None:
    """Seconds that a start took: by its lines, else from the begin of its process to listening."""
    if life is None:
        return None
    if life.load_s is not None:
        return life.load_s
    if started_wall is None or life.listening_at is None:
        return None
    # Stamps are whole seconds; what lies further before is another life's.
    took_s = life.listening_at - started_wall
    return max(took_s, 0.0) if -2.0 < took_s < _LONGEST_S else None


_LONGEST_S = 7200.0


def last_starts(log: LogState, starts: Iterable[PastStart]) -> Mapping[str, PastStart]:
    """The newest start that came up by residency, of the log and of what was kept."""
    found: dict[str, PastStart] = {}
    own = [
        PastStart(held.value, life.load_s, life.listening_at)
        for life in log.lives
        if life.load_s is not None
        and life.listening_at is not None
        and (held := log_residency(life)) is not Residency.UNKNOWN
    ]
    for start in (*starts, *own):
        known = found.get(start.residency)
        if known is None or start.at >= known.at:
            found[start.residency] = start
    return found
