"""Prefill of one request: progress lines, keep-alives, and the checkpoints written on the way."""

from __future__ import annotations

import time

from ds4top.standin import grammar
from ds4top.standin.engine import Engine, Session
from ds4top.standin.faults import CUDA_LINE, CudaError
from ds4top.standin.grammar import Flags, Log, Span, Tint
from ds4top.standin.kvstore import KvStore
from ds4top.standin.lookup import Found, store_continued
from ds4top.standin.render import ASSISTANT, USER
from ds4top.standin.replies import Reply
from ds4top.standin.requests import Request
from ds4top.standin.text import TOKEN_BYTES

_KEEP_ALIVE_S = 5.0


class PrefillFailedError(Exception):
    """The GPU failed; the client has been told as far as it could be."""


def anchor_tokens(prompt: bytes) -> int:
    """Position of the last user turn before the first answer: all before it is a stable prefix."""
    first_answer = prompt.find(ASSISTANT.encode())
    head = prompt if first_answer < 0 else prompt[:first_answer]
    return max(0, head.rfind(USER.encode())) // TOKEN_BYTES


class PrefillRun:
    """Brings the session to the whole prompt."""

    def __init__(
        self,
        engine: Engine,
        log: Log,
        store: KvStore | None,
        calls: dict[str, bytes],
        session: Session,
        request: Request,
        found: Found,
        span: Span,
        flags: Flags,
        reply: Reply,
        started: float,
    ) -> None:
        """`started` is the monotonic time the seconds of its lines count from."""
        self._engine = engine
        self._log = log
        self._store = store
        self._calls = calls
        self._session = session
        self._request = request
        self._found = found
        self._span = span
        self._flags = flags
        self._reply = reply
        self._started = started
        self._last: tuple[int, float] | None = None
        self._last_alive = 0.0
        self.headers_sent = False
        self.stream_failed = False

    def run(self) -> None:
        """Prefill, with the cold save in between or after. Raises PrefillFailedError."""
        kind, total = self._request.kind, self._found.tokens
        self._log.server(grammar.prompt_start(kind, self._span, self._flags), Tint.PREFILL)
        cold = self._cold_tokens()
        previous = self._session.continued_last
        if self._is_continued_target(cold):
            self._session.continued_last = cold
        if 0 < cold < total:
            self._sync(cold)
            self._store_cold(cold, previous)
        self._sync(total)
        self._continued()
        elapsed = time.monotonic() - self._started
        line = grammar.prompt_done(kind, self._span, self._flags, elapsed)
        self._log.server(line, Tint.PREFILL)
        if cold and cold == total:
            self._store_cold(cold, previous)

    def _cold_tokens(self) -> int:
        """Length of the cold save; 0 where there is to be none."""
        if self._store is None or self._found.cached:
            return 0
        options, total = self._store.options, self._found.tokens
        if not (options.min_tokens <= total <= options.cold_max_tokens):
            return 0
        anchor = anchor_tokens(self._found.target)
        length = anchor if anchor >= options.min_tokens else options.boundary(total)
        return length if length >= options.min_tokens else 0

    def _is_continued_target(self, tokens: int) -> bool:
        step = self._store.options.step_tokens if self._store else 0
        return bool(tokens and step > 0 and tokens % step == 0)

    def _store_cold(self, tokens: int, previous: int) -> None:
        if self._store is None:
            return
        text = bytes(self._session.text)
        trimmed = self._found.tokens - tokens
        if self._store.store(
            text, tokens, "cold", self._engine.pace, trimmed=trimmed, calls=self._calls
        ):
            self._session.continued_last = max(tokens, self._session.continued_last)
        else:
            self._session.continued_last = previous

    def _sync(self, tokens: int) -> None:
        try:
            self._engine.prefill(self._session, self._found.target, tokens, self._progress)
        except CudaError as error:
            resumed = self._session.tokens > 0
            self._session.reset()
            self._log.engine(CUDA_LINE)
            words = "cuda prefill failed"
            if resumed:
                words = "cuda resumed prefill failed while extending checkpoint"
            self._tell(words)
            raise PrefillFailedError(words) from error

    def _tell(self, words: str) -> None:
        if not (self._request.stream and self.headers_sent):
            self._reply.wire.error(500, words)
            return
        what = None
        if self.stream_failed:
            what = f"prefill failed after stream closed: {words}"
        elif not self._reply.failure_event(words):
            what = f"prefill SSE error failed: {words}"
        if what is not None:
            line = grammar.stream_event(self._request.kind, self._span, self._flags, what)
            self._log.server(line, Tint.DECODE)

    def _progress(self, position: int) -> None:
        now = time.monotonic()
        self._keep_alive(now)
        cached, total = self._span.start, self._span.end - self._span.start
        if self._last is None or position != self._last[0]:
            elapsed = now - self._started
            chunk_tps = 0.0
            if self._last is not None and now > self._last[1]:
                chunk_tps = max(0, position - self._last[0]) / (now - self._last[1])
            done = min(max(0, position - cached), total)
            line = grammar.prefill_chunk(
                self._request.kind,
                self._span,
                self._flags,
                done,
                total,
                chunk_tps,
                done / elapsed if elapsed > 0 else 0.0,
                elapsed,
            )
            self._last = (position, now)
            self._log.server(line, Tint.PREFILL)
        if position > cached:
            self._continued()

    def _keep_alive(self, now: float) -> None:
        if not self._request.stream or self.stream_failed:
            return
        if not self.headers_sent:
            self.headers_sent = True
            self.stream_failed = not self._reply.wire.stream_headers()
            self._last_alive = now
        elif now - self._last_alive >= _KEEP_ALIVE_S / self._engine.pace.speed:
            self.stream_failed = not self._reply.wire.send(b": prefill\n\n")
            self._last_alive = now

    def _continued(self) -> None:
        store_continued(self._session, self._store, self._engine.pace, self._calls)
