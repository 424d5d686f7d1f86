"""What the server is doing, as far as its log can tell, and what is worth saying about it.

Pure functions of the log's state and a time. An open request in a log that no longer grows is
"last known", with its age; it is never shown as decoding now.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ds4top.core import events as ev
from ds4top.core.state import Life, LogState, Phase, Request

QUIET_DECODE_S = 30.0
"""Decode lines come every 50 tokens, up to 10 s apart; three of them missing is silence."""
QUIET_PREFILL_S = 120.0
"""Nothing is logged during one chunk (up to 4,096 tokens) nor during a save inside it."""
QUIET_LOAD_S = 900.0
"""Loading through page faults takes 7 minutes and may print nothing for most of it."""


class ServerState(StrEnum):
    """States of a server, as in the machine-readable status."""

    LOADING = "loading"
    IDLE = "idle"
    LOOKUP = "lookup"
    PREFILL = "prefill"
    DECODE = "decode"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"
    POISONED = "poisoned"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Status:
    """State, since when, and if it is only what was last heard, how long ago (seconds)."""

    state: ServerState
    since: float | None = None
    quiet_s: float | None = None
    last_known: bool = False
    why: str = ""


def status_of(log: LogState, now: float) -> Status:
    """The server's state at wall time ``now`` from the log alone."""
    life = log.life
    if life is None:
        why = "no line of a server yet" if log.heard_at is None else "only lines that tell no state"
        return Status(ServerState.UNKNOWN, why=why)
    heard = log.heard_at
    quiet = max(0.0, now - heard) if heard is not None else None
    if life.fatal is not None and not life.listened:
        return Status(ServerState.FAILED, log.last_at, quiet, why=reason_of(life.fatal))
    if life.died:
        return Status(ServerState.STOPPED, log.last_at, quiet, why=life.died)
    request = log.running
    if life.shutdown:
        if request is None and not life.persist_open and (life.persisted or life.disk is None):
            return Status(ServerState.STOPPED, log.last_at, quiet, why="clean stop")
        return _quietly(ServerState.DRAINING, life.shutdown_at, quiet, QUIET_PREFILL_S * 5)
    if life.poisoned and request is None:
        return Status(ServerState.POISONED, log.last_at, quiet, why=life.poisoned)
    if request is not None:
        return _request_status(log, life, request, quiet)
    if log.lookup_at is not None:
        return _quietly(ServerState.LOOKUP, log.lookup_at, quiet, QUIET_PREFILL_S)
    if life.listened or life.served:
        last = log.last_request
        since = (
            last.ended_at if last is not None and last.life == life.number else life.listening_at
        )
        return Status(ServerState.IDLE, since, quiet)
    return _quietly(ServerState.LOADING, life.begun_at, quiet, QUIET_LOAD_S)


def _request_status(log: LogState, life: Life, request: Request, quiet: float | None) -> Status:
    if request.phase is Phase.PREFILL:
        rate = request.prefill_tps
        chunk = life.buffers.prefill_chunk if life.buffers else 4096
        limit = max(QUIET_PREFILL_S, 4 * max(chunk, 512) / rate if rate else 0.0)
        return _quietly(ServerState.PREFILL, request.started_at, quiet, limit)
    return _quietly(ServerState.DECODE, request.started_at, quiet, QUIET_DECODE_S)


def _quietly(state: ServerState, since: float | None, quiet: float | None, limit: float) -> Status:
    return Status(state, since, quiet, last_known=quiet is not None and quiet > limit)


_REASONS = {
    "unknown_option": "unknown option {0}: this build does not have it; see ds4-server --help",
    "missing_value": "option {0} has no value",
    "invalid_value": "bad value: {0}",
    "chdir_failed": "cannot enter {0}",
    "trace_file": "cannot write the trace file {0}",
    "port_in_use": "port in use: {0}; find who holds it with: ss -ltnp",
    "listen_failed": "cannot listen on {0}; --host takes an IPv4 address or localhost",
    "session_failed": "no memory for the {0} session: lower --ctx",
    "model_missing": "model not found: {0}",
    "model_too_small": "the model file is too small to be a GGUF",
    "model_not_gguf": "the model file is not a GGUF",
    "model_truncated": "the model file is cut short (a tensor lies outside it): download it again",
    "model_incomplete": "the model file lacks what this build needs",
    "model_version": "the model file has another GGUF version",
    "model_too_large": "the model is larger than this path allows: {0}",
    "backend_missing": "this build has no {0} backend",
    "backend_failed": "the {0} backend could not start",
    "weights_failed": "the weights could not be placed on the GPU: {0}",
    "lock_failed": "the lock file cannot be used: {0}",
    "out_of_memory": "out of memory",
}


def reason_of(fatal: ev.StartFatal) -> str:
    """A failed start in words, with what mends it where one thing does."""
    template = _REASONS.get(fatal.reason)
    return template.format(fatal.detail) if template else fatal.text


def repeated_divergence(log: LogState) -> tuple[int, int] | None:
    """Token and count where the last prompts kept differing from memory near one place.

    Only divergence well inside a conversation counts; three of the last ten within 5 %.
    """
    life = log.life
    floor = life.disk.min_tokens if life and life.disk else 512
    places = sorted(
        miss.common_tokens
        for miss in log.misses[-10:]
        if miss.reason == "token-mismatch"
        and floor <= miss.common_tokens < 0.9 * min(miss.live_tokens, miss.prompt_tokens)
    )
    best: tuple[int, int] | None = None
    for index, place in enumerate(places):
        near = sum(1 for other in places[index:] if other - place <= max(64, place * 0.05))
        if near >= 3 and (best is None or near > best[1]):
            best = (place, near)
    return best
