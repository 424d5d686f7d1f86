"""Requests as rows of a table: sorted, filtered, and one with its timeline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

from ds4top.core.classify import cold_cause, heat_of
from ds4top.core.model import Model
from ds4top.core.state import End, LogState, Request
from ds4top.core.units import fmt_duration, fmt_ms, fmt_pct, fmt_seconds, fmt_tokens, fmt_tps
from ds4top.view import table
from ds4top.view.look import Look
from ds4top.view.mend import mend_of, mend_rows
from ds4top.view.table import Column
from ds4top.view.text import Row, row

CAUSES = {
    "evicted": "evicted",
    "first_after_start": "first",
    "partial": "partial",
    "new_prefix": "new prefix",
    "shortened": "shortened",
    "diverged": "diverged",
}


def _text(value: str, style: str = "text") -> Row:
    return row((value, style))


def _when(request: Request, tz: tzinfo | None) -> Row:
    if request.started_at is None:
        return _text("–", "dim")
    return _text(datetime.fromtimestamp(request.started_at, tz).strftime("%H:%M:%S"), "dim")


def why_of(request: Request) -> Row:
    """``hot, live``, ``cold, evicted``: the class and where its tokens came from, or why not."""
    name = heat_of(request)
    if name == "hot":
        detail = "disk" if request.hit else request.continuation or "live"
    else:
        detail = CAUSES.get(cold_cause(request) or "", "")
    return row((name, name), f", {detail}" if detail else "")


_END_STYLES = {
    End.RUNNING: "now",
    End.COMPLETED: "text",
    End.INTERRUPTED: "warn",
    End.ABORTED: "warn",
    End.FAILED: "crit",
}


def _finish(request: Request, tz: tzinfo | None) -> Row:
    word = request.finish if request.end is End.COMPLETED else request.end.value
    return _text(str(word), _END_STYLES[request.end])


def _known(value: float | None) -> float:
    return -1.0 if value is None else float(value)


COLUMNS: tuple[Column[Request, tzinfo | None], ...] = (
    Column("TIME", 8, "<", _when, lambda r: _known(r.started_at)),
    Column("API", 10, "<", lambda r, tz: _text(r.api), lambda r: r.api, 3),
    Column(
        "CACHED..PROMPT",
        16,
        ">",
        lambda r, tz: _text(f"{fmt_tokens(r.cached_tokens)}..{fmt_tokens(r.prompt_tokens)}"),
        lambda r: r.prompt_tokens,
        1,
    ),
    Column(
        "NEW",
        7,
        ">",
        lambda r, tz: _text(fmt_tokens(r.new_tokens), "value"),
        lambda r: r.new_tokens,
    ),
    Column("WHY", 17, "<", lambda r, tz: why_of(r), lambda r: f"{heat_of(r)} {cold_cause(r)}"),
    Column("TTFT s", 6, ">", lambda r, tz: _text(_short(r.ttft_s)), lambda r: _known(r.ttft_s)),
    Column(
        "TOK/S",
        6,
        ">",
        lambda r, tz: _text(fmt_tps(r.decode_mean_tps), "value"),
        lambda r: _known(r.decode_mean_tps),
    ),
    Column(
        "GEN",
        6,
        ">",
        lambda r, tz: _text(fmt_tokens(r.generated_tokens)),
        lambda r: r.generated_tokens,
        2,
    ),
    Column("FINISH", 11, "<", _finish, lambda r: f"{r.end.value} {r.finish}", 2),
    Column(
        "TOOLS",
        12,
        "<",
        lambda r, tz: _text(",".join(r.tool_names), "dim"),
        lambda r: r.tool_calls,
        5,
    ),
    Column(
        "TOTAL",
        9,
        ">",
        lambda r, tz: _text(fmt_seconds(r.duration_s)),
        lambda r: _known(r.duration_s),
        1,
    ),
)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def select(
    log: LogState, limit: int | None, sort: str, descending: bool, text: str, tz: tzinfo | None
) -> Sequence[Request]:
    """The requests to show of the newest ``limit``, in their order; the newest first by default."""
    # They are kept in the order of their time.
    by_time = sort == COLUMNS[0].head
    found = log.requests.newest(limit, first=descending and by_time)
    if by_time:
        return found if not text else [r for r in found if table.matches(r, COLUMNS, text, tz)]
    return table.select(found, COLUMNS, sort, descending, text, tz)


def numbers(requests: Sequence[Request], sort: str, descending: bool, text: str) -> Sequence[int]:
    """The number of each of those that ``select`` gave; without looking at each where it can."""
    if not text and sort == COLUMNS[0].head and requests:
        first, step = requests[0].number, -1 if descending else 1
        return range(first, first + step * len(requests), step)
    return [request.number for request in requests]


def empty_rows(model: Model, text: str, width: int, is_whole: bool) -> list[Row]:
    """What stands in a table without requests; where it is the whole view, what brings them."""
    if text and model.log.requests:
        count = len(model.log.requests)
        return [
            row(
                f"  none of {count:,} matches; ",
                (model.keys["app.cancel"], "key"),
                " clears the filter",
            )
        ]
    if not is_whole:
        return [row(("  no request yet", "dim"))]
    if (missing := mend_of(model)) is not None:
        return mend_rows(missing, width)
    life = model.log.life
    rows = [row(("  no request yet", "dim"))]
    if life is not None and life.url:
        rows.append(row("  try it: ", (f"curl {life.url}/v1/models", "key")))
    return rows


def detail_rows(request: Request, look: Look, tz: tzinfo | None, width: int) -> tuple[Row, ...]:
    """One request in full, with its timeline."""
    started = "–"
    if request.started_at is not None:
        started = datetime.fromtimestamp(request.started_at, tz).strftime("%Y-%m-%d %H:%M:%S")
    miss = request.miss
    rows: list[Row] = [
        row(
            (f" turn {request.number}", "title"),
            f"   {request.api}   started {started}   life {request.life}",
        ),
        _pair(
            "prompt",
            f"{fmt_tokens(request.prompt_tokens)} tokens:"
            f" {fmt_tokens(request.cached_tokens)} cached"
            f" ({fmt_pct(request.reuse_ratio)}), {fmt_tokens(request.new_tokens)} new",
        ),
        row((" class      ", "label"), why_of(request)),
    ]
    if request.hit is not None:
        rows.append(
            _pair(
                "disk hit",
                f"{fmt_tokens(request.hit.tokens)} tokens in {fmt_ms(request.hit.load_ms)}",
            )
        )
    if request.continuation:
        rows.append(_pair("continued", f"{request.continuation} live state"))
    if miss is not None:
        share = miss.common_tokens / miss.prompt_tokens if miss.prompt_tokens else None
        rows.append(
            _pair(
                "miss",
                f"differs after token {fmt_tokens(miss.common_tokens)} of"
                f" {fmt_tokens(miss.prompt_tokens)} ({fmt_pct(share)}); {miss.reason}",
            )
        )
    if request.jump_tokens:
        rows.append(
            _pair("jump", f"{fmt_tokens(request.jump_tokens)} tokens in one turn: a tool's output?")
        )
    rows += [
        _pair(
            "TTFT",
            f"{fmt_duration(request.ttft_s)} (prefill {fmt_duration(request.prompt_s)}, evict save"
            f" {fmt_ms(request.evict_save_ms)},"
            f" load {fmt_ms(request.hit.load_ms if request.hit else None)};"
            " without the queue)",
        ),
        _pair(
            "generated",
            f"{fmt_tokens(request.generated_tokens)} tokens at"
            f" {fmt_tps(request.decode_mean_tps, unit=True)} mean",
        ),
        _pair(
            "end",
            f"{request.end.value}, finish {request.finish or '–'},"
            f" {fmt_duration(request.duration_s)}"
            + (f": {request.error}" if request.error else ""),
        ),
    ]
    if request.tool_calls:
        rows.append(_pair("tools", f"{request.tool_calls}: {', '.join(request.tool_names)}"))
    if timeline := request.timeline:
        rows += [row(""), row(("   SECONDS  WHAT           CONTEXT     TOK/S", "header"))]
        for seconds, what, position, rate in timeline:
            rows.append(
                row(
                    f" {seconds:>9.1f}  {what:<12} {fmt_tokens(position, width=10)}"
                    f"  {fmt_tps(rate or None, width=8)}"
                )
            )
    return tuple(rows)


def _pair(label: str, text: str) -> Row:
    return row((f" {label:<11}", "label"), text)
