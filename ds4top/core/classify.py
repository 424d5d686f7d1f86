"""Whether a request was hot, cold or short, and why a cold one was cold."""

from __future__ import annotations

from enum import StrEnum

from ds4top.core.state import Request

SHORT_BELOW_TOKENS = 2_048
HOT_FROM_SHARE = 0.5
SHORTER_REASON = "incoming-prompt-shorter-than-live-checkpoint"


class Heat(StrEnum):
    """The classes of a request."""

    HOT = "hot"
    COLD = "cold"
    SHORT = "short"


class Cause(StrEnum):
    """Why a request was cold."""

    EVICTED = "evicted"
    FIRST_AFTER_START = "first_after_start"
    PARTIAL = "partial"
    NEW_PREFIX = "new_prefix"
    SHORTENED = "shortened"
    DIVERGED = "diverged"


CAUSE_WORDS = {
    Cause.EVICTED: "its checkpoint had been evicted from the disk cache",
    Cause.FIRST_AFTER_START: "the first request after a start",
    Cause.PARTIAL: "only a part of its prompt was in a cache",
    Cause.NEW_PREFIX: "a new conversation",
    Cause.SHORTENED: "its prompt got shorter (the client compacted it)",
    Cause.DIVERGED: "the client's history differs from what was cached",
}
"""Each cause in words."""


def heat_of(request: Request) -> Heat:
    """Short below 2,048 prompt tokens, else hot with half of them from memory or disk."""
    if request.prompt_tokens < SHORT_BELOW_TOKENS:
        return Heat.SHORT
    hot = request.cached_tokens >= HOT_FROM_SHARE * request.prompt_tokens
    return Heat.HOT if hot else Heat.COLD


def cold_cause(request: Request) -> Cause | None:
    """Why a cold request was cold: the first cause that fits; ``None`` for one that is not cold."""
    if heat_of(request) is not Heat.COLD:
        return None
    miss = request.miss
    fits = (
        (Cause.EVICTED, request.evicted_before),
        (Cause.FIRST_AFTER_START, request.first_of_life),
        (Cause.PARTIAL, request.cached_tokens > 0),
        (Cause.NEW_PREFIX, miss is None or miss.common_tokens < request.cache_min_tokens),
        (Cause.SHORTENED, miss is not None and miss.reason == SHORTER_REASON),
    )
    return next((cause for cause, fit in fits if fit), Cause.DIVERGED)


def divergence(request: Request) -> int | None:
    """The token after which a client's history differs from the live one.

    ``None`` without a live miss of its own, for a new conversation and for a shorter prompt.
    """
    miss = request.miss
    if miss is None or miss.reason == SHORTER_REASON:
        return None
    return miss.common_tokens if miss.common_tokens >= request.cache_min_tokens else None
