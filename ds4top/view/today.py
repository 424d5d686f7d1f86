"""The figures of today, across lives: what is new is added when the log's state changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ds4top.core.figures import CacheFigures, cache_figures
from ds4top.core.model import Model
from ds4top.core.state import LogState
from ds4top.core.tally import DayTally
from ds4top.view.rates import RateBook


def midnight(model: Model) -> float:
    """The last local midnight, seconds since the epoch."""
    now = datetime.fromtimestamp(model.now, model.tz)
    return now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


@dataclass(frozen=True, slots=True)
class Today:
    """Cache and prompts since midnight; ``missed`` evicted prefixes were asked for again."""

    cache: CacheFigures
    prompt_tokens: int
    reused_tokens: int
    missed: int

    @property
    def hit_ratio(self) -> float | None:
        """Share of the requests that reused something."""
        hits = self.cache.disk_hits + self.cache.live_hits
        total = hits + self.cache.misses
        return hits / total if total else None

    @property
    def new_tokens(self) -> int:
        """Prompt tokens that were prefilled."""
        return self.prompt_tokens - self.reused_tokens


class TodayBook:
    """Keeps the last ``Today`` while nothing changed."""

    def __init__(self) -> None:
        self._log: LogState | None = None
        self._tally = DayTally(0.0)
        self._key: tuple[object, ...] = ()
        self._today: Today | None = None

    def today(self, model: Model, book: RateBook) -> Today:
        """The figures as of the model's time."""
        log, since = model.log, midnight(model)
        if log is not self._log or since != self._tally.since:
            self._log, self._tally, self._today = log, DayTally(since), None
        lines = (log.stores, log.hits, log.misses, log.evictions)
        key = (log.requests.total, *(each.total for each in lines), book.prefill)
        if self._today is None or key != self._key:
            self._key = key
            tally = self._tally
            tally.take(log)
            figures = cache_figures(tally.cache, book.prefill)
            self._today = Today(figures, tally.prompt_tokens, tally.cached_tokens, tally.missed)
        return self._today
