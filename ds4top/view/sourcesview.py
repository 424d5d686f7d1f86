"""The Sources view: each source, what cannot be seen and how to see it, and which servers run."""

from __future__ import annotations

from textwrap import wrap

from ds4top.core.model import Model, SourceHealth
from ds4top.core.process import ServerProcess
from ds4top.core.units import count_of, fmt_age, fmt_duration
from ds4top.view.compose import column_width, page
from ds4top.view.text import UNICODE, Charset, Part, Row, columns, row

STYLES = {"ok": "ok", "missing": "dim", "denied": "crit", "error": "crit", "stale": "stale"}
_COST_FROM = 90
_TORN = 12


def sources_view(model: Model, width: int, charset: Charset = UNICODE) -> tuple[Row, ...]:
    """All of it; in two columns where the screen is wide."""
    width, whole = column_width(width), width
    rows: list[Row] = [row((" SOURCES", "title"))]
    rows += _table(model.health, width)
    rows += _unseen(model, width)
    rows += _servers(model, width)
    rows += _log(model)
    return page(rows, whole, charset)


def _table(found: tuple[SourceHealth, ...], width: int) -> list[Row]:
    cost = 8 if width >= _COST_FROM else 0
    widths = (14, 8, 9, cost, max(width - 37 - (cost + 1 if cost else 0), 10))
    heads = ("SOURCE", "STATE", "AGE", "MS/TURN", "DETAIL")
    rows = [row("  ", columns([(head, "header") for head in heads], widths, "<<<>"))]
    for source in found:
        age = fmt_age(source.age_s) if source.age_s is not None else "–"
        spent = "–" if source.cost_ms is None else f"{source.cost_ms:.1f}"
        detail = wrap(source.detail, widths[-1])[: 3 if source.state == "ok" else 8] or [""]
        cells: list[Part] = [
            source.name,
            (source.state, STYLES.get(source.state, "text")),
            age,
            (spent, "dim"),
            (detail[0], "dim"),
        ]
        rows.append(row("  ", columns(cells, widths, "<<<>")))
        # What mends it stands at the end of the words: they are not cut.
        rows += [row("  ", columns(["", "", "", "", (more, "dim")], widths)) for more in detail[1:]]
    return rows


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


def _log(model: Model) -> list[Row]:
    log = model.log
    rows = [
        row(""),
        row(
            (" LOG", "title"),
            f"   {count_of(model.lines, 'line')}, {count_of(len(log.requests), 'request')},"
            f" {count_of(log.unrecognised_count, 'line')} not recognised,"
            f" {model.dropped} dropped at their origin",
        ),
    ]
    rows += [row((f"  {name:<9}", "label"), text) for name, text in model.details.items()]
    for each in list(log.unrecognised)[-_TORN:]:
        rows.append(row(("  torn " if each.torn else "  ? ", "warn"), (each.text[:200], "dim")))
    return rows
