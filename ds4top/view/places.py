"""The other views as rows: KV cache, what the log tells of memory and launch, sources."""

from __future__ import annotations

from collections import Counter

from ds4top.core.model import Model
from ds4top.core.units import fmt_age, fmt_k, fmt_mib, fmt_ms, fmt_pct, fmt_tokens
from ds4top.view.launch import starts_rows
from ds4top.view.live import kv_rows
from ds4top.view.mend import mend_of, mend_rows
from ds4top.view.text import Row, columns, row
from ds4top.view.today import Today

_MIB = 1_048_576


def _head(*words: str) -> Row:
    return row((" " + "  ".join(words), "header"))


def kv_view(model: Model, today: Today, width: int) -> tuple[Row, ...]:
    """Hits, misses with the place where prompts diverged, evictions, bytes written."""
    log = model.log
    rows: list[Row] = [*kv_rows(model, today), row("")]
    written = sum(store.size_mib for store in log.stores)
    by_reason = Counter(store.reason for store in log.stores)
    reasons = ", ".join(f"{name} {count}" for name, count in by_reason.most_common())
    rows.append(
        row(
            (" written    ", "label"),
            f"{fmt_mib(written * _MIB)} MiB in {len(log.stores)} files: {reasons or '–'}",
        )
    )
    rows += [row(""), row((" MISSES IN MEMORY", "title"), ("   newest first", "dim"))]
    for miss in reversed(log.misses[-8:]):
        share = miss.common_tokens / miss.prompt_tokens if miss.prompt_tokens else None
        rows.append(
            row(
                f"  differs after token {fmt_tokens(miss.common_tokens, width=8)}"
                f" of {fmt_tokens(miss.prompt_tokens, width=8)}"
                f" ({fmt_pct(share):>5})   {miss.reason}"
            )
        )
    if not log.misses:
        rows.append(row(("  none", "dim")))
    rows += [
        row(""),
        row((" LOADS FROM DISK", "title"), ("   tokens, milliseconds, newest first", "dim")),
    ]
    for hit in reversed(log.disk_hits[-8:]):
        rows.append(
            row(
                f"  {fmt_tokens(hit.tokens, width=8)}  {fmt_ms(hit.load_ms, width=8)}  {hit.key}"
                f"{'  consumed' if hit.consumed else ''}"
            )
        )
    if not log.disk_hits:
        rows.append(row(("  none", "dim")))
    rows += [row(""), row((" EVICTED", "title"), ("   newest first", "dim"))]
    for gone in reversed(log.evictions[-8:]):
        rows.append(
            row(
                f"  {fmt_tokens(gone.tokens, width=8)}"
                f"  {fmt_mib(gone.size_mib * _MIB, width=6)} MiB  hits {gone.hits}"
            )
        )
    if not log.evictions:
        rows.append(row(("  none", "dim")))
    return tuple(rows)


def start_view(model: Model, width: int = 80) -> tuple[Row, ...]:
    """What the start-up lines tell, where the process is not seen."""
    life = model.log.life
    rows: list[Row] = [
        row((" LAUNCH", "title"), ("   what the log tells; no process is seen", "dim")),
        row(""),
    ]
    if life is None:
        missing = mend_of(model)
        found = mend_rows(missing, width) if missing is not None else []
        return (*rows, row(("  no start in the log", "dim")), *([row("")] if found else []), *found)
    facts: list[tuple[str, str]] = [
        ("device", f"{life.device or '–'}  {life.sm or ''}"),
        ("listening", life.url or "–"),
        ("oom_score_adj", "–" if life.oom_score_adj is None else str(life.oom_score_adj)),
        ("sessions", str(life.sessions)),
    ]
    if life.buffers is not None:
        b = life.buffers
        facts += [
            ("ctx", f"{fmt_tokens(b.ctx_tokens)} tokens"),
            ("backend", b.backend),
            ("prefill chunk", f"{b.prefill_chunk} tokens"),
            ("context buffers", f"{b.size_mib:,.2f} MiB"),
            ("KV rows", f"raw {b.raw_kv_rows:,}, compressed {b.compressed_kv_rows:,}"),
        ]
    if life.disk is not None:
        d = life.disk
        facts += [
            ("KV disk dir", d.directory),
            ("KV budget", f"{d.budget_mib:,} MiB"),
            ("KV min, cold max", f"{d.min_tokens:,}, {d.cold_max_tokens:,} tokens"),
            ("KV continued", f"every {d.continued_tokens:,} tokens, aligned to {d.align_tokens:,}"),
        ]
    facts += [(name.replace("_", " "), f"{value}") for name, value in life.plan.items()]
    rows += [row((f"  {name:<18}", "label"), (value, "value")) for name, value in facts]
    return (*rows, *starts_rows(model))


def sources_view(model: Model, width: int) -> tuple[Row, ...]:
    """Each source with its state, its age and what is missing; what was not recognised."""
    log = model.log
    widths = (14, 9, 9, max(width - 38, 10))
    rows: list[Row] = [
        row((" SOURCES", "title")),
        row(
            "  ",
            columns(
                [
                    ("SOURCE", "header"),
                    ("STATE", "header"),
                    ("AGE", "header"),
                    ("DETAIL", "header"),
                ],
                widths,
            ),
        ),
    ]
    styles = {"ok": "ok", "missing": "dim", "denied": "crit", "error": "crit", "stale": "stale"}
    for source in model.health:
        age = fmt_age(source.age_s) if source.age_s is not None else "–"
        rows.append(
            row(
                "  ",
                columns(
                    [
                        source.name,
                        (source.state, styles.get(source.state, "text")),
                        age,
                        (source.detail, "dim"),
                    ],
                    widths,
                ),
            )
        )
    rows += [
        row(""),
        row(
            (" LOG", "title"),
            f"   {fmt_tokens(model.lines)} lines, {fmt_k(len(log.requests))} requests,"
            f" {log.unrecognised_count} lines not recognised,"
            f" {model.dropped} dropped at their origin",
        ),
    ]
    rows += [row((f"  {name:<9}", "label"), text) for name, text in model.details.items()]
    for each in list(log.unrecognised)[-12:]:
        rows.append(row(("  torn " if each.torn else "  ? ", "warn"), (each.text[:200], "dim")))
    return tuple(rows)
