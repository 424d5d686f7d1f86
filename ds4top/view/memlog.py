"""Memory as far as the log alone tells: what each start took, checkpoints, the largest prompts."""

from __future__ import annotations

from datetime import datetime

from ds4top.core.model import Model
from ds4top.core.units import count_of, fmt_mib, fmt_num, fmt_seconds, fmt_tokens
from ds4top.view.history import HistorySpec, Mark, Track
from ds4top.view.now import context_limit
from ds4top.view.text import Part, Row, columns, row

_MIB = 1 << 20
_LARGEST = 8
_STARTS = 4
_FIRST_TOKENS = 1_024


def log_rows(model: Model) -> list[Row]:
    """Blocks under each other; nothing for a log that tells none of it."""
    return [*_starts(model), *_checkpoints(model), *_largest(model)]


def _starts(model: Model) -> list[Row]:
    lives = [life for life in model.log.lives if life.buffers is not None][-_STARTS:]
    if not lives:
        return []
    widths = (6, 9, 11, 11, 11, 14)
    heads = ("LIFE", "CTX", "BUFFERS", "WEIGHTS", "PLANNED", "OOM_SCORE_ADJ")
    rows = [
        row(""),
        row((" EACH START", "title"), ("   what its start-up lines say, MiB and GiB", "dim")),
        row("  ", columns([(head, "header") for head in heads], widths, "<>>>>>")),
    ]
    for life in reversed(lives):
        assert life.buffers is not None
        plan = life.plan
        cells: list[Part] = [
            str(life.number),
            fmt_tokens(life.buffers.ctx_tokens),
            (f"{life.buffers.size_mib:,.0f} MiB", "value"),
            f"{plan['model_gib']} GiB" if "model_gib" in plan else "–",
            f"{plan['planned_gib']} GiB" if "planned_gib" in plan else "–",
            "–" if life.oom_score_adj is None else str(life.oom_score_adj),
        ]
        rows.append(row("  ", columns(cells, widths, "<>>>>>")))
    return rows


def _checkpoints(model: Model) -> list[Row]:
    """What a context takes, by the checkpoints that were saved."""
    sizes: dict[int, list[tuple[int, float]]] = {}
    for saved in model.log.stores:
        bucket = _FIRST_TOKENS
        while bucket < saved.tokens:
            bucket *= 2
        sizes.setdefault(bucket, []).append((saved.tokens, saved.size_mib))
    if not sizes:
        return []
    rows = [
        row(""),
        row((" WHAT A CONTEXT TAKES", "title"), ("   by the checkpoints that were saved", "dim")),
    ]
    for bucket, found in sorted(sizes.items()):
        tokens, mib = sum(t for t, _ in found), sum(size for _, size in found)
        per = mib / tokens * 1000 if tokens else None
        rows.append(
            row(
                (f"  to {fmt_tokens(bucket, width=7)} tokens", "label"),
                f"  {count_of(len(found), 'save'):>9}",
                (f"  {fmt_mib(mib / len(found) * _MIB, width=6)} MiB each", "value"),
                (f"  {fmt_num(per, 1, width=6)} MiB per 1K", "dim"),
            )
        )
    return rows


def _largest(model: Model) -> list[Row]:
    found = sorted(model.log.requests, key=lambda each: -each.new_tokens)[:_LARGEST]
    if not found:
        return []
    rows = [
        row(""),
        row((" LONGEST PREFILLS", "title"), ("   what memory runs out in", "dim")),
    ]
    for each in found:
        at = each.started_at
        when = datetime.fromtimestamp(at, model.tz).strftime("%d %b %H:%M:%S") if at else ""
        rows.append(
            row(
                (f"  {when:<16}", "label"),
                (fmt_tokens(each.new_tokens, width=8), "value"),
                f" of {fmt_tokens(each.prompt_tokens, width=8)} tokens in"
                f" {fmt_seconds(each.prompt_s, width=7)}",
            )
        )
    return rows


def context_spec(model: Model) -> HistorySpec:
    """The context in use over the time of the log: what fills the buffers above."""
    log = model.log
    points = sorted(
        (at, tokens / 1000)
        for samples in (log.prefill, log.decode)
        for at, tokens in zip(samples.at, samples.context, strict=True)
    )
    limit = context_limit(model)
    now = points[-1][0] if points else model.now
    top = max((tokens for _, tokens in points), default=1.0)
    return HistorySpec(
        title="CONTEXT IN USE",
        unit="K",
        now_s=now,
        span_s=max(now - points[0][0], 60.0) if points else 60.0,
        tracks=(Track("", tuple(points), "plot-area", "max", fill=True),),
        marks=(Mark(limit / 1000, "limit", "warn"),) if limit else (),
        notes=("by the log",),
        y_range=(0.0, max(top, 1.0)),
        gap_s=60.0,
        empty="no sample in the log yet",
    )
