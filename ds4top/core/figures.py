"""The figures of a day, from what a log told: everything ``ds4top report`` prints.

Each figure is defined in the README so that it can be decided from the log alone. Unknown is
``None``, and ``Report.sources`` says why.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from math import floor

from ds4top.core.classify import Heat
from ds4top.core.fit import MIN_SAMPLES, DecodeLine, PrefillLine, decode_line, prefill_line
from ds4top.core.state import LogState
from ds4top.core.tally import CacheTally, Jump, RequestTally, Series, Tally, Window

DURATION_EDGES_S = (0.0, 5.0, 15.0, 60.0, 160.0)
FIRST_BUCKET_TOKENS = 1_024
_NEAR_TOKENS = 64


def percentile(ordered: Sequence[float], q: float) -> float | None:
    """The ``q`` quantile of rising values by linear interpolation at ``(n - 1) * q``."""
    if not ordered:
        return None
    position = (len(ordered) - 1) * q
    low = floor(position)
    share = position - low
    if not share:
        return ordered[low]
    return ordered[low] + share * (ordered[low + 1] - ordered[low])


@dataclass(frozen=True, slots=True)
class Bucket:
    """Rates whose context lies in ``[from_tokens, to_tokens)``."""

    from_tokens: int
    to_tokens: int
    samples: int
    median_tps: float
    p10_tps: float
    p90_tps: float


def bucket_of(context: int) -> tuple[int, int]:
    """The power-of-two bucket of a context; the first one is [0, 1024)."""
    if context < FIRST_BUCKET_TOKENS:
        return 0, FIRST_BUCKET_TOKENS
    low = 1 << (context.bit_length() - 1)
    return low, 2 * low


def by_context(contexts: Sequence[int], rates_tps: Sequence[float]) -> tuple[Bucket, ...]:
    """Rates by power-of-two buckets of context; buckets without a sample are left out."""
    groups: dict[int, array[float]] = {}
    first = FIRST_BUCKET_TOKENS.bit_length() - 1
    for context, tps in zip(contexts, rates_tps, strict=True):
        bits = max(context.bit_length() - 1, first - 1)
        group = groups.get(bits)
        if group is None:
            group = groups[bits] = array("d")
        group.append(tps)
    found = []
    for bits in sorted(groups):
        ordered = sorted(groups[bits])
        low, high = bucket_of(1 << bits)
        middle, p10, p90 = (percentile(ordered, q) or 0.0 for q in (0.5, 0.1, 0.9))
        found.append(Bucket(low, high, len(ordered), middle, p10, p90))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Bin:
    """Completed requests that took ``[from_s, to_s)``; ``to_s`` ``None``: and longer."""

    from_s: float
    to_s: float | None
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Speed:
    """How long the completed requests of one class took."""

    count: int
    median_s: float | None
    min_s: float | None
    max_s: float | None


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """The key-value cache. ``None`` seconds: too few prefill samples to price a hit."""

    disk_hits: int
    live_hits: int
    misses: int
    live_misses: int
    stores: int
    evictions: int
    miss_reasons: Mapping[str, int]
    store_reasons: Mapping[str, int]
    hit_tokens_median: float | None
    load_ms_median: float | None
    load_ms_max: float | None
    stored_bytes: int
    seconds_saved: float | None
    seconds_saved_live: float | None
    reused_tokens_live: int
    reused_tokens_disk: int


@dataclass(frozen=True, slots=True)
class SourceNote:
    """What one source gave or could not give: state ``ok`` or ``missing``, and why."""

    name: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the reader of the files knows: names, lines, the latest of their last stamps, notes."""

    paths: tuple[str, ...] = ()
    lines: int = 0
    unrecognised_lines: int = 0
    last_at: float | None = None
    notes: tuple[SourceNote, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Every figure of a report."""

    source: SourceFacts
    sources: tuple[SourceNote, ...]
    first_at: float | None
    last_at: float | None
    tz: tzinfo | None
    tally: Tally
    durations_s: Sequence[float]
    bins: tuple[Bin, ...]
    speed: Mapping[Heat, Speed]
    cache: CacheFigures
    decode: tuple[Bucket, ...]
    prefill: tuple[Bucket, ...]
    decode_fit: DecodeLine | None
    prefill_fit: PrefillLine | None

    @property
    def requests(self) -> RequestTally:
        """The counts of requests."""
        return self.tally.requests

    @property
    def jumps(self) -> list[Jump]:
        """The turns that added most, largest first."""
        return [jump for _, _, jump in sorted(self.requests.jumps, reverse=True)]

    @property
    def prompt_tokens_mean(self) -> float | None:
        """Mean prompt of all requests."""
        counts = self.requests
        return counts.prompt_tokens / counts.total if counts.total else None

    @property
    def reuse_ratio(self) -> float | None:
        """Share of all prompt tokens that came from a cache."""
        counts = self.requests
        return counts.cached_tokens / counts.prompt_tokens if counts.prompt_tokens else None


def cache_figures(tally: CacheTally, line: PrefillLine | None) -> CacheFigures:
    """Cache figures, with what the hits saved by a prefill line."""
    loads = sorted(tally.load_ms)
    disk_s = tally.disk.saved_s(line.a_s, line.b_s) if line else None
    live_s = tally.live.saved_s(line.a_s, line.b_s) if line else None
    return CacheFigures(
        disk_hits=tally.disk.count,
        live_hits=tally.live.count,
        misses=tally.misses,
        live_misses=tally.miss_reasons.total(),
        stores=tally.store_reasons.total(),
        evictions=tally.evictions,
        miss_reasons=dict(tally.miss_reasons),
        store_reasons=dict(tally.store_reasons),
        hit_tokens_median=percentile(sorted(tally.hit_tokens), 0.5),
        load_ms_median=percentile(loads, 0.5),
        load_ms_max=loads[-1] if loads else None,
        stored_bytes=tally.stored_bytes,
        seconds_saved=disk_s,
        seconds_saved_live=live_s,
        reused_tokens_live=tally.live.tokens,
        reused_tokens_disk=tally.disk.tokens,
    )


def _bins(ordered: Sequence[float]) -> tuple[Bin, ...]:
    edges = (*DURATION_EDGES_S, None)
    found = []
    for low, high in zip(DURATION_EDGES_S, edges[1:], strict=True):
        count = sum(1 for value in ordered if value >= low and (high is None or value < high))
        found.append(Bin(low, high, count, count / len(ordered) if ordered else 0.0))
    return tuple(found)


def _speed(durations: Iterable[float]) -> Speed:
    ordered = sorted(durations)
    if not ordered:
        return Speed(0, None, None, None)
    return Speed(len(ordered), percentile(ordered, 0.5), ordered[0], ordered[-1])


def _notes(
    state: LogState, tally: Tally, facts: SourceFacts, line: PrefillLine | None
) -> Iterable[SourceNote]:
    yield from facts.notes
    samples = len(tally.prefill.tps)
    too_few = f"needs {MIN_SAMPLES} prefill samples, the log has {samples}"
    one_place = "all prefill samples are at one context"
    pieces = facts.unrecognised_lines
    rows = (
        (state.first_at is None, "times", "no line of the log has a time stamp"),
        (
            tally.server.first_start_seen is False,
            "start",
            "the log begins after the start of the server: the settings of that life and which "
            "request was its first are not known",
        ),
        (pieces > 0, "unrecognised", f"pieces of the log of no known form: {pieces}"),
        (line is None, "seconds_saved", too_few if samples < MIN_SAMPLES else one_place),
        (not tally.requests.total, "requests", "no request begins in the log or the chosen time"),
        (
            True,
            "refused_requests",
            "the server does not log what it refuses (400, 404) nor the wait in its queue",
        ),
    )
    for missing, name, why in rows:
        if missing:
            yield SourceNote(name, "missing", why)


def assemble(
    tally: Tally, state: LogState, source: SourceFacts, tz: tzinfo | None = None
) -> Report:
    """The report of a finished tally."""
    counts = tally.requests
    durations = sorted(value for group in counts.durations.values() for value in group)
    prefill: Series = tally.prefill
    line = prefill_line(prefill.context, prefill.tps)
    return Report(
        source=source,
        sources=tuple(_notes(state, tally, source, line)),
        first_at=state.first_at,
        last_at=state.last_at if source.last_at is None else source.last_at,
        tz=tz,
        tally=tally,
        durations_s=durations,
        bins=_bins(durations),
        speed={heat: _speed(counts.durations[heat]) for heat in Heat},
        cache=cache_figures(tally.cache, line),
        decode=by_context(tally.decode.context, tally.decode.tps),
        prefill=by_context(prefill.context, prefill.tps),
        decode_fit=decode_line(tally.decode.context, tally.decode.tps),
        prefill_fit=line,
    )


def build(
    state: LogState,
    *,
    since: float | None = None,
    until: float | None = None,
    tz: tzinfo | None = None,
    source: SourceFacts | None = None,
) -> Report:
    """The report of all that a state holds; the state is not changed.

    ``since`` and ``until`` are seconds since the epoch: requests count by their prompt start,
    other lines by their stamp. ``tz`` ``None`` is this machine's zone.
    """
    tally = Tally(Window(since, until))
    tally.finish(state)
    return assemble(tally, state, source or SourceFacts(), tz)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Turns whose history differed after nearly the same token."""

    from_tokens: int
    to_tokens: int
    count: int


def divergences(diverged_at: Mapping[int, int]) -> list[Divergence]:
    """Places where clients' histories diverged, those within 64 tokens as one; most often first."""
    found: list[Divergence] = []
    for common in sorted(diverged_at):
        last = found[-1] if found else None
        count = diverged_at[common]
        if last is not None and common - last.to_tokens <= _NEAR_TOKENS:
            found[-1] = Divergence(last.from_tokens, common, last.count + count)
        else:
            found.append(Divergence(common, common, count))
    return sorted(found, key=lambda d: (-d.count, d.from_tokens))
