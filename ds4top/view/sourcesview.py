"""The Sources view: each source, what cannot be seen and how to see it, and which servers run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from textwrap import wrap

from ds4top.core.model import Model, SourceHealth
from ds4top.core.process import ServerProcess
from ds4top.core.units import count_of, fmt_age, fmt_duration, fmt_pct
from ds4top.view.compose import TWO_COLUMNS, column_width, page
from ds4top.view.ownview import SOURCE_THREAD, file_rows, own_rows
from ds4top.view.text import UNICODE, Charset, Part, Row, columns, row

STYLES = {"ok": "ok", "missing": "dim", "denied": "crit", "error": "crit", "stale": "stale"}
GIVES = {
    "log": "requests, rates, cache events, stages of a start",
    "process": "who it is, command line, environment, log, sockets",
    "memory": "headroom, pressure, swap, OOM kills",
    "GPU (NVML)": "load, clock, power, heat, memory by process",
    "launch": "every flag of the build with its default",
    "KV directory": "entries in the server's order, bytes, hits",
    "/v1/models": "whether it answers, model, context limit",
    "/metrics": "counters where no log gives them",
    "kernel log": "OOM kills, NVRM and Xid lines",
    "history": "what earlier runs have seen",
    "black box": "the last minutes, if all else is lost",
}
"""What each source is good for."""
_COST_FROM, _SHARE_FROM = 90, 96
_TORN = 12


def sources_view(
    model: Model, width: int, charset: Charset = UNICODE, settings: Sequence[Row] = ()
) -> tuple[Row, ...]:
    """All of it; in two columns where the screen is wide. ``settings``: rows of ds4top's own."""
    width, whole = column_width(width), width
    rows: list[Row] = [row((" SOURCES", "title"))]
    rows += _table(model, width, gives=whole >= TWO_COLUMNS)
    rows += own_rows(model.own, [source.name for source in model.health], width)
    rows += _unseen(model, width)
    rows += _servers(model, width)
    rows += _log(model)
    rows += file_rows(model.own, width)
    rows += settings
    return page(rows, whole, charset)


def _table(model: Model, width: int, *, gives: bool) -> list[Row]:
    paced, shared = (7 if width >= _COST_FROM else 0, 6 if width >= _SHARE_FROM else 0)
    widths: tuple[int, ...] = (14, 8, 9, paced, paced + 1 if paced else 0, shared)
    widths += (max(width - 3 - sum(each + 1 for each in widths if each), 10),)
    heads = ("SOURCE", "STATE", "AGE", "EVERY", "MS/TURN", "CORE", "DETAIL")
    rows = [row("  ", columns([(head, "header") for head in heads], widths, "<<<>>>"))]
    for source in model.health:
        age = fmt_age(source.age_s) if source.age_s is not None else "–"
        spent = "–" if source.cost_ms is None else f"{source.cost_ms:.1f}"
        detail = wrap(source.detail, widths[-1])[: 3 if source.state == "ok" else 8] or [""]
        cells: list[Part] = [
            source.name,
            (source.state, STYLES.get(source.state, "text")),
            age,
            (_pace(source.every_s), "dim"),
            (spent, "dim"),
            (fmt_pct(_share(model, source), 1), "dim"),
            (detail[0], "dim"),
        ]
        rows.append(row("  ", columns(cells, widths, "<<<>>>")))
        # What mends it stands at the end of the words: they are not cut.
        rows += [_under(more, "dim", widths) for more in detail[1:]]
        if gives and (given := GIVES.get(source.name)):
            rows += [_under(line, "label", widths) for line in wrap(given, widths[-1])]
    return rows


def _under(text: str, style: str, widths: tuple[int, ...]) -> Row:
    return row("  ", columns([*[""] * (len(widths) - 1), (text, style)], widths))


def _pace(every_s: float | None) -> str:
    """Seconds from one turn to the next; a source that waits for more has none."""
    if every_s is None:
        return "–"
    return f"{every_s:g} s" if every_s else "waits"


def _share(model: Model, source: SourceHealth) -> float | None:
    """Of a core, by the thread of a source; what a replay plays is its log."""
    threads = model.own.threads if model.own is not None else {}
    name = "replay" if source.name == "log" and model.replay is not None else source.name
    return threads.get(f"{SOURCE_THREAD}{name}")


def _unseen(model: Model, width: int) -> list[Row]:
    """What of the server may not be read, why, and the command that shows it."""
    machine = model.machine
    server = machine.server
    denied = dict(server.denied) if server is not None else {}
    if not denied and not machine.blind:
        return []
    rows = [row(""), row((" NOT SEEN", "title"), ("   and what shows it", "dim"))]
    if machine.blind:
        rows += [row((f"  {line}", "warn")) for line in wrap(machine.blind, max(width - 3, 20))]
    if server is not None and denied:
        rows.append(row(f"  {server.target.comm} {server.target.pid} is {server.user}'s"))
    for name, why in denied.items():
        lines = wrap(why, max(width - 17, 20))
        rows.append(row((f"  {name:<13}", "label"), (lines[0] if lines else "", "warn")))
        rows += [row(f"{'':<15}", (line, "warn")) for line in lines[1:]]
    return rows


SERVER_HEADS = ("PID", "NAME", "USER", "UP", "PORT", "MODEL")


def server_cells(server: ServerProcess, now: float) -> list[Part]:
    """A server in a line: what tells it from another."""
    ports = ", ".join(str(port) for _, port in server.listening) or "–"
    model = (server.model_path or "–").rpartition("/")[2]
    up = fmt_duration(max(now - server.started_wall, 0.0))
    return [(str(server.target.pid), "value"), server.target.comm, server.user, up, ports, model]


def server_widths(width: int) -> tuple[int, ...]:
    """Widths of those cells."""
    return (8, 13, 9, 11, 6, max(width - 56, 6))


def _servers(model: Model, width: int) -> list[Row]:
    machine = model.machine
    if len(machine.servers) < 2:
        return []
    widths = server_widths(width)
    rows = [
        row(""),
        row((" SERVERS", "title"), (f"   {model.keys['server.choose']} chooses one", "dim")),
        row("   ", columns([(head, "header") for head in SERVER_HEADS], widths)),
    ]
    watched = machine.server.target if machine.server is not None else None
    for server in machine.servers:
        mark = " > " if server.target == watched else "   "
        rows.append(row((mark, "now"), columns(server_cells(server, model.now), widths)))
    return rows


def _told(model: Model) -> dict[str, str]:
    """What the log told, by kind; empty for a log without a line."""
    log = model.log
    if log.first_at is None or log.last_at is None:
        return {}
    form = "%d %b %H:%M:%S"
    first, last = (
        datetime.fromtimestamp(at, model.tz).strftime(form) for at in (log.first_at, log.last_at)
    )
    lives = len(log.lives) + log.lives_dropped
    loads = f"{count_of(len(log.stores), 'save')}, {count_of(len(log.disk_hits), 'load')}"
    missed = count_of(len(log.misses), "miss", "misses")
    refused = f", {count_of(len(log.refused_starts), 'start')} refused"
    return {
        "from": f"{first} to {last}",
        "lives": f"{lives:,} of the server{refused if log.refused_starts else ''}",
        "samples": f"{len(log.decode):,} of decode, {len(log.prefill):,} of prefill",
        "cache": f"{loads}, {count_of(len(log.evictions), 'eviction')}, {missed}",
    }


def _log(model: Model) -> list[Row]:
    log = model.log
    rows = [
        row(""),
        row(
            (" LOG", "title"),
            f"   {count_of(model.lines, 'line')}, {count_of(len(log.requests), 'request')},"
            f" {count_of(log.unrecognised_count, 'line')} not recognised",
        ),
    ]
    told = {**_told(model), **model.details}
    rows += [row((f"  {name:<9}", "label"), text) for name, text in told.items()]
    for each in list(log.unrecognised)[-_TORN:]:
        rows.append(row(("  torn " if each.torn else "  ? ", "warn"), (each.text[:200], "dim")))
    return rows
