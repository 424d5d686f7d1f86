"""Running sums over what a log told, so that a long log needs little memory.

A ``Tally`` takes requests, cache events and samples out of a ``LogState`` as they come. What stays
is a few numbers a request and two a sample; the figures are made of it at the end.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from itertools import zip_longest
from typing import Protocol, TypeVar

from ds4top.core.classify import Heat, cold_cause, divergence, heat_of
from ds4top.core.events import KvEvicted, KvHit, KvStored, LiveMiss
from ds4top.core.shelf import Item, Shelf
from ds4top.core.state import End, Life, LogState, Request, Samples

_JUMPS_KEPT = 10
_MICRO = 1_000_000
RequestSink = Callable[[Request], None]


class _Stamped(Protocol):
    @property
    def at(self) -> float | None: ...


Line = TypeVar("Line", bound=_Stamped)


@dataclass(slots=True)
class Window:
    """Which part of a log counts: ``since`` and ``until`` in seconds since the epoch.

    A line without any time counts only where no bound is set.
    """

    since: float | None = None
    until: float | None = None

    @property
    def whole(self) -> bool:
        """Whether everything counts."""
        return self.since is None and self.until is None

    def has(self, at: float | None) -> bool:
        """Whether this time is inside: from ``since`` on, before ``until``."""
        if self.since is None and self.until is None:
            return True
        if at is None or (self.since is not None and at < self.since):
            return False
        return self.until is None or at < self.until

    def of(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The lines inside."""
        if self.whole:
            return iter(lines)
        return (line for line in lines if self.has(line.at))


@dataclass(slots=True)
class Series:
    """Rates against context."""

    context: array[int] = field(default_factory=lambda: array("q"))
    tps: array[float] = field(default_factory=lambda: array("d"))

    def take(self, samples: Samples, window: Window) -> None:
        """Add the samples inside the window."""
        if window.whole:
            self.context.extend(samples.context)
            self.tps.extend(samples.tps)
            return
        for context, tps, at in zip(samples.context, samples.tps, samples.at, strict=True):
            if window.has(at):
                self.context.append(context)
                self.tps.append(tps)


@dataclass(slots=True)
class Reuse:
    """Sums over hits, enough to price them by any prefill line: reused tokens and load times."""

    count: int = 0
    tokens: int = 0
    tokens_squared: int = 0
    load_ms: float = 0.0

    def add(self, tokens: int, load_ms: float = 0.0) -> None:
        """One more hit."""
        self.count += 1
        self.tokens += tokens
        self.tokens_squared += tokens * tokens
        self.load_ms += load_ms

    def saved_s(self, a_s: float, b_s: float) -> float:
        """Seconds of prefill that the hits saved, by a line ``a_s + b_s * context`` per token."""
        return a_s * self.tokens + b_s * self.tokens_squared / 2 - self.load_ms / 1000


@dataclass(slots=True)
class CacheTally:
    """The key-value cache: what was asked of it and what it answered."""

    live: Reuse = field(default_factory=Reuse)
    disk: Reuse = field(default_factory=Reuse)
    misses: int = 0
    evictions: int = 0
    miss_reasons: Counter[str] = field(default_factory=Counter)
    store_reasons: Counter[str] = field(default_factory=Counter)
    hit_tokens: array[float] = field(default_factory=lambda: array("d"))
    load_ms: array[float] = field(default_factory=lambda: array("d"))
    stored_micro_mib: int = 0

    @property
    def stored_bytes(self) -> int:
        """What was written, from the printed sizes in MiB, rounded once."""
        return (self.stored_micro_mib * 2 * (1 << 20) + _MICRO) // (2 * _MICRO)

    def take_request(self, request: Request) -> None:
        """Count where the prompt of one request came from."""
        if not request.cached_tokens:
            self.misses += 1
        elif request.hit is None:
            self.live.add(request.cached_tokens)

    def take_lines(
        self,
        disk_hits: Iterable[KvHit],
        stores: Iterable[KvStored],
        misses: Iterable[LiveMiss],
        evictions: Iterable[KvEvicted],
    ) -> None:
        """Count the cache's own lines."""
        for hit in disk_hits:
            self.disk.add(hit.tokens, hit.load_ms)
            self.hit_tokens.append(hit.tokens)
            self.load_ms.append(hit.load_ms)
        for store in stores:
            self.store_reasons[store.reason] += 1
            self.stored_micro_mib += round(store.size_mib * _MICRO)
        for miss in misses:
            self.miss_reasons[miss.reason] += 1
        self.evictions += sum(1 for _ in evictions)


@dataclass(slots=True)
class DayTally:
    """The cache since a time, counted as it comes: every request and every line once.

    So it stays exact though a live state lets old requests go.
    """

    since: float
    cache: CacheTally = field(default_factory=CacheTally)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    _missed: int = 0
    _open: list[Request] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)

    @property
    def missed(self) -> int:
        """Requests whose checkpoint had been evicted."""
        return self._missed + sum(request.evicted_before for request in self._open)

    def take(self, state: LogState) -> None:
        """Count what is new in a state, which is the same each time."""
        for request in self._new("requests", state.requests):
            if request.started_at is not None and request.started_at >= self.since:
                self.cache.take_request(request)
                self.prompt_tokens += request.prompt_tokens
                self.cached_tokens += request.cached_tokens
                # While it runs its cold checkpoint may still come.
                self._open.append(request)
        self._missed += sum(r.evicted_before for r in self._open if not r.is_open)
        self._open = [request for request in self._open if request.is_open]
        window = Window(self.since)
        self.cache.take_lines(
            window.of(self._new("disk hits", state.disk_hits)),
            window.of(self._new("stores", state.stores)),
            window.of(self._new("misses", state.misses)),
            window.of(self._new("evictions", state.evictions)),
        )

    def _new(self, name: str, history: Shelf[Item]) -> Iterator[Item]:
        seen, self._seen[name] = self._seen[name], history.total
        return history.after(seen)


@dataclass(frozen=True, slots=True)
class Jump:
    """A turn that added unusually many tokens."""

    at: float | None
    number: int
    added_tokens: int
    prompt_tokens: int


@dataclass(slots=True)
class RequestTally:
    """Requests by end, class and cause."""

    total: int = 0
    ends: Counter[End] = field(default_factory=Counter)
    apis: Counter[str] = field(default_factory=Counter)
    finish: Counter[str] = field(default_factory=Counter)
    with_tools: int = 0
    with_thinking: int = 0
    tool_calls: int = 0
    prompt_tokens: int = 0
    prompt_max: int | None = None
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    generated_tokens: int = 0
    durations: dict[Heat, array[float]] = field(
        default_factory=lambda: {heat: array("d") for heat in Heat}
    )
    cold_causes: Counter[str] = field(default_factory=Counter)
    jumps: list[tuple[int, int, Jump]] = field(default_factory=list)
    jump_count: int = 0
    diverged_at: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def take(self, request: Request) -> None:
        """Count one request."""
        self.total += 1
        self.ends[request.end] += 1
        self.apis[request.api] += 1
        self.with_tools += request.tools
        self.with_thinking += request.thinking
        self.prompt_tokens += request.prompt_tokens
        self.prompt_max = max(self.prompt_max or 0, request.prompt_tokens)
        self.cached_tokens += request.cached_tokens
        self.prefilled_tokens += request.new_tokens
        self.generated_tokens += request.generated_tokens
        if request.finish is not None:
            self.finish[request.finish] += 1
        if request.end is End.COMPLETED and request.duration_s is not None:
            heat = heat_of(request)
            self.durations[heat].append(request.duration_s)
            if heat is Heat.COLD:
                self.cold_causes[str(cold_cause(request))] += 1
        if request.end is End.FAILED:
            self.failures[request.error or "no finish line"] += 1
        if (common := divergence(request)) is not None:
            self.diverged_at[common] += 1
        if (added := request.jump_tokens) is not None:
            self.jump_count += 1
            jump = Jump(request.started_at, request.number, added, request.prompt_tokens)
            entry = (added, -request.number, jump)
            if len(self.jumps) < _JUMPS_KEPT:
                heappush(self.jumps, entry)
            else:
                heappushpop(self.jumps, entry)


@dataclass(slots=True)
class ServerTally:
    """Starts and stops, and what went wrong with them."""

    starts: int = 0
    failed_starts: int = 0
    clean_stops: int = 0
    unclean_stops: int = 0
    first_start_seen: bool | None = None
    failures: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)

    def take(self, state: LogState, window: Window) -> None:
        """Count every life and every refused second instance."""
        lives = state.lives
        if lives:
            self.first_start_seen = lives[0].start_seen
        for life, successor in zip_longest(lives, lives[1:]):
            self._life(life, successor, stopped_cleanly(life, state), window)
        for at in state.refused_starts:
            if window.has(at):
                self.failed_starts += 1
                self.failures["another ds4 process was already running"] += 1

    def _life(self, life: Life, successor: Life | None, clean: bool, window: Window) -> None:
        if life.listened and window.has(_first(life.listening_at, life.begun_at)):
            self.starts += 1
        fatal = life.fatal
        begun = _first(fatal.at if fatal else None, life.begun_at)
        if not life.listened and life.start_seen and (fatal or successor) and window.has(begun):
            self.failed_starts += 1
            self.failures[fatal.text if fatal else "ended while loading, without a word"] += 1
        for words in (life.died, life.poisoned):
            if words and window.has(begun):
                self.deaths[words] += 1
        if clean:
            self.clean_stops += window.has(life.shutdown_at)
        elif life.listened and successor is not None:
            self.unclean_stops += window.has(_first(successor.begun_at, life.shutdown_at))


def _first(*times: float | None) -> float | None:
    return next((time for time in times if time is not None), None)


def stopped_cleanly(life: Life, state: LogState) -> bool:
    """Whether a life ended as it should: asked to, with no request open and its caches saved."""
    open_now = life is state.life and bool(state.open)
    unsaved = life.persist_open or life.persist_lost
    return life.shutdown and not (life.open_at_end or open_now or unsaved)


@dataclass(slots=True)
class Tally:
    """Everything a report counts. ``sink`` sees each request once, in the order they began."""

    window: Window = field(default_factory=Window)
    sink: RequestSink | None = None
    requests: RequestTally = field(default_factory=RequestTally)
    cache: CacheTally = field(default_factory=CacheTally)
    server: ServerTally = field(default_factory=ServerTally)
    decode: Series = field(default_factory=Series)
    prefill: Series = field(default_factory=Series)

    def finish(self, state: LogState) -> None:
        """Take all that the state holds, leave it as it is."""
        self._requests(state.requests)
        self._lines(state)
        self.server.take(state, self.window)

    def drain(self, state: LogState) -> None:
        """Take what can no longer change out of the state, and free it there."""
        requests = state.requests
        # The newest stays: a finish line may still follow after its client was lost.
        done = next((i for i, r in enumerate(requests) if r.is_open), len(requests))
        done = min(done, len(requests) - 1)
        if done > 0:
            self._requests(requests[:done])
            requests.drop(done)
        self._lines(state)
        state.stores.clear()
        state.hits.clear()
        state.disk_hits.clear()
        state.evictions.clear()
        state.misses.clear()
        state.tool_lines.clear()
        for samples in (state.decode, state.prefill):
            samples.dropped += len(samples)
            for column in (samples.context, samples.tps, samples.at, samples.request):
                del column[:]

    def _requests(self, requests: Iterable[Request]) -> None:
        for request in requests:
            if self.window.has(request.started_at):
                self.requests.take(request)
                self.cache.take_request(request)
                if self.sink is not None:
                    self.sink(request)

    def _lines(self, state: LogState) -> None:
        of = self.window.of
        self.cache.take_lines(
            of(state.disk_hits), of(state.stores), of(state.misses), of(state.evictions)
        )
        self.requests.tool_calls += sum(line.n for line in self.window.of(state.tool_lines))
        self.decode.take(state.decode, self.window)
        self.prefill.take(state.prefill, self.window)
