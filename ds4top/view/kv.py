"""The KV cache as rows: what the directory holds, what goes next, and what the log told of it.

A text inside a checkpoint is a conversation; only names, sizes and headers come here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from datetime import datetime
from itertools import zip_longest

from ds4top.core.kvaccount import (
    KvAccount,
    Rewritten,
    Written,
    account,
    budget_of,
    loads_of,
    rewritten,
    written,
)
from ds4top.core.kvfile import KvDirSample
from ds4top.core.model import Model
from ds4top.core.units import (
    count_of,
    fmt_duration,
    fmt_gib,
    fmt_k,
    fmt_mib,
    fmt_ms,
    fmt_num,
    fmt_pct,
    fmt_tokens,
)
from ds4top.view.compose import TWO_COLUMNS, beside, even_cut
from ds4top.view.kvrefused import KIND_WORDS, kind_row, refused_row
from ds4top.view.live import kv_title
from ds4top.view.look import Look
from ds4top.view.now import labelled
from ds4top.view.text import UNICODE, Charset, Part, Row, bar, pack, row
from ds4top.view.today import Today

_MIB = 1 << 20
_HOUR_S = 3_600.0
_DAY_S = 86_400.0
_LABEL = 13
_LOG_ROWS = 24
_FULL = 0.97


class KvBook:
    """Keeps the account while neither directory nor log nor the minute changed."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._account: KvAccount | None = None
        self._finding: Rewritten | None = None
        self._entries: object = None
        self._written = Written()

    def account(self, model: Model) -> KvAccount | None:
        """The account of now; ``None`` where the directory is not read."""
        self._look(model)
        return self._account

    def finding(self, model: Model) -> Rewritten | None:
        """Where the client's prompts diverge again and again."""
        self._look(model)
        return self._finding

    def written(self, model: Model) -> Written:
        """What saves wrote."""
        self._look(model)
        return self._written

    def _look(self, model: Model) -> None:
        kv, log = model.machine.kv, model.log
        budget = kv_budget(model)
        tokens = _live_tokens(model)
        entries = kv.entries if kv is not None else None
        free = kv.disk_free_bytes if kv is not None else None
        key = (
            id(log), log.requests.total, log.hits.total, log.misses.total, log.stores.total,
            budget, tokens, int(model.now // 60), None if free is None else free // (64 * _MIB),
        )  # fmt: skip
        # The tuple itself is kept: an id alone may be used again.
        if key == self._key and entries is self._entries:
            return
        self._key, self._entries = key, entries
        self._finding = rewritten(log.requests)
        self._written = written(log)
        self._account = None
        if kv is not None:
            loads = loads_of(log.disk_hits)
            self._account = account(kv, model.now, budget, tokens, loads)


def kv_budget(model: Model) -> int | None:
    """The disk cache's budget in bytes."""
    server = model.machine.server
    told = server.kv_budget_bytes if server is not None else None
    return budget_of(model.machine.kv, model.log, told)


def _live_tokens(model: Model) -> int | None:
    """The context in memory, which is saved when another conversation comes."""
    request = model.log.running or model.log.last_request
    if request is None:
        return None
    # Saves are rare beside tokens: a coarse figure keeps the account.
    return max(request.context_tokens, request.prompt_tokens) // 256 * 256 or None


# Above the entries ----------------------------------------------------------------------------


def summary(model: Model, today: Today, book: KvBook, width: int, look: Look) -> tuple[Row, ...]:
    """What one should know before looking at entries, the most telling first."""
    kv = model.machine.kv
    rows: list[Row] = [kv_title(today)]
    if kv is None:
        rows.append(labelled("disk", (_why_none(model), "dim")))
    else:
        found = book.account(model)
        assert found is not None
        rows += _directory(kv, found, width, look.charset)
    if finding := book.finding(model):
        rows.append(_finding(finding))
    rows += [_written(model, book.written(model), width), _saved(model, today, width)]
    return tuple(rows)


def compact(model: Model, today: Today, book: KvBook, width: int, look: Look) -> tuple[Row, ...]:
    """The same in three rows for a small terminal."""
    rows = summary(model, today, book, width, look)
    kv = model.machine.kv
    if kv is None:
        return rows[:3]
    found = book.account(model)
    assert found is not None
    short = _disk(kv, found, width) if found.short_bytes else _next_save(found)
    return rows[0], rows[1], short


def _why_none(model: Model) -> str:
    if model.replay is not None:
        return "not in what is replayed"
    life = model.log.life
    if life is not None and life.disk is None and (life.listened or life.served):
        return "no disk cache: start the server with --kv-disk-dir DIR"
    health = next((each for each in model.health if each.name == "KV directory"), None)
    return health.detail if health is not None and health.detail else "not known"


def _directory(kv: KvDirSample, found: KvAccount, width: int, charset: Charset) -> list[Row]:
    budget = found.budget_bytes
    share = kv.used_bytes / budget if budget else None
    reading = f"   reading, {count_of(kv.headers_read, 'header')} so far" if kv.scanning else ""
    count = f"   {count_of(len(kv.entries), 'entry', 'entries')}"
    if kv.unread_files:
        count += f", {kv.unread_files:,} more not read"
    used: list[Part] = [(fmt_gib(kv.used_bytes, 2), "value")]
    if budget is None:
        used.append(" GiB, budget not known")
    else:
        full = (share or 0.0) >= _FULL
        cells = min(max(width - 70, 8), 24)
        used += [
            f" of {fmt_gib(budget, 2)} GiB ",
            bar(share, cells, charset, "bar-warn" if full else "bar"),
            f" {fmt_pct(share)}",
        ]
    out = [labelled("used", *used, count, (reading, "dim"))]
    out.append(_next_save(found))
    out.append(_disk(kv, found, width))
    others = _others(kv)
    out.append(labelled("beside it", pack(others, max(width - _LABEL, 10), gap=2)))
    entries = count_of(len(found.lines), "entry", "entries")
    hits = f"{found.hits:,} on {found.hit_entries:,} of {entries}" if found.lines else "no entries"
    best = max(found.lines, key=lambda line: line.entry.hits, default=None)
    if best is not None and best.entry.hits:
        hits += f"; the best has {fmt_pct(best.hit_share)} ({fmt_k(best.entry.tokens)} tokens)"
    how = "by its newest file" if kv.build_inferred else "by its help"
    out.append(labelled("hits", hits, (f"   order: {kv.build.name} builds, {how}", "dim")))
    return out


def _next_save(found: KvAccount) -> Row:
    """What goes when the context in memory is saved."""
    if found.budget_bytes is None:
        return labelled("next save", ("what it deletes: not known without the budget", "dim"))
    if found.save_tokens is None:
        left = fmt_gib(found.left_bytes, 2, unit=True)
        return labelled("next save", f"{left} are left", ("   no context in memory yet", "dim"))
    size = f"{fmt_k(found.save_tokens)} tokens, about {fmt_mib(found.save_bytes)} MiB: "
    if found.too_big:
        return labelled("next save", size, ("more than the budget, it is not saved", "crit"))
    if not found.going:
        left = fmt_gib(found.left_bytes, 2, unit=True)
        return labelled("next save", size, ("fits", "ok"), f", {left} are left")
    files = "entry" if found.going == 1 else "entries"
    first = found.lines[0].entry
    hit = f", the first with {first.hits} hits" if first.hits else ""
    return labelled(
        "next save", size, (f"deletes {found.going} {files}", "warn"),
        f" ({fmt_mib(found.going_bytes)} MiB){hit}",
    )  # fmt: skip


def _disk(kv: KvDirSample, found: KvAccount, width: int) -> Row:
    parts: list[Part] = [
        f"{fmt_gib(kv.disk_free_bytes)} of {fmt_gib(kv.disk_total_bytes, 0)} GiB free"
    ]
    place = kv.filesystem
    if place is not None and place.kind != "disk":
        why = "it takes memory" if place.kind == "memory" else "loads go over the network"
        parts.append(("  " + f"{place.type}: {why}", "warn"))
    if found.short_bytes:
        parts.append((f"  {fmt_gib(found.short_bytes)} GiB less than the budget allows", "crit"))
    return labelled("disk", *parts, (f"   {kv.path}", "dim"))


def _others(kv: KvDirSample) -> list[Row]:
    """What takes disk and is not the cache, by kind."""
    if not kv.refused:
        return [row(("nothing else is in the directory", "dim"))]
    total = fmt_mib(kv.foreign_bytes)
    items = [
        row((f"{total} MiB that the server neither counts nor deletes:", "text")),
    ]
    counts: Counter[str] = Counter()
    for kind, files, _ in kv.refused:
        counts[KIND_WORDS[kind]] += files
    bad = {"torn", "invalid", "not readable"}
    return items + [
        row((f"{count} {word}", "warn" if word in bad else "value"))
        for word, count in counts.items()
    ]


def _finding(found: Rewritten) -> Row:
    place = found.place
    early = place.from_tokens < found.prompt_tokens / 2
    what = (
        "something early in the prompt changes each turn" if early else "its history is rewritten"
    )
    return labelled(
        "diverges",
        (f"{place.count} turns differ after token {fmt_tokens(place.from_tokens)}", "warn"),
        f" of {fmt_tokens(found.prompt_tokens)}: {what}",
    )


def _written(model: Model, found: Written, width: int) -> Row:
    """What saves wrote: the wear of the SSD."""
    size, reasons = found.size_mib * _MIB, found.reasons
    items: list[Part] = [
        row(
            (fmt_gib(size, 2, unit=True), "value"), f" in {count_of(sum(reasons.values()), 'file')}"
        )
    ]
    if found.first_at is not None and (span := model.now - found.first_at) >= _HOUR_S:
        items.append(f"in {fmt_duration(span)}, {fmt_gib(size / span * _DAY_S)} GiB a day")
    if reasons:
        items.append(", ".join(f"{name} {count}" for name, count in reasons.items()))
    return labelled("written", pack(items, max(width - _LABEL, 10)))


def _saved(model: Model, today: Today, width: int) -> Row:
    hit = model.log.disk_hits[-1] if model.log.disk_hits else None
    load: Part = "no load from disk yet"
    if hit is not None:
        load = f"last load {fmt_tokens(hit.tokens)} tokens in {fmt_ms(hit.load_ms)}"
    reused = f"reused {fmt_k(today.reused_tokens)} tokens, prefilled {fmt_k(today.new_tokens)}"
    gone = f"{today.cache.evictions} evicted, {today.missed} asked for again"
    seconds = today.cache.seconds_saved
    saved = "seconds not known yet" if seconds is None else fmt_duration(seconds)
    items: list[Part] = [row((saved, "value")), load, reused, gone]
    return labelled("saved", pack(items, max(width - _LABEL, 10)))


# Below the entries ----------------------------------------------------------------------------

Keyed = tuple[Hashable, Row]


def story(model: Model, charset: Charset = UNICODE) -> list[Keyed]:
    """What else is in the directory, then what the log told, newest first; each with its key."""
    rows: list[Keyed] = []
    kv, log = model.machine.kv, model.log
    if kv is not None and kv.refused:
        rows += _section("BESIDE THE CACHE", "the server neither counts nor deletes these")
        rows += [(("kind", str(kind)), kind_row(kind, files, size))
                 for kind, files, size in kv.refused]  # fmt: skip
        rows += [(("file", one.name, str(one.kind)), refused_row(one)) for one in kv.examples]
    rows += _section("MISSES IN MEMORY", "newest first")
    for miss in reversed(log.misses[-_LOG_ROWS:]):
        share = miss.common_tokens / miss.prompt_tokens if miss.prompt_tokens else None
        text = (
            f"  differs after token {fmt_tokens(miss.common_tokens, width=8)}"
            f" of {fmt_tokens(miss.prompt_tokens, width=8)}"
            f" ({fmt_pct(share):>5})   {miss.reason}"
        )
        rows.append((("miss", miss), row(text)))
    rows += _none_if_empty("MISSES IN MEMORY", log.misses)
    rows += _section("LOADS FROM DISK", "newest first")
    for hit in reversed(log.disk_hits[-_LOG_ROWS:]):
        per = hit.load_ms / hit.tokens * 1000 if hit.tokens else None
        text = (
            f"  {fmt_tokens(hit.tokens, width=8)} tokens {fmt_ms(hit.load_ms, width=8)}"
            f"  {fmt_num(per, 2, width=6)} ms per 1K  {hit.key}"
            f"{'  consumed' if hit.consumed else ''}"
        )
        rows.append((("load", hit), row(text)))
    rows += _none_if_empty("LOADS FROM DISK", log.disk_hits)
    rows += _section("SAVED TO DISK", "newest first")
    for saved in reversed(log.stores[-_LOG_ROWS:]):
        at = datetime.fromtimestamp(saved.at, model.tz).strftime("%H:%M:%S") if saved.at else ""
        text = (
            f"  {fmt_tokens(saved.tokens, width=8)} tokens"
            f"  {fmt_mib(saved.size_mib * _MIB, width=6)} MiB"
            f"  {fmt_ms(saved.save_ms, width=8)}  {at:<8}  {saved.reason}"
        )
        rows.append((("saved", saved), row(text)))
    rows += _none_if_empty("SAVED TO DISK", log.stores)
    rows += _section("EVICTED", "newest first")
    for gone in reversed(log.evictions[-_LOG_ROWS:]):
        text = (
            f"  {fmt_tokens(gone.tokens, width=8)} tokens"
            f"  {fmt_mib(gone.size_mib * _MIB, width=6)} MiB  hits {gone.hits}"
        )
        rows.append((("evicted", gone), row(text)))
    return rows + _none_if_empty("EVICTED", log.evictions)


def in_columns(rows: Sequence[Keyed], width: int, charset: Charset = UNICODE) -> list[Keyed]:
    """The same under a blank row in two columns, where the screen is wide; keys are pairs then."""
    if width < TWO_COLUMNS or not rows:
        return list(rows)
    blocks: list[list[Keyed]] = [[]]
    for one in rows:
        if one[1]:
            blocks[-1].append(one)
        elif blocks[-1]:
            blocks.append([])
    cut = even_cut([len(block) for block in blocks])
    left, right = (
        [one for block in part for one in (_GAP, *block)] for part in (blocks[:cut], blocks[cut:])
    )
    return [
        ((a[0], b[0]) if a[0] or b[0] else number, beside(a[1], b[1], width, charset))
        for number, (a, b) in enumerate(zip_longest(left, right, fillvalue=_GAP))
    ]


_GAP: Keyed = (None, ())


def _section(title: str, words: str) -> list[Keyed]:
    head = row((f" {title}", "title"), (f"   {words}", "dim"))
    return [(("blank", title), row("")), (("title", title), head)]


def _none_if_empty(title: str, found: Sequence[object]) -> list[Keyed]:
    return [] if found else [(("none", title), row(("  none", "dim")))]
