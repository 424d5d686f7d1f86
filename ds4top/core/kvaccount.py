"""What the KV directory's entries are worth: order of eviction, hits, and what the next save costs.

Made of a directory sample and of the log; nothing here reads a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from ds4top.core.classify import divergence
from ds4top.core.events import KvHit
from ds4top.core.figures import Divergence, divergences
from ds4top.core.kvfile import HEAD_BYTES, KvDirSample, KvEntry, payload_bytes
from ds4top.core.kvpolicy import going, is_saved, order
from ds4top.core.state import LogState, Request

_REPEATED = 2


@dataclass(frozen=True, slots=True)
class KvLine:
    """An entry with its place. ``rank``: 1 is deleted first; ``goes``: the next save deletes it.

    ``hit_share`` is of all hits of the entries that are there. ``loads``, ``load_ms``: how often
    and how fast the log says it was read, the last time.
    """

    entry: KvEntry
    rank: int
    score: float
    freed_bytes: int
    goes: bool
    hit_share: float | None
    loads: int
    load_ms: float | None

    @property
    def used_at(self) -> int | None:
        """Epoch seconds of its last use, else of its creation."""
        return self.entry.last_used_at or self.entry.created_at


@dataclass(frozen=True, slots=True)
class KvAccount:
    """All entries in the order in which they go, and what a save of ``save_tokens`` does.

    ``save_bytes`` is by the formula of the file; ``too_big``: it exceeds the budget and is not
    saved at all. ``short_bytes``: by how much the disk is too small for the budget.
    """

    lines: tuple[KvLine, ...]
    hits: int
    hit_entries: int
    budget_bytes: int | None
    save_tokens: int | None
    save_bytes: int | None
    going: int
    going_bytes: int
    too_big: bool
    short_bytes: int | None

    @property
    def left_bytes(self) -> int | None:
        """What the budget still allows."""
        if self.budget_bytes is None:
            return None
        used = sum(line.entry.file_bytes for line in self.lines)
        return max(self.budget_bytes - used, 0)


def loads_of(hits: Iterable[KvHit]) -> dict[str, tuple[int, float]]:
    """Per file: how often the log says it was loaded, and the milliseconds of the last time."""
    found: dict[str, tuple[int, float]] = {}
    for hit in hits:
        name = hit.file.rpartition("/")[2]
        count, _ = found.get(name, (0, 0.0))
        found[name] = count + 1, hit.load_ms
    return found


def save_size(tokens: int) -> int:
    """Bytes of a checkpoint of so many tokens, without its text and tool map."""
    return HEAD_BYTES + payload_bytes(tokens)


def account(
    kv: KvDirSample,
    now_s: float,
    budget_bytes: int | None,
    save_tokens: int | None,
    loads: Mapping[str, tuple[int, float]],
) -> KvAccount:
    """The account as of ``now_s`` (epoch). ``save_tokens``: the context that would be saved."""
    ranked = order(kv.entries, now_s, kv.build)
    size = save_size(save_tokens) if save_tokens else None
    too_big = bool(size and budget_bytes is not None and not is_saved(size, budget_bytes))
    count = 0 if budget_bytes is None else going(ranked, kv.used_bytes, budget_bytes, size or 0)
    hits = sum(one.entry.hits for one in ranked)
    lines: list[KvLine] = []
    for rank, one in enumerate(ranked, 1):
        entry = one.entry
        loaded, load_ms = loads.get(entry.name, (0, None))
        share = entry.hits / hits if hits else None
        goes = rank <= count
        lines.append(KvLine(entry, rank, one.score, one.freed_bytes, goes, share, loaded, load_ms))
    short: int | None = None
    if budget_bytes is not None and kv.disk_free_bytes is not None:
        short = max(budget_bytes - kv.used_bytes - kv.disk_free_bytes, 0)
    return KvAccount(
        lines=tuple(lines),
        hits=hits,
        hit_entries=sum(1 for one in ranked if one.entry.hits),
        budget_bytes=budget_bytes,
        save_tokens=save_tokens,
        save_bytes=size,
        going=count,
        going_bytes=ranked[count - 1].freed_bytes if count else 0,
        too_big=too_big,
        short_bytes=short,
    )


def budget_of(kv: KvDirSample | None, log: LogState, told_bytes: int | None) -> int | None:
    """The budget: as the running server printed it, else by its command line, else unknown."""
    life = log.life
    if life is not None and life.disk is not None:
        return life.disk.budget_mib << 20
    if told_bytes is not None:
        return told_bytes
    return kv.budget_bytes if kv is not None else None


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Turns whose prompts differed from the cached ones near the same token, again and again.

    ``prompt_tokens`` is of the newest of them.
    """

    place: Divergence
    prompt_tokens: int
    turns: int


def rewritten(requests: Iterable[Request]) -> Rewritten | None:
    """The place where the client's history diverged most often; ``None`` below two turns there."""
    places: Counter[int] = Counter()
    prompts: dict[int, int] = {}
    for request in requests:
        common = divergence(request)
        if common is not None:
            places[common] += 1
            prompts[common] = request.prompt_tokens
    found = divergences(places)
    if not found or found[0].count < _REPEATED:
        return None
    first = found[0]
    inside = [at for at in prompts if first.from_tokens <= at <= first.to_tokens]
    return Rewritten(first, prompts[inside[-1]], sum(places.values()))


class Written(NamedTuple):
    """Saves that are kept: MiB, how many by reason, epoch seconds of the first that has a time."""

    size_mib: float = 0.0
    reasons: Mapping[str, int] = MappingProxyType({})
    first_at: float | None = None


def written(log: LogState) -> Written:
    """What the saves of a log wrote, the most frequent reason first."""
    size_mib, first_at = 0.0, None
    reasons: Counter[str] = Counter()
    for store in log.stores:
        size_mib += store.size_mib
        reasons[store.reason] += 1
        first_at = store.at if first_at is None else first_at
    return Written(size_mib, dict(reasons.most_common()), first_at)
