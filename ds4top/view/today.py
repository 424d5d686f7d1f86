"""The figures of today, across lives: made anew only when the log's state changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ds4top.core.figures import CacheFigures, TurnFigures, kv_today, turns
from ds4top.core.model import Model
from ds4top.view.rates import RateBook


def midnight(model: Model) -> float:
    """The last local midnight, seconds since the epoch."""
    now = datetime.fromtimestamp(model.now, model.tz)
    return now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


@dataclass(frozen=True, slots=True)
class Today:
    """Cache and turns since midnight; ``missed`` evicted prefixes were asked for again."""

    cache: CacheFigures
    turns: TurnFigures
    missed: int

    @property
    def hit_ratio(self) -> float | None:
        """Share of the requests that reused something."""
        hits = self.cache.disk_hits + self.cache.live_hits
        total = hits + self.cache.misses
        return hits / total if total else None

    @property
    def reused_tokens(self) -> int:
        """Prompt tokens that came from memory or disk."""
        return self.turns.cached_tokens

    @property
    def new_tokens(self) -> int:
        """Prompt tokens that were prefilled."""
        return self.turns.prompt_tokens - self.turns.cached_tokens


class TodayBook:
    """Keeps the last ``Today`` while nothing changed."""

    def __init__(self) -> None:
        self._key: tuple[int, int, int, float] | None = None
        self._today: Today | None = None

    def today(self, model: Model, book: RateBook) -> Today:
        """The figures as of the model's time."""
        log = model.log
        since = midnight(model)
        key = (
            id(log),
            len(log.requests) + log.requests_dropped,
            len(log.stores) + len(log.hits),
            since,
        )
        if self._today is None or key != self._key:
            self._key = key
            missed = sum(
                1 for r in log.requests if r.evicted_before and (r.started_at or 0.0) >= since
            )
            self._today = Today(kv_today(log, since, book.prefill), turns(log, since), missed)
        return self._today
