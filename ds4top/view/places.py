"""What the log tells of the launch, where no process is seen, as rows."""

from __future__ import annotations

from ds4top.core.model import Model
from ds4top.core.units import fmt_tokens
from ds4top.view.launch import starts_rows
from ds4top.view.mend import mend_of, mend_rows
from ds4top.view.past import past_rows
from ds4top.view.text import Row, row


def start_view(model: Model, width: int) -> tuple[Row, ...]:
    """What the start-up lines tell, where the process is not seen."""
    life = model.log.life
    rows: list[Row] = [
        row((" LAUNCH", "title"), ("   what the log tells; no process is seen", "dim")),
        row(""),
    ]
    if life is None:
        missing = mend_of(model)
        found = mend_rows(missing, width) if missing is not None else []
        return (
            *rows,
            row(("  no start in the log", "dim")),
            *([row("")] if found else []),
            *found,
            *past_rows(model, width),
        )
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
