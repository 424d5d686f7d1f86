"""The other views as rows: what the log tells of the launch, sources."""

from __future__ import annotations

from ds4top.core.model import Model
from ds4top.core.units import fmt_age, fmt_k, fmt_tokens
from ds4top.view.launch import starts_rows
from ds4top.view.past import past_rows
from ds4top.view.text import Row, columns, row


def start_view(model: Model, width: int) -> tuple[Row, ...]:
    """What the start-up lines tell, where the process is not seen."""
    life = model.log.life
    rows: list[Row] = [
        row((" LAUNCH", "title"), ("   what the log tells; no process is seen", "dim")),
        row(""),
    ]
    if life is None:
        return (*rows, row(("  no start in the log", "dim")), *past_rows(model, width))
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
    return (*rows, *past_rows(model, width), *starts_rows(model))


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
