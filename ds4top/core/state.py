"""What is known of a server from its log: lives, requests, samples, cache events.

The one mutable store of the log. It is changed only by ``core.reduce``, owned by one thread, and
read by figures and views. ``heard_at`` values are the wall-clock time at which a line arrived (its
own stamp for lines that were in the file already), so that a figure can show its age.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from operator import attrgetter
from typing import Any

from ds4top.core import events as ev
from ds4top.core.shelf import Packing, Rows, Shelf, shelf_of

DEFAULT_CACHE_MIN_TOKENS = 512
"""Smallest prompt the disk cache keeps where the log does not say (ds4_server.c default)."""


class End(StrEnum):
    """How a request ended; a request has exactly one end."""

    RUNNING = "running"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    ABORTED = "aborted"
    FAILED = "failed"


class Phase(StrEnum):
    """What a request is doing, or was when last heard of."""

    PREFILL = "prefill"
    DECODE = "decode"
    FINISHING = "finishing"
    OVER = "over"


@dataclass(slots=True, eq=False)
class Request:
    """One request from its ``prompt start`` line on. Tokens and seconds as the log prints them."""

    number: int
    life: int
    kind: str
    cached_tokens: int
    prompt_tokens: int
    new_tokens: int
    started_at: float | None
    cache_min_tokens: int
    first_of_life: bool
    responses: bool = False
    tools: bool = False
    thinking: bool = False
    thinking_now: bool = False
    phase: Phase = Phase.PREFILL
    heard_at: float | None = None
    sample_at: float | None = None
    prefill_done_tokens: int = 0
    prefill_tps: float | None = None
    prefill_elapsed_s: float = 0.0
    prompt_s: float | None = None
    context_tokens: int = 0
    generated_tokens: int = 0
    decode_tps: float | None = None
    decode_mean_tps: float | None = None
    decode_samples: int = 0
    finish: str | None = None
    error: str | None = None
    duration_s: float | None = None
    ended_at: float | None = None
    end: End = End.RUNNING
    lost: str | None = None
    tool_calls: int = 0
    tool_names: tuple[str, ...] = ()
    miss: ev.LiveMiss | None = None
    continuation: str | None = None
    hit: ev.KvHit | None = None
    evict_save_ms: float = 0.0
    evicted_before: bool = False
    jump_tokens: int | None = None
    marks: array[float] | None = None
    """The timeline, four figures a mark: see ``timeline``."""

    @property
    def api(self) -> str:
        """``responses``, ``chat`` or ``completion``; messages cannot be told from chat."""
        return "responses" if self.responses else self.kind

    @property
    def reuse_ratio(self) -> float | None:
        """Share of the prompt that came from a cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else None

    @property
    def ttft_s(self) -> float | None:
        """Time to first token as far as the log can tell: prefill, evict save and disk load.

        The wait in the queue is not in it.
        """
        if self.prompt_s is None:
            return None
        load_ms = self.hit.load_ms if self.hit else 0.0
        return self.prompt_s + (self.evict_save_ms + load_ms) / 1000

    @property
    def is_open(self) -> bool:
        """Whether no end is known yet."""
        return self.end is End.RUNNING

    def mark(self, seconds: float, what: str, context_tokens: int, tps: float) -> None:
        """One more mark of the timeline, where one is kept."""
        marks = self.marks
        if marks is not None and len(marks) < MOST_MARKS * _MARK_FIGURES:
            marks.extend((seconds, MARKS.index(what), context_tokens, tps))

    @property
    def timeline(self) -> list[tuple[float, str, int, float]]:
        """Seconds since its start, what there was, tokens of context, tok/s."""
        flat = iter(self.marks or ())
        rows = zip(flat, flat, flat, flat, strict=True)
        return [(seconds, MARKS[int(what)], int(at), tps) for seconds, what, at, tps in rows]


MARKS = ("prefill", "prompt done", "decode")
"""What a mark of a timeline tells of."""
MOST_MARKS = 400
_MARK_FIGURES = 4
_VALUES: attrgetter[tuple[Any, ...]] = attrgetter(*Request.__slots__)
_PHASE, _END, _MISS, _HIT, _MARKS = map(
    Request.__slots__.index, ("phase", "end", "miss", "hit", "marks")
)


def _rows(requests: Sequence[Request]) -> Iterator[tuple[Any, ...]]:
    for request in requests:
        values = list(_VALUES(request))
        values[_END] = request.end.value
        values[_PHASE] = values[_MARKS] = None
        for at in (_MISS, _HIT):
            values[at] = tuple(values[at]) if values[at] is not None else None
        yield tuple(values)


def _requests(rows: Rows) -> list[Request]:
    found = []
    for row in rows:
        values = list(row)
        values[_END], values[_PHASE] = End(values[_END]), Phase.OVER
        if values[_MISS] is not None:
            values[_MISS] = ev.LiveMiss(*values[_MISS])
        if values[_HIT] is not None:
            values[_HIT] = ev.KvHit(*values[_HIT])
        found.append(Request(*values))
    return found


REQUESTS = Packing(_rows, _requests)
"""How requests that are over are packed: without their timeline."""


@dataclass(slots=True, eq=False)
class Life:
    """One life of the server, from its first start-up line to the next life's."""

    number: int
    begun_at: float | None
    start_seen: bool
    engine_at: float | None = None
    """When its first engine line came, where that is known: such lines have no stamp."""
    rank: int = 0
    device: str | None = None
    sm: str | None = None
    oom_score_adj: int | None = None
    stages: list[ev.LoadProgress] = field(default_factory=list)
    stage_heard_at: float | None = None
    buffers: ev.ContextBuffers | None = None
    disk: ev.KvDiskCache | None = None
    plan: dict[str, str | int | float] = field(default_factory=dict)
    sessions: int = 1
    listened: bool = False
    listening_at: float | None = None
    url: str | None = None
    served: bool = False
    fatal: ev.StartFatal | None = None
    shutdown: bool = False
    shutdown_at: float | None = None
    persist_open: bool = False
    persist_lost: bool = False
    persisted: bool = False
    open_at_end: bool = False
    requests: int = 0
    warnings: dict[str, int] = field(default_factory=dict)
    poisoned: str | None = None
    died: str | None = None

    @property
    def load_s(self) -> float | None:
        """Seconds from the first engine line to ``listening``, where both times are known."""
        if self.engine_at is None or self.listening_at is None:
            return None
        took_s = self.listening_at - self.engine_at
        # Stamps are whole seconds; an engine line read only after that did not come then.
        return max(0.0, took_s) if took_s >= -1.0 else None

    @property
    def over(self) -> bool:
        """Whether a start-up line now begins another life."""
        return self.listened or self.served or self.shutdown or self.fatal is not None


@dataclass(slots=True)
class Samples:
    """Rates against context: parallel arrays of position, tok/s, wall time and request number."""

    context: array[int] = field(default_factory=lambda: array("q"))
    tps: array[float] = field(default_factory=lambda: array("d"))
    at: array[float] = field(default_factory=lambda: array("d"))
    request: array[int] = field(default_factory=lambda: array("q"))
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.tps)

    def trim(self, limit: int) -> None:
        """Keep the newest ``limit`` samples; done in steps, so that it costs little."""
        extra = len(self.tps) - limit
        if extra > max(64, limit // 8):
            for column in (self.context, self.tps, self.at, self.request):
                del column[:extra]
            self.dropped += extra


@dataclass(slots=True)
class LogState:
    """Everything the log told. ``limit`` bounds a live view's histories; ``None`` keeps all."""

    limit: int | None = None
    version: int = 0
    lives: list[Life] = field(default_factory=list)
    lives_dropped: int = 0
    refused_starts: list[float | None] = field(default_factory=list)
    requests: Shelf[Request] = field(default_factory=lambda: Shelf(REQUESTS))
    open: list[Request] = field(default_factory=list)
    lookup_at: float | None = None
    decode: Samples = field(default_factory=Samples)
    prefill: Samples = field(default_factory=Samples)
    stores: Shelf[ev.KvStored] = field(default_factory=partial(shelf_of, ev.KvStored))
    hits: Shelf[ev.KvHit] = field(default_factory=partial(shelf_of, ev.KvHit))
    disk_hits: Shelf[ev.KvHit] = field(default_factory=partial(shelf_of, ev.KvHit))
    evictions: Shelf[ev.KvEvicted] = field(default_factory=partial(shelf_of, ev.KvEvicted))
    misses: Shelf[ev.LiveMiss] = field(default_factory=partial(shelf_of, ev.LiveMiss))
    tool_lines: Shelf[ev.ToolCalls] = field(default_factory=partial(shelf_of, ev.ToolCalls))
    store_failed: ev.KvStoreFailed | None = None
    """The last save that failed."""
    unrecognised: deque[ev.Unrecognised] = field(default_factory=lambda: deque(maxlen=500))
    unrecognised_count: int = 0
    first_at: float | None = None
    last_at: float | None = None
    heard_at: float | None = None
    closed: bool = False

    @property
    def requests_dropped(self) -> int:
        """How many requests went before those that are kept."""
        return self.requests.dropped

    @property
    def life(self) -> Life | None:
        """The newest life, or ``None`` before any line told of one."""
        return self.lives[-1] if self.lives else None

    @property
    def running(self) -> Request | None:
        """The open request that was heard of last."""
        return max(self.open, key=lambda r: r.heard_at or 0.0) if self.open else None

    @property
    def last_request(self) -> Request | None:
        """The newest request."""
        return self.requests[-1] if self.requests else None
