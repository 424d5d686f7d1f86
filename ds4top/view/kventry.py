"""The entries of the KV directory as rows of a table, and one of them in full."""

from __future__ import annotations

from datetime import datetime

from ds4top.core.kvaccount import KvLine
from ds4top.core.model import Model
from ds4top.core.units import fmt_age, fmt_mib, fmt_ms, fmt_pct, fmt_tokens
from ds4top.view.table import Column
from ds4top.view.text import Row, row

_MIB = 1 << 20


def _text(value: str, style: str = "text") -> Row:
    return row((value, style))


def _age(line: KvLine, now: float) -> Row:
    return _text(fmt_age(None if line.used_at is None else now - line.used_at), "dim")


def _rank(line: KvLine, now: float) -> Row:
    return _text(f"next {line.rank}" if line.goes else str(line.rank), "warn" if line.goes else "")


def _hits(line: KvLine, now: float) -> Row:
    return _text(str(line.entry.hits), "value" if line.entry.hits else "dim")


def _load(line: KvLine, now: float) -> Row:
    return _text(fmt_ms(line.load_ms) if line.loads else "–", "text" if line.loads else "dim")


COLUMNS: tuple[Column[KvLine, float], ...] = (
    Column("GOES", 7, ">", _rank, lambda e: e.rank, descending=False),
    Column("TOKENS", 8, ">", lambda e, t: _text(fmt_tokens(e.entry.tokens), "value"),
           lambda e: e.entry.tokens),
    Column("MiB", 7, ">", lambda e, t: _text(fmt_mib(e.entry.file_bytes)),
           lambda e: e.entry.file_bytes),
    Column("HITS", 5, ">", _hits, lambda e: e.entry.hits),
    Column("OF HITS", 7, ">", lambda e, t: _text(fmt_pct(e.hit_share), "dim"),
           lambda e: e.entry.hits, 3),
    Column("USED", 10, ">", _age, lambda e: e.used_at or 0),
    Column("REASON", 13, "<", lambda e, t: _text(e.entry.reason), lambda e: e.entry.reason,
           descending=False),
    Column("KIND", 17, "<", lambda e, t: _text(e.entry.text_kind, "dim"),
           lambda e: e.entry.text_kind, 4, descending=False),
    Column("LOAD", 7, ">", _load, lambda e: -1.0 if e.load_ms is None else e.load_ms, 2),
    Column("FREED MiB", 9, ">", lambda e, t: _text(fmt_mib(e.freed_bytes), "dim"),
           lambda e: e.freed_bytes, 5, descending=False),
    Column("FILE", 12, "<", lambda e, t: _text(e.entry.key[:12], "dim"), lambda e: e.entry.key, 1,
           descending=False),
)  # fmt: skip


def entry_rows(line: KvLine, model: Model) -> tuple[Row, ...]:
    """One entry in full."""
    entry, kv = line.entry, model.machine.kv
    build = kv.build.name if kv is not None else "–"
    loads = "none in the log"
    if line.loads:
        loads = f"{line.loads} in the log, the last in {fmt_ms(line.load_ms)}"
    flags = f", {', '.join(entry.flags)}" if entry.flags else ""
    pairs = (
        ("file", entry.name),
        ("tokens", f"{fmt_tokens(entry.tokens)}, saved under a context of {entry.ctx_size:,}"),
        ("size", f"{fmt_mib(entry.file_bytes, 1)} MiB: payload {fmt_mib(entry.payload_bytes, 1)},"
                 f" text {entry.text_bytes:,} bytes, tool map {entry.trailer_bytes:,} bytes"),
        ("reason", entry.reason),
        ("text", f"{entry.text_kind}{flags}; ds4top does not read it"),
        ("created", _when(entry.created_at, model)),
        ("last used", _when(entry.last_used_at, model)),
        ("hits", f"{entry.hits}, {fmt_pct(line.hit_share)} of all hits of what is there"),
        ("loads", loads),
        ("weights", f"{entry.quant_bits} bits, model {entry.model}, payload ABI {entry.abi}"),
        ("goes", f"{line.rank} in the order of the {build} builds, worth {line.score * _MIB:,.2f}"
                 f" tokens a MiB; {fmt_mib(line.freed_bytes)} MiB are free then"),
    )  # fmt: skip
    head = row((f" checkpoint {entry.key[:12]}", "title"))
    return (head, *(row((f" {name:<11}", "label"), text) for name, text in pairs))


def _when(at: float | None, model: Model) -> str:
    if at is None:
        return "–"
    moment = datetime.fromtimestamp(at, model.tz).strftime("%Y-%m-%d %H:%M:%S")
    return f"{moment}, {fmt_age(model.now - at)} ago"
