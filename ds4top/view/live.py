"""The panels of the Live view below *now*: KV cache, memory, GPU, and the small composition."""

from __future__ import annotations

from textwrap import wrap

from ds4top.core.derive import ServerState, Status
from ds4top.core.model import Model
from ds4top.core.units import (
    count_of,
    fmt_age,
    fmt_duration,
    fmt_gib,
    fmt_k,
    fmt_ms,
    fmt_pct,
    fmt_tokens,
    fmt_tps,
)
from ds4top.view.acting import start_row
from ds4top.view.coldstart import compact_start
from ds4top.view.gpu import gpu_beside
from ds4top.view.look import Look
from ds4top.view.memory import compact_memory
from ds4top.view.mend import mend_of, mend_short, poison_of
from ds4top.view.now import (
    class_words,
    context_limit,
    context_share,
    end_rows,
    failed_rows,
    labelled,
    shown_request,
    verdict,
)
from ds4top.view.rates import RateBook
from ds4top.view.requests import CAUSES
from ds4top.view.text import UNICODE, Charset, Part, Row, bar, pack, row, row_width
from ds4top.view.today import Today

_ROOMY = 56
FAULTS = (ServerState.FAILED, ServerState.POISONED)


def kv_title(today: Today) -> Row:
    """Hits and misses of today in one line."""
    cache = today.cache
    return row(
        (" KV CACHE", "title"),
        "   hit ",
        (fmt_pct(today.hit_ratio, width=5), "value"),
        "   disk ",
        (f"{cache.disk_hits:>3}", "value"),
        ", live ",
        (f"{cache.live_hits:>3}", "value"),
        ", miss ",
        (f"{cache.misses:>3}", "value"),
        ("   today", "dim"),
    )


def kv_line(model: Model, today: Today, width: int) -> Row:
    """The same with what was saved, where there is one line only."""
    hit = model.log.disk_hits[-1] if model.log.disk_hits else None
    saved = row("saved ", (fmt_duration(today.cache.seconds_saved, width=8), "value"))
    load = row("last load ", (fmt_ms(hit.load_ms if hit else None), "value"))
    return pack([kv_title(today), saved, load], width)


def kv_rows(model: Model, today: Today, charset: Charset = UNICODE) -> tuple[Row, ...]:
    """What the caches did today: hits, tokens reused, seconds saved, the last load."""
    log = model.log
    life = log.life
    disk = life.disk if life else None
    hit = log.disk_hits[-1] if log.disk_hits else None
    if life is not None and disk is None and (life.listened or life.served):
        budget = row(("no disk cache: start with --kv-disk-dir DIR", "warn"))
    elif disk is not None:
        budget = _disk(model, disk.budget_mib, disk.directory, charset)
    else:
        budget = row(("not in the log", "dim"))
    return (
        kv_title(today),
        labelled(
            "reused",
            (fmt_k(today.reused_tokens, width=7), "value"),
            " tok, prefilled ",
            (fmt_k(today.new_tokens, width=5), "value"),
            "; disk saved ",
            (fmt_duration(today.cache.seconds_saved), "value"),
        ),
        labelled(
            "last load",
            (fmt_tokens(hit.tokens if hit else None, width=7), "value"),
            " tok in ",
            (fmt_ms(hit.load_ms if hit else None, width=7), "value"),
            f"   evicted {today.cache.evictions:>3}, {today.missed} missed",
        ),
        labelled("disk", budget),
    )


def _disk(model: Model, budget_mib: int, directory: str, charset: Charset) -> Row:
    """What the disk cache uses of its budget, as its directory tells."""
    kv = model.machine.kv
    if kv is None:
        return row(
            "budget ", (f"{budget_mib:,} MiB", "value"), ", used –", (f"   {directory}", "dim")
        )
    budget = budget_mib << 20
    share = kv.used_bytes / budget if budget else None
    return row(
        (fmt_gib(kv.used_bytes, 2, width=5), "value"),
        f" of {fmt_gib(budget, 2)} GiB ",
        bar(share, 10, charset, "bar" if (share or 0) < 0.97 else "bar-warn"),
        f" {fmt_pct(share, width=5)}  {count_of(len(kv.entries), 'entry', 'entries'):>11}",
    )


def compact_rows(
    model: Model, status: Status, look: Look, book: RateBook, today: Today, width: int
) -> tuple[Row, ...]:
    """The whole view in a few lines, the most telling first: 60x12 and smaller."""
    rows = _compact(model, status, look, book, today, width)
    if look.history:
        return rows
    starts = start_row(model, width)
    return (*end_rows(model, width)[:1], *([starts] if starts else []), *rows)


def _compact(
    model: Model, status: Status, look: Look, book: RateBook, today: Today, width: int
) -> tuple[Row, ...]:
    if loading := compact_start(model, status, width, look):
        return (*loading, *compact_memory(model, status, width))
    request = shown_request(model, look)
    limit = context_limit(model)
    life = model.log.life
    memory, gpu = compact_memory(model, status, width)
    if status.state is ServerState.FAILED:
        return (*failed_rows(model, status, width, look)[1:5], memory, gpu)
    if status.state is ServerState.POISONED and not look.history:
        return (*mend_short(poison_of(status.why), width), memory, gpu)
    if request is None:
        if (missing := mend_of(model)) is not None:
            return (*mend_short(missing, width), memory, gpu)
        words = status.why or (life.url if life and life.url else "") or "no request yet"
        style = "crit" if status.state in FAULTS else "text"
        lines = wrap(words, max(width - 2, 16), break_on_hyphens=False)[:3]
        return (*(row(" ", (line, style)) for line in lines), memory, gpu)
    used = max(request.context_tokens, request.prompt_tokens)
    expected = book.expected(max(request.context_tokens, 1))
    ratio = request.decode_tps / expected.tps if expected and request.decode_tps else None
    age = model.now - request.sample_at if request.sample_at is not None else None
    if request.phase.value == "prefill" and request.is_open:
        done, total = request.prefill_done_tokens, request.new_tokens
        share = done / total if total else None
        eta = None if status.last_known else book.eta_s(request)
        drawn = bar(share, min(14, max(width - 44, 0)), look.charset)
        first = pack(
            [
                row(" ", (f"{fmt_k(done, width=4)} of {fmt_k(total)}", "now")),
                row(drawn, f" {fmt_pct(share, width=5)}" if drawn else fmt_pct(share, width=5)),
                row("ETA ", (fmt_duration(eta), "now")),
                fmt_tps(request.prefill_tps, unit=True),
            ],
            width,
            gap=2,
        )
    else:
        words = "of" if ratio is not None else "expected"
        at = fmt_k(request.context_tokens, width=4)
        of = f"{words} {fmt_tps(expected.tps)} at {at}" if expected else ""
        style = "now" if request.is_open and not status.last_known else "value"
        rate = row((fmt_tps(request.decode_tps, width=5), style), (" tok/s", style))
        judged: list[Part] = [verdict(ratio), of] if of else []
        if request.is_open:
            found: list[Part] = [rate, *judged, (f"age {fmt_age(age)}", "dim")]
        else:
            # Of a rate that is over this is said first: it must not be left out.
            since = None if request.ended_at is None else model.now - request.ended_at
            ago = "" if since is None else f" {fmt_age(since)} ago"
            found = [rate, (f"last turn{ago}", "dim"), *judged]
        first = pack(found, width, gap=2)
    share = context_share(model) if not look.history else (used / limit if limit else None)
    left = fmt_k(None if limit is None else max(limit - used, 0), width=5)
    # Where there is room for it: what is left is what a client can still send.
    more = row(("  " + left, "value"), " left") if width >= _ROOMY else row()
    window = row(
        " ctx ",
        (fmt_tokens(used, width=7), "value"),
        " of ",
        fmt_tokens(limit),
        " ",
        bar(share, max(width - 34 - row_width(more), 4), look.charset),
        f" {fmt_pct(share, width=5)}",
        more,
    )
    new = request.new_tokens
    turn = pack(
        [
            row(" ", class_words(request, None if width >= 70 else CAUSES)),
            f"{fmt_tokens(new, width=6)} new + {fmt_k(request.cached_tokens, width=4)} cached",
            f"TTFT {fmt_duration(request.ttft_s)}",
        ],
        width,
        gap=2,
    )
    hits = today.cache
    cache = pack(
        [
            row(" KV hit ", (fmt_pct(today.hit_ratio, width=5), "value")),
            f"disk {hits.disk_hits:>3} live {hits.live_hits:>3} miss {hits.misses:>3}",
            f"saved {fmt_duration(today.cache.seconds_saved)}",
        ],
        width,
        gap=2,
    )
    # Where there is room, the GPU stands beside headroom: its own row is below what is shown.
    beside = pack([memory, *gpu_beside(model)], width) or memory
    return (first, window, turn, cache, beside, gpu)
