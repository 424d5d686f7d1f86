"""One request from lookup to its finish line, in the order of the real worker."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ds4top.standin import grammar, lookup
from ds4top.standin.engine import Binding, CancelledError, Engine, Session
from ds4top.standin.faults import CUDA_LINE, CudaError, Faults
from ds4top.standin.grammar import Flags, Log, Span, Tint
from ds4top.standin.kvstore import KvStore
from ds4top.standin.plan import Script, junk_plan, write_script
from ds4top.standin.prefill import PrefillFailedError, PrefillRun
from ds4top.standin.profiles import Profile
from ds4top.standin.render import EOS, THINK, THINK_END, answer_suffix, dsml
from ds4top.standin.replies import Outcome, Reply, Usage, shown
from ds4top.standin.replies_responses import reply_for
from ds4top.standin.requests import Request
from ds4top.standin.trace import Trace
from ds4top.standin.wire import Wire

_LOG_EVERY = 50
_CALLS_KEPT = 400


@dataclass
class Shared:
    """What all workers of a server have in common."""

    profile: Profile
    log: Log
    store: KvStore | None
    faults: Faults
    trace: Trace | None
    stopping: Callable[[], bool]
    seed: int
    sequence: int = 0
    calls: dict[str, bytes] = field(default_factory=dict)

    def next_id(self, kind: str) -> str:
        """Id of a reply; one counter for both kinds."""
        self.sequence += 1
        return f"{'chatcmpl' if kind == 'chat' else 'cmpl'}-{self.sequence}"

    def remember(self, identifier: str, raw: bytes) -> None:
        """Keep the exact text of a call; the oldest go."""
        self.calls[identifier] = raw
        while len(self.calls) > _CALLS_KEPT:
            self.calls.pop(next(iter(self.calls)))


@dataclass
class _Decode:
    """State of the decode loop."""

    script: Script
    generated: int = 0
    logged: int = 0
    started: float = 0.0
    last_log: float = 0.0
    finish: str = "length"
    error: str = ""

    def reached(self, mark: int | None) -> bool:
        return mark is not None and self.generated >= mark

    def fail(self, error: str) -> None:
        self.finish, self.error = "error", error


class Generation:
    """One request on one session."""

    def __init__(
        self, shared: Shared, engine: Engine, session: Session, request: Request, wire: Wire
    ) -> None:
        """Nothing happens before `run`."""
        self._shared = shared
        self._log = shared.log
        self._engine = engine
        self._session = session
        self._request = request
        self._wire = wire
        digest = hashlib.sha256(request.prompt + shared.seed.to_bytes(8, "little")).digest()
        self._rng = random.Random(digest)
        self._flags = Flags(request.respproto, bool(request.tools))
        self._reply: Reply = reply_for(wire, request, self._rng)

    def run(self) -> None:
        """Serve the request; everything that goes wrong ends as it does in the server."""
        request, session = self._request, self._session
        self._shared.faults.request_started()
        try:
            found = lookup.from_memory(request, session)
        except lookup.StateGoneError as error:
            self._wire.error(409, str(error))
            return
        if found is None:
            lookup.log_miss(request, session, self._log)
            found = lookup.from_disk(
                request, session, self._shared.store, self._engine.pace, self._shared.calls
            )
        warning = lookup.reasoning_line(request, found)
        started = time.monotonic()
        trace = self._shared.trace
        number = trace.begin(request, found) if trace else 0
        for line in found.lines:
            self._log.server(line, Tint.PREFILL)
        if warning is not None:
            self._log.server(warning, Tint.WARNING)
        span = Span(found.cached, found.tokens)
        run = PrefillRun(
            self._engine,
            self._log,
            self._shared.store,
            self._shared.calls,
            session,
            request,
            found,
            span,
            self._flags,
            self._reply,
            started,
        )
        try:
            run.run()
        except PrefillFailedError:
            return
        except CancelledError:
            return
        self._drop_bindings(found.source)
        usage = Usage(found.tokens, found.cached, 0)
        identifier = self._shared.next_id(request.kind)
        if request.stream and not self._open_stream(run, span, identifier, usage):
            return
        decode = self._decode(span)
        self._finish(span, decode, identifier, started)
        if trace:
            trace.finish(number, decode.finish, decode.generated, time.monotonic() - started)

    def _drop_bindings(self, source: str) -> None:
        session = self._session
        if not source.startswith("responses-"):
            session.responses = None
        if source != "anthropic-tool-output":
            session.anthropic = None
        if source != "thinking-visible":
            session.thinking = None

    def _open_stream(self, run: PrefillRun, span: Span, identifier: str, usage: Usage) -> bool:
        words: str | None = None
        if run.stream_failed:
            words = "stream closed during prefill"
        elif not run.headers_sent and not self._wire.stream_headers():
            words = "sse headers failed"
        flags = self._flags
        if words is None:
            words = self._reply.begin(identifier, usage)
            if words is not None and not self._request.respproto:
                flags = Flags()
        if words is None:
            return True
        line = grammar.stream_event(self._request.kind, span, flags, words)
        self._log.server(line, Tint.DECODE)
        return False

    def _decode(self, span: Span) -> _Decode:
        request, session, engine = self._request, self._session, self._engine
        plan = request.plan or junk_plan(self._rng, request.thinks)
        prefix = "toolu_" if request.api == "messages" else "call_"
        script = write_script(
            plan,
            self._rng,
            thinks=request.thinks,
            tools=request.tools,
            call_prefix=prefix,
            stops=request.stops,
        )
        now = time.monotonic()
        state = _Decode(script, started=now, last_log=now)
        context = engine.limits.context_tokens
        limit = min(request.max_tokens, context - session.tokens)
        engine.begin_decode()
        while not self._shared.stopping() and state.generated < limit:
            if not state.reached(script.dsml_start):
                lookup.store_continued(session, self._shared.store, engine.pace, self._shared.calls)
            if state.generated >= script.tokens:
                state.finish = "stop"
                if script.stopped_at is not None:
                    session.reset()
                break
            try:
                engine.token(session.tokens)
            except CudaError:
                self._log.engine(CUDA_LINE)
                session.reset()
                state.fail("cuda decode failed")
                break
            at = state.generated * 4
            session.text += script.raw[at : at + 4]
            session.tokens += 1
            state.generated += 1
            if request.stream and not self._reply.advance(script, state.generated):
                state.fail("client stream write failed")
                break
            if state.generated % _LOG_EVERY == 0:
                self._log_decode(span, state)
            if state.reached(script.dsml_end):
                state.finish = "tool_calls"
                break
        if self._shared.stopping() and state.finish != "error":
            state.fail("shutdown requested")
        open_call = state.reached(script.dsml_start) and not state.reached(script.dsml_end)
        if open_call and state.finish != "error":
            state.fail("unterminated tool call")
        if state.generated > state.logged:
            self._log_decode(span, state)
        return state

    def _inside_thinking(self, state: _Decode) -> bool:
        return state.script.think_end is not None and not state.reached(state.script.think_end)

    def _decode_flags(self, state: _Decode) -> Flags:
        script = state.script
        return Flags(
            self._flags.respproto,
            self._flags.tools,
            self._inside_thinking(state),
            state.reached(script.dsml_start),
            state.reached(script.dsml_end),
        )

    def _log_decode(self, span: Span, state: _Decode) -> None:
        now = time.monotonic()
        step, passed = state.generated - state.logged, now - state.last_log
        elapsed = now - state.started
        line = grammar.decoding(
            self._request.kind,
            Span(span.end + state.logged, span.end + state.generated),
            state.generated,
            self._decode_flags(state),
            step / passed if passed > 0 else 0.0,
            state.generated / elapsed if elapsed > 0 else 0.0,
            elapsed,
        )
        self._log.server(line, Tint.DECODE)
        state.logged, state.last_log = state.generated, now
        self._engine.next_interval()

    def _finish(self, span: Span, state: _Decode, identifier: str, started: float) -> None:
        request, script = self._request, state.script
        done = state.reached(script.dsml_end)
        calls = script.calls if done else ()
        if calls:
            state.finish = "tool_calls"
            line = grammar.tool_calls(
                span,
                request.respproto,
                self._shared.profile.raw_tool_field,
                [call.id for call in calls],
                [call.name for call in calls],
            )
            for call in calls:
                self._shared.remember(call.id, dsml(calls).encode())
            self._log.server(line, Tint.TOOL)
        reasoning, content = shown(script, state.generated)
        usage = Usage(span.end, span.start, state.generated)
        outcome = Outcome(reasoning, content, calls, state.finish, usage)
        self._bind(span, state, outcome)
        if request.stream:
            if not self._reply.end(outcome):
                words = grammar.stream_event(request.kind, span, self._flags, "final stream failed")
                self._log.server(words)
        else:
            self._reply.whole(identifier, outcome)
        line = grammar.finish(
            request.kind,
            span,
            state.generated,
            self._decode_flags(state),
            state.finish,
            state.error,
            time.monotonic() - started,
        )
        self._log.server(line, Tint.DECODE)

    def _bind(self, span: Span, state: _Decode, outcome: Outcome) -> None:
        """Keep what lets the next request go on from this state."""
        request, session = self._request, self._session
        whole = state.finish not in ("error", "length")
        ids = tuple(call.id for call in outcome.calls)
        tokens = session.tokens
        session.responses = session.anthropic = None
        if request.respproto and whole:
            told = outcome.reasoning if request.reasoning_summary and ids else ""
            suffix = answer_suffix(request.thinks, told, outcome.content, outcome.calls)
            session.responses = Binding(tokens, request.prompt + suffix.encode(), ids)
        if request.api == "messages" and whole and ids:
            session.anthropic = Binding(tokens, b"", ids)
        session.thinking = None
        hidden = request.kind == "chat" and request.thinks and not request.keeps_reasoning
        if whole and hidden and not ids and not self._inside_thinking(state):
            head = request.prompt.removesuffix(THINK.encode())
            visible = head + f"{THINK_END}{outcome.content}{EOS}".encode()
            session.thinking = Binding(tokens, visible)
            line = grammar.thinking_remembered(span, tokens, len(visible))
            self._log.server(line, Tint.CACHE)
