"""Which checkpoints the server deletes next, by its own policy (ds4_kvstore.c, by build).

Score of a file = (h + 1) · tokens ÷ file bytes, where h = hits · 2^(−age ÷ 6 h), 0 below 0.01; the
age counts from the last use, else from the creation. The lowest goes first, of two equal ones the
less recently used, of two equal ones in that too the one that the directory lists first.

Since 2026-05-26 what was saved cold, at an evict or at a shutdown scores twice that, and a
continued one that the incoming checkpoint continues scores 0.05 + 0.45 · h ÷ (h + 1) of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ds4top.core.kvfile import ABI, AUGUST_2026, MAY_2026, Build, KvEntry

HALF_LIFE_S = 21_600.0
_LEAST_HITS = 0.01
_SINCE_JUNE = frozenset(("--prefill-chunk", "--ssd-streaming", "--batched-session", "--max-queue"))
_ANCHORS = frozenset(("cold", "evict", "shutdown"))
_SUPERSEDED_LEAST = 0.05
_SUPERSEDED_BY_HITS = 0.45


@dataclass(frozen=True, slots=True)
class Victim:
    """A file on its way out. ``freed_bytes``: with those before it."""

    entry: KvEntry
    score: float
    freed_bytes: int


def build_of(entries: Iterable[KvEntry]) -> Build | None:
    """The build that last saved here, inferred from the ABI of the newest file; else ``None``."""
    dated = [(entry.created_at, entry) for entry in entries if entry.created_at is not None]
    if not dated:
        return None
    newest = max(dated, key=lambda pair: pair[0])[1]
    return AUGUST_2026 if newest.abi == ABI else MAY_2026


def build_by_flags(names: Collection[str]) -> Build | None:
    """The build by the options that its help lists; ``None`` where they do not tell.

    Those named here came after the change of 2026-05-26; a help without them tells nothing.
    """
    return AUGUST_2026 if _SINCE_JUNE & frozenset(names) else None


def live_hits(entry: KvEntry, now_s: float) -> float:
    """Hits as they count at epoch ``now_s``: halved for every six hours without use."""
    used_at = entry.last_used_at or entry.created_at
    if used_at is None:
        return 0.0
    # The server reads a clock of whole seconds, and a file from the future has no age.
    age_s = max(0, int(now_s) - used_at)
    if age_s == 0:
        return float(entry.hits)
    # Beyond this the power is 0 in any float, and the division must not overflow.
    hits = entry.hits * 2.0 ** -min(age_s / HALF_LIFE_S, 1_000.0)
    return hits if hits >= _LEAST_HITS else 0.0


def score(entry: KvEntry, now_s: float, build: Build, *, superseded: bool = False) -> float:
    """Worth of a file to the server; ``superseded``: the incoming text continues this one's.

    Only the server knows the incoming text, so that is for the caller to say where it can.
    """
    if entry.file_bytes <= 0:
        return 0.0
    hits = live_hits(entry, now_s)
    worth = (hits + 1.0) * entry.tokens / entry.file_bytes
    if entry.reason in _ANCHORS:
        worth *= build.anchor_factor
    if superseded and build.reserve and entry.reason == "continued":
        worth *= _SUPERSEDED_LEAST + _SUPERSEDED_BY_HITS * hits / (hits + 1.0)
    return worth


def order(
    entries: Iterable[KvEntry], now_s: float, build: Build, superseded: Collection[str] = ()
) -> tuple[Victim, ...]:
    """All files in the order in which they would go, from the next one on.

    ``superseded``: keys of continued files that the incoming text continues.
    """
    # No score depends on what else is there, so the server's repeated search for the lowest is
    # one sort; it is stable, as the search is.
    scored = sorted(
        (
            (score(entry, now_s, build, superseded=entry.key in superseded), entry)
            for entry in entries
            if build.sees(entry)
        ),
        key=lambda pair: (pair[0], pair[1].last_used_at or 0),
    )
    victims: list[Victim] = []
    freed = 0
    for worth, entry in scored:
        freed += entry.file_bytes
        victims.append(Victim(entry, worth, freed))
    return tuple(victims)


def is_saved(incoming_bytes: int, budget_bytes: int) -> bool:
    """Whether a save is made at all: it and 1 % on top must fit into the budget."""
    return incoming_bytes + -(-incoming_bytes // 100) <= budget_bytes


def going(
    ranked: Sequence[Victim], used_bytes: int, budget_bytes: int, incoming_bytes: int = 0
) -> int:
    """How many of these, from the first on, a save of ``incoming_bytes`` deletes; with 0, a start
    under this budget. None where the save is not made.
    """
    if not is_saved(incoming_bytes, budget_bytes):
        return 0
    excess = used_bytes + incoming_bytes - budget_bytes
    return sum(one.freed_bytes - one.entry.file_bytes < excess for one in ranked)
