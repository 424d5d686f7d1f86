"""Where the beginning of a prompt comes from: the live state in memory, the disk, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass

from ds4top.standin import grammar, kvfile
from ds4top.standin.clock import Pace
from ds4top.standin.engine import Binding, Session
from ds4top.standin.grammar import Log, Tint
from ds4top.standin.kvstore import KvStore
from ds4top.standin.requests import Request
from ds4top.standin.text import TOKEN_BYTES, common_bytes, count_tokens


class StateGoneError(Exception):
    """The request only continues a state that is gone: status 409 with this message."""


@dataclass(frozen=True)
class Found:
    """The prompt as it will stand in the session: `cached` tokens of `tokens` are already there."""

    target: bytes
    tokens: int
    cached: int
    source: str
    lines: tuple[str, ...] = ()
    flags: int = 0


def _match(binding: Binding | None, session: Session) -> Binding | None:
    if binding is None or session.tokens == 0 or binding.tokens != session.tokens:
        return None
    return binding


def _sees(binding: Binding | None, prompt: bytes) -> bool:
    return (
        binding is not None
        and 0 < len(binding.visible) < len(prompt)
        and prompt.startswith(binding.visible)
    )


def _extend(session: Session, suffix: bytes, source: str) -> Found:
    total = session.tokens + count_tokens(suffix)
    return Found(bytes(session.text) + suffix, total, session.tokens, source)


def from_memory(request: Request, session: Session) -> Found | None:
    """Go on from the live state if the request allows it, with the line that says how."""
    prompt = request.prompt
    responses = _match(session.responses, session)
    if request.respproto and responses is not None:
        same = bool(request.live_ids) and set(request.live_ids) == set(responses.ids)
        found, match, ids = None, "", len(request.live_ids) if same else 0
        if _sees(responses, prompt):
            match = "visible-prefix"
            found = _extend(session, prompt[len(responses.visible) :], "responses-visible")
        elif same and request.live_suffix is not None:
            match = "tool-output-ids"
            found = _extend(session, request.live_suffix, "responses-tool-output")
        if found is not None:
            line = grammar.responses_continuation(match, ids, found.cached, found.tokens)
            return Found(found.target, found.tokens, found.cached, found.source, (line,))
    anthropic = _match(session.anthropic, session)
    if request.api == "messages" and anthropic is not None and request.live_suffix is not None:
        ids = len(request.live_ids)
        if ids and set(request.live_ids) == set(anthropic.ids):
            found = _extend(session, request.live_suffix, "anthropic-tool-output")
            line = grammar.anthropic_continuation(ids, found.cached, found.tokens)
            return Found(found.target, found.tokens, found.cached, found.source, (line,))
    if request.needs_live_state:
        name, what = ("Responses", "input") if request.respproto else ("Anthropic", "messages")
        full = f"full {what} history"
        raise StateGoneError(
            f"{name} continuation state is not available; retry by replaying the {full}"
        )
    if session.tokens and prompt.startswith(session.text):
        return _extend(session, prompt[len(session.text) :], "memory-text")
    thinking = _match(session.thinking, session)
    chats = request.kind == "chat" and not request.respproto
    if chats and thinking is not None and _sees(thinking, prompt):
        found = _extend(session, prompt[len(thinking.visible) :], "thinking-visible")
        line = grammar.thinking_continuation(found.cached, found.tokens)
        return Found(found.target, found.tokens, found.cached, found.source, (line,))
    return None


def log_miss(request: Request, session: Session, log: Log) -> None:
    """Say that the live state was of no use, and why."""
    if session.tokens == 0:
        return
    same = common_bytes(bytes(session.text), request.prompt)
    common = min(same // TOKEN_BYTES, session.tokens, request.prompt_tokens)
    reason = "token-mismatch"
    if same == len(request.prompt):
        common = request.prompt_tokens
        reason = "incoming-prompt-shorter-than-live-checkpoint"
    line = grammar.live_miss(
        request.respproto, session.tokens, request.prompt_tokens, common, reason
    )
    log.server(line, Tint.WARNING)


def store_live(
    session: Session, store: KvStore, reason: str, pace: Pace, calls: dict[str, bytes]
) -> bool:
    """Save the whole live state, under its visible text where part of it is hidden."""
    text, flags = bytes(session.text), 0
    for binding, flag in (
        (session.responses, kvfile.FLAG_RESPONSES_VISIBLE),
        (session.thinking, kvfile.FLAG_THINKING_VISIBLE),
    ):
        live = _match(binding, session)
        if live is not None and live.visible:
            text, flags = live.visible, flag
            break
    return store.store(text, session.tokens, reason, pace, flags=flags, calls=calls)


def store_continued(
    session: Session, store: KvStore | None, pace: Pace, calls: dict[str, bytes]
) -> None:
    """Save the live state where its length is a multiple of the step and beyond the last save."""
    if store is None:
        return
    step, tokens = store.options.step_tokens, session.tokens
    if step <= 0 or tokens < store.options.min_tokens or tokens % step:
        return
    if tokens > session.continued_last and store.store(
        bytes(session.text), tokens, "continued", pace, calls=calls
    ):
        session.continued_last = tokens


def from_disk(
    request: Request,
    session: Session,
    store: KvStore | None,
    pace: Pace,
    calls: dict[str, bytes],
) -> Found:
    """Save the old state, load the longest checkpoint, else begin at zero."""
    session.continued_last = 0
    prompt = request.prompt
    if store is not None:
        if session.tokens >= store.options.min_tokens:
            store_live(session, store, "evict", pace, calls)
        hit = store.load(prompt, pace, respproto=request.respproto)
        if hit is not None:
            session.restore(hit.text, hit.tokens)
            session.continued_last = hit.tokens
            found = _extend(session, prompt[len(hit.text) :], "disk-text")
            return Found(found.target, found.tokens, hit.tokens, found.source, (), hit.flags)
    session.reset()
    return Found(prompt, count_tokens(prompt), 0, "none")


def reasoning_line(request: Request, found: Found) -> str | None:
    """The warning for a replayed tool turn whose reasoning is nowhere."""
    kept = found.source in ("responses-visible", "responses-tool-output") or (
        found.source == "disk-text" and found.flags & kvfile.FLAG_RESPONSES_VISIBLE
    )
    if not request.respproto or not request.needs_live_reasoning or kept:
        return None
    return grammar.missing_reasoning(found.source, found.cached, found.tokens)
