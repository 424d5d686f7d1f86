"""Events of the log, one after the other, into the state. No clock, no I/O.

The rules for lives, requests and their ends are those of the report (its definitions stand in the
README). Model text can forge a whole line, so a line about a request counts for it only when it
names the request's own ``ctx=`` span, and a start-up line in mid-life begins nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Any

from ds4top.core import events as ev
from ds4top.core.reduce_lives import LifeReducer
from ds4top.core.state import DEFAULT_CACHE_MIN_TOKENS, End, LogState, Phase, Request, Samples

MIN_DECODE_INTERVAL_TOKENS = 10
"""Shorter decode intervals say nothing about speed."""
MIN_PREFILL_INTERVAL_TOKENS = 256
"""Shorter prefill chunks (alignment after a save) print meaningless rates."""
JUMP_TOKENS = 16_384
"""A turn that adds more than this is named."""
_NEAR_REQUESTS, _NEAR_LINES = 200, 20
"""So many of the newest stay unpacked, and requests keep their timelines."""


class Reducer(LifeReducer):
    """Owns one ``LogState`` and is the only one to change it."""

    def __init__(self, state: LogState) -> None:
        super().__init__(state)
        self._save_ms = 0.0
        self._continuation: str | None = None
        self._lookups: list[ev.LiveMiss] = []
        self._pending_hits: list[ev.KvHit] = []
        self._evicted: set[int] = set()
        self._chunk_done: dict[tuple[str, int, int, int], int] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.Decoding: self._decoding,
            ev.PrefillChunk: self._prefill_chunk,
            ev.PromptStart: self._prompt_start,
            ev.PromptDone: self._prompt_done,
            ev.Finish: self._finish,
            ev.StreamLost: self._stream_lost,
            ev.ToolCalls: self._tool_calls,
            ev.LiveMiss: self._live_miss,
            ev.Continuation: self._continued,
            ev.KvStored: self._stored,
            ev.KvHit: self._kv_hit,
            ev.KvEvicted: self._kv_evicted,
            ev.KvSkipped: self._persist_outcome,
            ev.KvStoreFailed: self._persist_outcome,
            ev.KvLoadFailed: self._ignored,
            ev.Persisting: self._persisting,
            ev.ContextBuffers: self._context_buffers,
            ev.KvDiskCache: self._disk_cache,
            ev.Listening: self._listening,
            ev.ShutdownRequested: self._shutdown,
            ev.BatchedMode: self._batched,
            ev.LifeBegin: self._life_begin,
            ev.LoadProgress: self._load_progress,
            ev.StartFatal: self._fatal,
            ev.AlreadyRunning: self._refused,
            ev.Note: self._note,
            ev.Unrecognised: self._unrecognised,
        }

    def apply(self, events: Iterable[ev.Event], heard_at: float | None = None) -> None:
        """Take events in order. ``heard_at``: wall time of arrival; ``None``: they are history."""
        state = self.state
        handlers = self._handlers
        self._heard = heard_at
        last = state.last_at
        for event in events:
            at = event.at
            if at is not None:
                if state.first_at is None:
                    state.first_at = at
                last = state.last_at = at
            handlers[type(event)](event)
        state.version += 1
        heard = heard_at if heard_at is not None else last
        if heard is not None:
            state.heard_at = heard
        if state.limit is not None:
            self._trim(state.limit)

    # lookups -------------------------------------------------------------------------------

    def _clear_lookup(self) -> None:
        self.state.lookup_at = None
        self._lookups.clear()
        self._pending_hits.clear()
        self._continuation = None
        self._save_ms = 0.0

    def _slot_of(self, position: int) -> list[Request]:
        """Open requests that the start of a lookup shows to be over."""
        state = self.state
        if self._life().sessions <= 1:
            return list(state.open)
        return [r for r in state.open if r.context_tokens and r.context_tokens == position]

    def _live_miss(self, e: ev.LiveMiss) -> None:
        state = self.state
        for request in self._slot_of(e.live_tokens):
            self._end(request, End.FAILED, None)
        if self._life().sessions <= 1:
            self._lookups.clear()
            self._pending_hits.clear()
        self._lookups.append(e)
        del self._lookups[:-16]
        state.misses.append(e)
        state.lookup_at = self._heard_of(e.at)
        self._save_ms = 0.0
        self._continuation = None

    def _continued(self, e: ev.Continuation) -> None:
        if self.state.lookup_at is None:
            for request in self._slot_of(e.cached_tokens):
                self._end(request, End.FAILED, None)
            self.state.lookup_at = self._heard_of(e.at)
        self._continuation = "replay" if e.replay else e.protocol

    def _kv_hit(self, e: ev.KvHit) -> None:
        self.state.hits.append(e)
        self._pending_hits.append(e)
        del self._pending_hits[:-16]
        if not self.state.open and self.state.lookup_at is None:
            self.state.lookup_at = self._heard_of(e.at)

    # requests ------------------------------------------------------------------------------

    def _prompt_start(self, e: ev.PromptStart) -> None:
        state = self.state
        life = self._life()
        batched = life.sessions > 1
        for request in self._slot_of(e.cached_tokens):
            self._end(request, End.FAILED, None)
        if batched and len(state.open) >= life.sessions:
            self._end(min(state.open, key=lambda r: r.heard_at or 0.0), End.FAILED, None)
        life.served = True
        life.requests += 1
        disk = life.disk
        heard = self._heard_of(e.at)
        request = Request(
            state.requests_dropped + len(state.requests) + 1, life.number, e.kind,
            e.cached_tokens, e.prompt_tokens, e.new_tokens,
            e.at if e.at is not None else state.last_at,
            disk.min_tokens if disk else DEFAULT_CACHE_MIN_TOKENS,
            life.start_seen and life.requests == 1,
        )  # fmt: skip
        request.heard_at = heard
        request.context_tokens = e.cached_tokens
        request.tools = "TOOLS" in e.flags
        request.responses = "RESPPROTO" in e.flags
        request.thinking = "THINKING" in e.flags
        for miss in self._lookups:
            if not batched or miss.prompt_tokens == e.prompt_tokens:
                request.miss = miss
        if request.miss is not None:
            self._lookups.remove(request.miss)
        for hit in self._pending_hits:
            if hit.tokens == e.cached_tokens:
                state.disk_hits.append(hit)
                request.hit = hit
        request.continuation = self._continuation
        request.evict_save_ms = self._save_ms
        request.jump_tokens = _jump(request)
        if not batched:
            self._clear_lookup()
        elif request.hit is not None:
            self._pending_hits.remove(request.hit)
        state.lookup_at = self._continuation = None
        self._save_ms = 0.0
        if state.limit is not None:
            request.marks = array("d")
        state.requests.append(request)
        state.open.append(request)
        key = (e.kind, e.cached_tokens, e.prompt_tokens, e.new_tokens)
        self._chunk_done.pop(key, None)

    def _of(self, kind: str, cached: int, prompt: int, new: int) -> Request | None:
        """The open request with this span."""
        for request in self.state.open:
            if (
                request.prompt_tokens == prompt
                and request.cached_tokens == cached
                and request.kind == kind
            ):
                return request
        return None

    def _end(self, request: Request, end: End, at: float | None) -> None:
        """End a request. What is not a completion after ``shutdown requested`` is interrupted."""
        if request.end is End.RUNNING or end is End.COMPLETED:
            if (
                end is not End.COMPLETED
                and self._life().shutdown
                and request.life == self._life().number
            ):
                end = End.INTERRUPTED
            request.end = end
        request.phase = Phase.OVER
        request.ended_at = at if at is not None else request.ended_at
        if request in self.state.open:
            self.state.open.remove(request)

    def _prefill_chunk(self, e: ev.PrefillChunk) -> None:
        state = self.state
        request = self._of(e.kind, e.cached_tokens, e.prompt_tokens, e.new_tokens)
        if e.rebuild:
            running = state.running
            if running is not None:
                running.phase = Phase.FINISHING
                running.heard_at = self._heard_of(e.at)
            return
        key = (e.kind, e.cached_tokens, e.prompt_tokens, e.new_tokens)
        before = self._chunk_done.get(key)
        if len(self._chunk_done) > 64:
            self._chunk_done.clear()
        self._chunk_done[key] = e.done_tokens
        position = e.cached_tokens + e.done_tokens
        if (
            before is not None
            and e.chunk_tps > 0
            and e.done_tokens - before >= MIN_PREFILL_INTERVAL_TOKENS
        ):
            self._sample(state.prefill, position, e.chunk_tps, e.at, request)
        if request is None:
            return
        request.thinking = request.thinking or "THINKING" in e.flags
        request.heard_at = self._heard_of(e.at)
        request.prefill_done_tokens = e.done_tokens
        request.prefill_elapsed_s = e.elapsed_s
        request.context_tokens = position
        if e.avg_tps > 0:
            request.prefill_tps = e.avg_tps
        request.mark(e.elapsed_s, "prefill", position, e.chunk_tps)

    def _sample(
        self, series: Samples, position: int, tps: float, at: float | None, request: Request | None
    ) -> None:
        series.context.append(position)
        series.tps.append(tps)
        when = at if at is not None else self.state.last_at
        series.at.append(when if when is not None else 0.0)
        series.request.append(request.number if request else 0)

    def _prompt_done(self, e: ev.PromptDone) -> None:
        request = self._of(e.kind, e.cached_tokens, e.prompt_tokens, e.new_tokens)
        if request is None:
            return
        request.thinking = request.thinking or "THINKING" in e.flags
        request.prompt_s = e.elapsed_s
        request.prefill_done_tokens = e.new_tokens
        request.context_tokens = e.prompt_tokens
        request.phase = Phase.DECODE
        request.heard_at = request.sample_at = self._heard_of(e.at)
        rate = e.new_tokens / e.elapsed_s if e.elapsed_s > 0 else 0.0
        request.mark(e.elapsed_s, "prompt done", e.prompt_tokens, rate)

    def _decoding(self, e: ev.Decoding) -> None:
        state = self.state
        found: Request | None = None
        for request in state.open:
            if request.kind == e.kind and (
                request.context_tokens == e.from_tokens
                if len(state.open) > 1
                else e.from_tokens >= request.prompt_tokens
            ):
                found = request
        if e.interval_tokens >= MIN_DECODE_INTERVAL_TOKENS:
            self._sample(state.decode, e.context_tokens, e.chunk_tps, e.at, found)
        if found is None:
            return
        found.heard_at = found.sample_at = self._heard_of(e.at)
        found.phase = Phase.DECODE
        found.context_tokens = e.context_tokens
        found.generated_tokens = e.generated_tokens
        found.decode_mean_tps = e.avg_tps
        if e.interval_tokens >= MIN_DECODE_INTERVAL_TOKENS or found.decode_tps is None:
            found.decode_tps = e.chunk_tps
        found.decode_samples += 1
        found.thinking_now = "THINKING" in e.flags
        found.thinking = found.thinking or found.thinking_now
        seconds = (found.prompt_s or 0.0) + e.elapsed_s
        found.mark(seconds, "decode", e.context_tokens, e.chunk_tps)

    def _finish(self, e: ev.Finish) -> None:
        request = self._of(e.kind, e.cached_tokens, e.prompt_tokens, e.new_tokens)
        if request is None:
            request = self._lost_one(e)
        if request is None:
            return
        request.finish, request.error, request.duration_s = e.finish, e.error, e.elapsed_s
        request.generated_tokens = e.generated_tokens
        request.heard_at = self._heard_of(e.at)
        if "THINKING" in e.flags:
            request.thinking = True
        if e.finish != "error":
            self._end(request, End.COMPLETED, e.at)
        elif request.lost or e.error in ("client stream write failed", "client disconnected"):
            self._end(request, End.ABORTED, e.at)
        else:
            self._end(request, End.FAILED, e.at)

    def _lost_one(self, e: ev.Finish) -> Request | None:
        """The last request, if its client was lost just before this finish line."""
        last = self.state.last_request
        if (
            last is not None
            and last.lost == "disconnected"
            and last.finish is None
            and (last.kind, last.cached_tokens, last.prompt_tokens)
            == (e.kind, e.cached_tokens, e.prompt_tokens)
        ):
            return last
        return None

    def _stream_lost(self, e: ev.StreamLost) -> None:
        request = self._of(e.kind, e.cached_tokens, e.prompt_tokens, e.new_tokens)
        if request is None:
            return
        request.thinking = request.thinking or "THINKING" in e.flags
        request.lost = e.cause
        request.heard_at = self._heard_of(e.at)
        if e.cause != "final_failed":
            request.error = e.text
            self._end(request, End.ABORTED, e.at)

    def _tool_calls(self, e: ev.ToolCalls) -> None:
        self.state.tool_lines.append(e)
        for request in self.state.open:
            if (request.cached_tokens, request.prompt_tokens) == (e.cached_tokens, e.prompt_tokens):
                request.tool_calls += e.n
                request.tool_names += e.names[:8]
                request.phase = Phase.FINISHING
                request.heard_at = self._heard_of(e.at)

    # disk cache ----------------------------------------------------------------------------

    def _stored(self, e: ev.KvStored) -> None:
        state = self.state
        state.stores.append(e)
        self._chunk_done.clear()
        if e.reason == "cold" and state.open:
            request = state.running if self._life().sessions > 1 else state.open[-1]
            if request is not None and e.tokens in self._evicted:
                request.evicted_before = True
        if e.reason == "evict" and state.lookup_at is not None:
            self._save_ms += e.save_ms
        self._evicted.discard(e.tokens)
        self._persist_outcome(e)

    def _kv_evicted(self, e: ev.KvEvicted) -> None:
        self.state.evictions.append(e)
        self._evicted.add(e.tokens)

    def _trim(self, limit: int) -> None:
        state = self.state
        state.decode.trim(limit * 10)
        state.prefill.trim(limit * 10)
        for history in (
            state.stores,
            state.hits,
            state.disk_hits,
            state.evictions,
            state.misses,
            state.tool_lines,
        ):
            history.settle(_NEAR_LINES)
            if len(history) > limit + limit // 8:
                history.drop(len(history) - limit)
        state.requests.settle(_NEAR_REQUESTS, lambda request: not request.is_open)
        if len(state.requests) > limit + limit // 8:
            state.requests.drop(len(state.requests) - limit)
        if len(state.lives) > 2_000:
            state.lives_dropped += len(state.lives) - 1_000
            del state.lives[:-1_000]


def _jump(request: Request) -> int | None:
    """Tokens that this turn added to a conversation, if they are unusually many."""
    miss = request.miss
    if request.cached_tokens:
        added = request.new_tokens
    elif miss is not None and 2 * miss.common_tokens >= miss.live_tokens:
        added = request.prompt_tokens - miss.live_tokens
    else:
        return None
    return added if added > JUMP_TOKENS else None
